"""How near drawn images are to real ones, by what a classifier of our own sees in them.

None of these is an FID: that is defined by the features of one network, which would have to be downloaded. Figures of
the same classifier, of the same number of images, and with that of real images beside them can be compared.
"""

import torch
from torch import Tensor

from core.training.order import stream

PIECE = 512
"""Images whose distances to all others are computed together."""


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of two normal distributions fitted to features (N, D) and (M, D), in float64.

    |m - n|^2 + tr(A + B - 2 (A B)^(1/2)) for means m, n and covariances A, B (Heusel 2017, eq. 6). It grows as N falls.
    """
    a, b = a.double(), b.double()
    offset = (a.mean(0) - b.mean(0)).square().sum()
    first, second = torch.cov(a.T), torch.cov(b.T)  # (D, D)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    between = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    return float(offset + first.trace() + second.trace() - 2 * between)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Squared maximum mean discrepancy of features (N, D) and (M, D), kernel (x y / D + 1)^3, in float64.

    Unbiased (Binkowski 2018, eq. 4): of two samples of one distribution it is 0 on average, and may be negative.
    """
    a, b = a.double(), b.double()
    return float(_mean_kernel(a) + _mean_kernel(b) - 2 * _kernel(a, b).mean())


def nearest(images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Of each image (N, ...) the nearest of others (M, ...), by the root mean squared difference of their numbers.

    Returns float32 (N,), the differences, and int64 (N,), the places among the others.
    """
    a, b = images.flatten(1).float(), others.flatten(1).float()
    found = [torch.cdist(part, b).min(1) for part in a.split(PIECE)]
    differences = torch.cat([each.values for each in found]) / a.shape[1] ** 0.5
    return differences, torch.cat([each.indices for each in found])


def chosen(count: int, items: int, seed: int = 0) -> Tensor:
    """The places of `count` of `items`, or of all if there are fewer, drawn without replacement: int64, ascending."""
    generator = torch.Generator().manual_seed(int(stream(seed, "measured").random_raw(1)[0]) >> 1)
    return torch.randperm(items, generator=generator)[:count].sort().values


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3  # (N, M)


def _mean_kernel(a: Tensor) -> Tensor:
    """The mean over all pairs of different features."""
    kernel = _kernel(a, a)
    return (kernel.sum() - kernel.trace()) / (len(a) * (len(a) - 1))
