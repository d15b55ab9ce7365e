"""Weights to start from: a run of ours, a public model of timm, or a file in timm's layout, to the same outputs."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.files.json_files import read_json
from core.files.tensors import PICKLES, WEIGHTS, Safetensors, Uninitialised, load_into, read_tensors
from core.files.weights import Rule, import_weights
from core.messages import first_line, nearest, notice
from vision.data.folder import first_few
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig
from vision.models.vit import ViT
from vision.pretrained.head import ClassNames, describe_head, keep_rows
from vision.pretrained.names import timm_names
from vision.pretrained.resize import HEAD, adapt
from vision.pretrained.timm_layout import from_timm, infer, rules

TIMM = "timm:"
CONFIG = "config.json"
NO_NUMBERS = "_* model_args pretrained_cfg num_features global_pool labels tags library_name pipeline_tag".split()
NO_NUMBERS += "model_type architectures torch_dtype dtype transformers_version".split()
"""Fields of a config.json beside those of `timm.models.PretrainedCfg`, which need no notice."""


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A trained model that another one starts from."""

    name: str
    """What it was asked for by."""
    config: ViTConfig
    """Its shape; 0 classes where it has no head."""
    weights: Mapping[str, Tensor]
    """In our layout, by name."""
    mean: tuple[float, ...] | None = None
    """Per channel, of pixels in 0..1, by which its images were normalised; None = unknown."""
    std: tuple[float, ...] | None = None
    """The standard deviation that goes with it."""
    crop: float | None = None
    """As in `Preparation`; None = unknown."""
    classes: ClassNames = field(default_factory=ClassNames)
    """Their names, by label."""
    assumed: str = ""
    """What no file says, and was assumed."""

    def adapt_preparation(self, preparation: Preparation) -> Preparation:
        """The preparation of other images, normalised and cropped like those that the model was trained on.

        Raises ValueError when the images have another number of channels.
        """
        if preparation.channels != self.config.channels:
            raise ValueError(
                f"the images have {preparation.channels} channels, the model to start from {self.config.channels}"
            )
        known = {"mean": self.mean, "std": self.std, "crop": self.crop if preparation.fit == "crop" else None}
        return replace(preparation, **{name: value for name, value in known.items() if value is not None})  # type: ignore[arg-type]

    def start(self, config: ViTConfig, classes: Sequence[str] = ()) -> ViT:
        """A model of `config` that starts from these weights; says on stderr what is kept of the head.

        config: this one's but for image_size, patch and classes (`resized`).
        classes: by whose names the rows of the head are chosen; default the same classes, or else a new head.

        Raises ValueError where `config` differs in more.
        """
        weights, count = adapt(self.weights, self.config, config), self.config.classes
        if self.assumed:
            notice(f"{self.name}: {self.assumed}")
        if classes:
            rows, by = self.classes.rows(classes, count)
            notice(describe_head(self.name, rows, by, classes, self.classes, count))
        else:
            rows = [*range(count)] if count == config.classes else [None] * config.classes
        model = ViT(config)
        fresh = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(HEAD)}
        load_into(model, weights | keep_rows(fresh, self.weights, rows), Path(self.name))
        return model


def read_public(name: str) -> Pretrained:
    """A public model by name:

    - timm:NAME, a model of timm, whose weights are downloaded from the Hugging Face hub once
    - a .safetensors file in timm's layout, or a folder with model.safetensors; its shape comes from the
      config.json beside it, as timm writes it, or else from the tensors, as far as possible (`timm_layout.infer`)

    Raises ValueError naming what is missing, damaged, or of an architecture that is not handled. A local pickle
    is never read.
    """
    if name.startswith(TIMM):
        return _from_hub(name.removeprefix(TIMM))
    path = Path(name).expanduser()
    if path.is_dir():
        return _from_tensors(dict(Safetensors(path)), path)
    if path.suffix in PICKLES:
        raise ValueError(f"{path} is a pickle, which can execute code, and is never read; convert it to safetensors")
    if not path.is_file():
        raise ValueError(f"{name} is neither a run folder, nor {TIMM}NAME, nor safetensors in timm's layout")
    return _from_tensors(read_tensors(path), path)


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
    return _from_model(origin, theirs, theirs.state_dict())


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
    weights = timm_names(weights, path)
    try:
        return _from_shapes(str(path), weights) if model is None else _from_model(str(path), model, weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _from_model(name: str, model: nn.Module, weights: Mapping[str, Tensor]) -> Pretrained:
    """Weights of a model of timm, and what its settings say about its images."""
    config, table = from_timm(model)
    settings: Any = model.pretrained_cfg
    mean, std = (_numbers(settings.get(key)) for key in ("mean", "std"))
    if not len(mean) == len(std) == config.channels:
        mean = std = ()
    [crop] = _numbers([settings.get("crop_pct")]) or (0.0,)
    return Pretrained(
        name,
        config,
        _in_our_layout(config, weights, table),
        mean or None,
        std or None,
        crop if 0 < crop <= 1 else None,
        _class_names(settings, config.classes),
    )


def _from_shapes(name: str, weights: Mapping[str, Tensor]) -> Pretrained:
    """Weights of which only names and shapes are known."""
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    config = infer(shapes)
    core = config.core
    return Pretrained(
        name,
        config,
        _in_our_layout(config, weights, rules(config, shapes)),
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
    if "pretrained_cfg" not in fields and "mean" in fields:  # an older layout: one object for all
        kept = ("architecture", "model_args", "num_classes", "global_pool")
        fields = {name: fields[name] for name in kept if name in fields} | {"pretrained_cfg": fields}
    for name in ("model_args", "pretrained_cfg"):
        if not isinstance(fields.setdefault(name, {}), dict):
            raise ValueError(f"{file}: {name} = {fields[name]!r} is not an object")
    settings = _settings(fields, file)
    top = {name: fields[name] for name in ("num_classes", "global_pool") if name in fields}
    return _build_timm(str(file), fields["architecture"], fields["model_args"] | top | {"pretrained_cfg": settings})


def _settings(fields: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """What a config.json says about images and classes; fields that nobody knows are passed over with a notice."""
    from timm.models import PretrainedCfg

    own = fields["pretrained_cfg"]
    settings = own | {name: fields[name] for name in ("label_names", "label_descriptions") if name in fields}
    if "labels" in own:
        settings.setdefault("label_names", own["labels"])
    known = {each.name for each in dataclasses.fields(PretrainedCfg)}
    unknown = [name for name in {**fields, **own} if not any(fnmatchcase(name, each) for each in (*known, *NO_NUMBERS))]
    if unknown:
        notice(f"{file}: fields that are not known are passed over: {first_few(unknown)}")
    return {name: value for name, value in settings.items() if name in known}


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


def _numbers(values: object) -> tuple[float, ...]:
    """The items of a list of numbers; nothing where it is not one."""
    listed = values if isinstance(values, list | tuple) else ()
    return tuple(map(float, listed)) if all(isinstance(value, int | float) for value in listed) else ()


def _class_names(settings: Mapping[str, Any], count: int) -> ClassNames:
    """The names of a head's classes as timm's settings say them, or ImageNet's for as many classes as that has."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    names, texts = settings.get("label_names") or settings.get("labels"), settings.get("label_descriptions")
    if isinstance(names, dict):
        names = [names.get(str(row), names.get(row, "")) for row in range(count)]
    if not names and (subset := infer_imagenet_subset({"num_classes": count})):
        published = ImageNetInfo(subset)
        names, texts = published.label_names(), published.label_descriptions(as_dict=True)
    if not isinstance(names, list | tuple) or len(names) != count:
        return ClassNames()
    described = texts if isinstance(texts, dict) else {}
    return ClassNames(tuple(map(str, names)), tuple(str(described.get(name, "")) for name in names))
