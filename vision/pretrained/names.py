"""Names of a Vision Transformer's tensors in checkpoints of other tools, as timm has them."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import Tensor

from core.messages import notice
from vision.data.folder import first_few

FIRST = "patch_embed.proj.weight"
WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What DistributedDataParallel, torch.compile, FSDP and activation checkpointing put into a name."""
DINOV2 = {".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}
IDLE = ("mask_token", "decoder_*")
"""What only pretraining uses (DINOv2's masked patches, MAE's decoder)."""


def timm_names(weights: Mapping[str, Tensor], origin: object) -> dict[str, Tensor]:
    """The same tensors by timm's names: without wrappers, without the name of what holds the model, DINOv2's renamed.

    What only pretraining uses is left out, with a notice on stderr. Names of no Vision Transformer stay as they are.
    Raises ValueError where two tensors get one name.
    """
    names = {name: WRAPPERS.sub("", name) for name in weights}
    holders = {name.removesuffix(FIRST) for name in names.values() if name.endswith(FIRST)}
    holder = holders.pop() if len(holders) == 1 else ""
    named: dict[str, Tensor] = {}
    for original, name in names.items():
        name = name.removeprefix(holder)
        for theirs, timms in DINOV2.items():
            name = name.replace(theirs, timms)
        if name in named:
            raise ValueError(f"{origin}: {name} is there twice, once with the name of a wrapper and once without")
        named[name] = weights[original]
    idle = sorted(name for name in named if any(fnmatchcase(name, pattern) for pattern in IDLE))
    if idle:
        notice(f"{origin}: only pretraining uses {first_few(idle)}; left out")
    return with_registers({name: tensor for name, tensor in named.items() if name not in idle})


def with_registers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's registers as timm has them: no position is added to a register, that of the class token is in it."""
    if not {"register_tokens", "cls_token", "pos_embed"} <= weights.keys():
        return weights
    registers, positions = weights.pop("register_tokens"), weights["pos_embed"]
    token = weights["cls_token"] + positions[:, :1]  # (1, 1, D)
    return weights | {"reg_token": registers, "cls_token": token, "pos_embed": positions[:, 1:]}
