"""Weights to start from: a run of ours, a public model of timm, or a file in timm's layout, to the same outputs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.files.json_files import read_json
from core.files.tensors import PICKLES, WEIGHTS, Safetensors, Uninitialised, load_into, read_tensors
from core.files.weights import Rule, import_weights
from core.messages import first_line, nearest, notice
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig
from vision.models.vit import ViT
from vision.pretrained.resize import HEAD, adapt
from vision.pretrained.timm_layout import from_timm, infer, rules
from vision.trained import load

TIMM = "timm:"
CONFIG = "config.json"


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A trained model that another one starts from."""

    config: ViTConfig
    """Its shape; 0 classes where it has no head."""
    weights: Mapping[str, Tensor]
    """In our layout, by name."""
    mean: tuple[float, ...] | None = None
    """Per channel, of pixels in 0..1, by which its images were normalised; None = unknown."""
    std: tuple[float, ...] | None = None
    """The standard deviation that goes with it."""
    classes: tuple[str, ...] = ()
    """Their names, by label; empty = unknown."""
    assumed: str = ""
    """What no file says, and was assumed."""

    def adapt_preparation(self, preparation: Preparation) -> Preparation:
        """The preparation of other images, normalised like those that the model was trained on.

        Says so on stderr where the head is kept for as many classes of other names. Raises ValueError when the
        images have another number of channels.
        """
        if preparation.channels != self.config.channels:
            raise ValueError(
                f"the images have {preparation.channels} channels, the model to start from {self.config.channels}"
            )
        now = preparation.classes
        if len(self.classes) == len(now) and self.classes != now:
            was, is_ = next((a, b) for a, b in zip(self.classes, now, strict=True) if a != b)
            notice(f"the head is kept, though classes have other names: {was} is now {is_}, for example")
        if self.mean is None or self.std is None:
            return preparation
        return replace(preparation, mean=self.mean, std=self.std)


def read_pretrained(name: str) -> Pretrained:
    """A trained model by name:

    - a run folder of vision.train: its best checkpoint, averaged weights where it has any
    - timm:NAME, a model of timm, whose weights are downloaded from the Hugging Face hub once
    - a .safetensors file in timm's layout, or a folder with model.safetensors; its shape comes from the
      config.json beside it, as timm writes it, or else from the tensors, as far as possible (`timm_layout.infer`)

    Raises ValueError naming what is missing, damaged, or of an architecture that is not handled. A local pickle
    is never read.
    """
    if name.startswith(TIMM):
        return _from_hub(name.removeprefix(TIMM))
    path = Path(name).expanduser()
    if (path / "checkpoints").is_dir():
        run = load(path)
        images = run.preparation
        return Pretrained(run.model.config, run.model.state_dict(), images.mean, images.std, images.classes)
    if path.is_dir():
        return _from_tensors(dict(Safetensors(path)), path)
    if path.suffix in PICKLES:
        raise ValueError(f"{path} is a pickle, which can execute code, and is never read; convert it to safetensors")
    if not path.is_file():
        raise ValueError(f"{name} is neither a run folder, nor {TIMM}NAME, nor safetensors in timm's layout")
    return _from_tensors(read_tensors(path), path)


def load_pretrained(name: str, config: ViTConfig) -> ViT:
    """A model of `config` that starts from the weights of `read_pretrained(name)`.

    config: theirs but for image_size, patch and classes (`resized`); a head for another number of classes
        is initialised, with a notice on stderr.

    Raises what `read_pretrained` raises, and ValueError where `config` differs in more.
    """
    source = read_pretrained(name)
    weights = adapt(source.weights, source.config, config)
    model = ViT(config)
    fresh = {n: t for n, t in model.state_dict().items() if n.startswith(HEAD) and n not in weights}
    load_into(model, weights | fresh, Path(name))
    if source.assumed:
        notice(f"{name}: {source.assumed}")
    if fresh:
        had = f"has one of {source.config.classes}" if source.config.classes else "has none"
        notice(f"the head of {config.classes} classes is trained from scratch: {name} {had}")
    return model


def _from_hub(name: str) -> Pretrained:
    """A model of timm with its public weights; one that is not handled is refused before they are downloaded."""
    import timm

    origin = f"{TIMM}{name}"
    skeleton = _build_timm(origin, name, {})
    try:
        from_timm(skeleton)
        weights = read_tensors(_download(skeleton))
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from error
    theirs = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": weights})
    return _from_model(theirs, theirs.state_dict())


def _download(model: nn.Module) -> Path:
    """The weights of a model of timm from the Hugging Face hub, downloaded once.

    Raises ValueError saying how else to get them.
    """
    from huggingface_hub import snapshot_download

    settings: Any = model.pretrained_cfg
    name, instead = settings.get("hf_hub_id"), f"name a folder with its {WEIGHTS} and {CONFIG}"
    if not name:
        raise ValueError(f"timm names no weights on the Hugging Face hub; {instead}")
    try:
        file = Path(snapshot_download(name, allow_patterns=[WEIGHTS])) / WEIGHTS
    except Exception as error:  # the client's errors have no common base
        raise ValueError(
            f"{name} could not be downloaded from the Hugging Face hub ({first_line(error)}): connect once, "
            f"or {instead}"
        ) from error
    if not file.is_file():
        raise ValueError(f"there is no {WEIGHTS} of {name} on the Hugging Face hub; {instead}")
    return file


def _from_tensors(weights: Mapping[str, Tensor], path: Path) -> Pretrained:
    """Weights in timm's layout, from a file or a folder."""
    beside = (path if path.is_dir() else path.parent) / CONFIG
    model = _read_model(beside) if beside.is_file() else None
    try:
        return _from_shapes(weights) if model is None else _from_model(model, weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _from_model(model: nn.Module, weights: Mapping[str, Tensor]) -> Pretrained:
    """Weights of a model of timm, and what its settings say about its images."""
    config, table = from_timm(model)
    settings: Any = model.pretrained_cfg
    ours = _in_our_layout(config, weights, table)
    mean, std, names = (_as_tuple(settings.get(name)) for name in ("mean", "std", "label_names"))
    known = len(mean) == len(std) == config.channels and all(isinstance(x, int | float) for x in mean + std)
    if not known:
        mean = std = ()
    return Pretrained(
        config, ours, tuple(map(float, mean)) or None, tuple(map(float, std)) or None, tuple(map(str, names))
    )


def _from_shapes(weights: Mapping[str, Tensor]) -> Pretrained:
    """Weights of which only names and shapes are known."""
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    config = infer(shapes)
    ours, core = _in_our_layout(config, weights, rules(config, shapes)), config.core
    return Pretrained(
        config,
        ours,
        assumed=f"there is no {CONFIG} beside it; assumed are {core.n_heads} heads, {core.feedforward}, norm_eps = "
        f"{core.norm_eps}, pool = {config.pool!r}, and images normalised like those of this run",
    )


def _in_our_layout(config: ViTConfig, weights: Mapping[str, Tensor], table: list[Rule]) -> dict[str, Tensor]:
    """Weights in timm's layout as ours; a head that they lack is one of zeros, which `adapt` leaves out."""
    with Uninitialised():
        model = ViT(replace(config, classes=config.classes or 1))
    import_weights(model, weights, table)
    return model.state_dict()


def _read_model(file: Path) -> nn.Module:
    """The model that a config.json of timm describes, without weights."""
    fields = read_json(file)
    if not isinstance(fields.get("architecture"), str):
        raise ValueError(f"{file} has no architecture, as timm writes it")
    for name in ("model_args", "pretrained_cfg"):
        if not isinstance(fields.setdefault(name, {}), dict):
            raise ValueError(f"{file}: {name} = {fields[name]!r} is not an object")
    settings = fields["pretrained_cfg"]
    if settings and "label_names" in fields:
        settings["label_names"] = fields["label_names"]
    top = {name: fields[name] for name in ("num_classes", "global_pool") if name in fields}
    return _build_timm(str(file), fields["architecture"], fields["model_args"] | top | {"pretrained_cfg": settings})


def _build_timm(origin: str, architecture: str, settings: Mapping[str, Any]) -> nn.Module:
    """A model of timm without memory for its weights."""
    import timm

    if not timm.is_model(architecture):
        hint = nearest(architecture, timm.list_models(), "timm.list_models() names all that there are")
        raise ValueError(f"{origin}: timm has no {architecture!r}; {hint}")
    try:
        with torch.device("meta"):
            return timm.create_model(architecture, pretrained=False, checkpoint_path=None, **settings)
    except Exception as error:  # whatever a constructor raises for unknown settings
        raise ValueError(f"{origin}: timm cannot build {architecture!r}: {first_line(error)}") from error


def _as_tuple(value: object) -> tuple[Any, ...]:
    """The items of a list; nothing where it is not one."""
    return tuple(value) if isinstance(value, list | tuple) else ()
