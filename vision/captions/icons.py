"""The Fugue icons (Yusuke Kamiyamane, CC BY 3.0): 3,543 pictures of 16 x 16 pixels, each with a caption of its own."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.messages import first_line

ICONS = "fugue-icons"
FILE = Path("fugue_icons", "fugue_icons.npz")
HOME = "github.com/brainbits/fugue-icons-bundle"
TEST_SEED = 0  # of the tenth that is kept for testing: part of the data, not of a run


def read_icons(root: Path) -> tuple[Tensor, tuple[str, ...]]:
    """All icons on white, uint8 (N, 3, 16, 16), and their captions, all different.

    Raises ValueError where the file is missing, or is none of icons.
    """
    path = root / FILE
    if not path.is_file():
        raise ValueError(
            f"{path} is missing: put the icons of {HOME} there (arrays rgba, uint8 (N, 16, 16, 4), and caption), or "
            f"name a table of your own images, with captions for labels"
        )
    try:
        with np.load(path) as held:
            rgba, captions = held["rgba"].astype(np.int64), tuple(map(str, held["caption"]))
    except Exception as error:  # NumPy raises what zip files, headers and missing names cause
        raise ValueError(f"{path} is not a file of icons: {first_line(error)}") from error
    if rgba.shape != (len(captions), 16, 16, 4) or len(set(captions)) < len(captions):
        raise ValueError(f"{path} holds icons of shape {rgba.shape} for {len(set(captions)):,} different captions")
    alpha = rgba[..., 3:]
    rgb = np.rint((rgba[..., :3] * alpha + 255 * (255 - alpha)) / 255).astype(np.uint8)
    return torch.from_numpy(rgb).permute(0, 3, 1, 2).contiguous(), captions  # (N, H, W, C) -> (N, C, H, W)
