"""Flow matching: a straight path from noise to each image, and the velocity along it (Lipman 2023; Liu 2023).

Time runs from 0, where there is noise alone, to 1, where there is the image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def interpolate(images: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Where the paths are at times (B,): (B, C, S, S) of each -> (1 - t) noise + t images, the same shape."""
    t = times.view(-1, 1, 1, 1)
    return (1 - t) * noise + t * images


def logit_normal(normal: Tensor, mean: float, std: float) -> Tensor:
    """Times in (0, 1) from standard normal numbers, most of them in the middle of the path (Esser 2024, eq. 19)."""
    return torch.sigmoid(mean + std * normal)


class FlowLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, condition: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """Squared error of the velocity, a mean over each image's numbers, summed over the images, in float32: ().

        images, noise (B, C, S, S), times (B,), float32; condition: what the model is told of each image
        """
        velocity = self.model(interpolate(images, noise, times), times, condition).float()
        return F.mse_loss(velocity, images - noise, reduction="sum") / images[0].numel()
