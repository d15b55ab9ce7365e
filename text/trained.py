"""A trained text model, loaded from its run folder or from a public one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from core.adapters.lora import adapt
from core.files.tensors import Uninitialised
from core.training.trained import TrainedRun, load_run
from text.config import TextConfig
from text.models.build import build_model
from text.pretrained.folders import base_folder, load_pretrained, pretrained_folder
from text.pretrained.start import has_own_head, is_run, start_folder
from text.tasks.configs import CONFIGS, task_config
from text.tokens.base import Tokenizer
from text.tokens.load import load_tokenizer


@dataclass(frozen=True)
class Trained(TrainedRun[Any, TextConfig]):
    """A model in evaluation mode, its configuration and its tokenizer."""

    tokenizer: Tokenizer


def load(
    folder: Path | str, which: str | int = "best", device: str = "cpu", adapters: Literal["merged", "apart"] = "merged"
) -> Trained:
    """The model of a run folder and its tokenizer, see `core.training.trained.load_run`."""
    run = load_run(folder, CONFIGS, untrained, which, device, adapters=adapters)
    return Trained(**vars(run), tokenizer=load_tokenizer(folder))


def untrained(config: TextConfig) -> Any:
    """The model of a run before its trained weights are filled in: with adapters, that which it stands beside."""
    if config.adapter.kind == "none":
        return build_model(config.model)
    return with_adapters(load_start(config.init_from, config.model), config)


def with_adapters(model: Any, config: TextConfig) -> Any:
    """A model with the adapters of a run, if it has any; a head that did not come with the weights is trained too."""
    return adapt(model, config.adapter, whole=("head",) if has_own_head(config.model) else ())


def load_any(name: str, which: str | int = "best", device: str = "cpu") -> Trained:
    """The model of a run folder, or a public one. Raises ValueError where a public one is asked for a checkpoint."""
    if is_run(Path(name)):
        return load(name, which, device)
    if which != "best":
        raise ValueError(f"checkpoint = {which!r} has no effect: {name} is no run folder")
    return load_public(name.removeprefix("hf:"), device)


def load_public(name_or_path: str, device: str = "cpu") -> Trained:
    """A public model in Hugging Face's layout and its tokenizer, see `text.pretrained.folders`."""
    folder = pretrained_folder(name_or_path)
    model: Any = load_pretrained(folder)
    tokenizer, kind = load_tokenizer(base_folder(folder)), task_config(model.config)
    config = kind(steps=1, init_from=name_or_path, tokenizer=str(folder), model=model.config)
    return Trained(model.to(device), config, 0, torch.device(device), tokenizer)


def load_start(name_or_path: str, config: Any) -> Any:
    """A trained model to start from, in training mode, with a shorter context or another dropout.

    A model with a head of its own takes over the encoder alone.

    name_or_path: a run folder, of which the best checkpoint is taken, or a public model.
    """
    folder = start_folder(name_or_path)
    other = load(folder).model if is_run(folder) else load_pretrained(folder)
    if has_own_head(config):
        model = build_model(config)
        model.start_from(other)
        return model
    own = other.state_dict()
    with Uninitialised():
        model = build_model(config)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: own[name][: shape[0]] for name, shape in shapes.items()})  # learned positions are cut
    return model
