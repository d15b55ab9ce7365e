"""The models of the presets, and an input of two examples for each of them."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from decision.data.windows import Window
from decision.environments.spaces import Space
from decision.models.decision_transformer import DecisionTransformer
from text.models.build import build_model
from text.models.encoder import Classifier, EncoderModel, LabelledConfig, Tagger
from text.models.encoder_decoder import Seq2Seq
from text.models.gpt import GPT
from text.models.recurrent import RecurrentLM
from text.models.recurrent_seq2seq import RecurrentSeq2Seq
from vision.models.build import build_model as build_vision_model
from vision.models.contrastive import Contrastive, ContrastiveConfig
from vision.models.dit import DiT
from vision.models.image_gpt import ImageGPT, ImageGPTConfig
from vision.models.vit import ViT

CHARACTERS = 65  # of tiny Shakespeare
SPACES = {"cartpole": (4, 2), "lunarlander": (8, 4), "hopper": (11, 3), "halfcheetah": (17, 6), "walker2d": (17, 6)}
"""Observed numbers, and actions to choose from or numbers to set."""
DISCRETE = ("cartpole", "lunarlander")
GREY = ("vit-digits", "fsdd", "fsdd-speakers", "flow-digits", "flow-mnist", "pixels-digits")
WORDS = 1063  # of the captions of Fugue icons


def build(name: str) -> nn.Module:
    """The model of a preset, PANEL/PRESET, with what its data decides filled in."""
    panel, _, preset = name.partition("/")
    shape: Any = importlib.import_module(f"{panel}.presets").PRESETS[preset].model
    if panel == "text":
        labels = {"labels": ("no", "yes")} if isinstance(shape, LabelledConfig) else {}
        return build_model(replace(shape, vocab_size=shape.vocab_size or CHARACTERS, **labels))
    if panel == "vision":
        filled = {"channels": 1 if preset in GREY else 3, **of_the_data(shape)}
        return build_vision_model(replace(shape, **filled))
    observed, acted = spaces(preset)
    return DecisionTransformer(replace(shape, observation_space=observed, action_space=acted, max_timestep=1000))


def of_the_data(shape: Any) -> dict[str, int]:
    """What a vision preset's data decides beside the channels: ten classes, or the words of captions."""
    if isinstance(shape, ImageGPTConfig):
        length, codes = (1, 11) if shape.codes == 17 else (8, WORDS + 1)
        return {"prompt_length": length, "prompt_codes": codes}
    captioned = isinstance(shape, ContrastiveConfig) or getattr(shape, "told", "class") == "caption"
    return {"words": WORDS} if captioned else {"classes": 10}


def spaces(preset: str) -> tuple[Space, Space]:
    """What the environment of a preset shows and takes."""
    environment = preset.partition("-")[0]
    seen, done = SPACES[environment]
    observed = Space("box", (seen,), "float32", low=(None,), high=(None,))
    if environment in DISCRETE:
        return observed, Space("discrete", (), "int64", counts=(done,), start=(0,))
    return observed, Space("box", (done,), "float32", low=(-1.0,), high=(1.0,))


def example(model: nn.Module) -> tuple[Tensor | Window | int | None, ...]:
    """Two rows of what a model reads."""
    ids = torch.zeros(2, 8, dtype=torch.int64)
    if isinstance(model, Seq2Seq | RecurrentSeq2Seq):
        return ids, None, ids
    if isinstance(model, Tagger):
        return ids, None, torch.arange(8).expand(2, 8), 8
    if isinstance(model, Classifier) and model.config.words == "early-mean":
        return ids, None, torch.arange(8).expand(2, 8)
    if isinstance(model, GPT | RecurrentLM | EncoderModel):
        return (ids,)
    if isinstance(model, ViT):
        return (torch.zeros(2, model.config.channels, *model.config.size),)
    if isinstance(model, DiT):
        side = model.config.image_size
        told = torch.zeros(2, *([8] if model.config.told == "caption" else []), dtype=torch.int64)
        return torch.zeros(2, model.config.channels, side, side), torch.zeros(2), told
    if isinstance(model, Contrastive):
        side = model.config.image_size
        return torch.zeros(2, model.config.channels, side, side), torch.zeros(2, 8, dtype=torch.int64)
    if isinstance(model, ImageGPT):
        lengths = model.config.prompt_length, model.config.tokens
        return tuple(torch.zeros(2, length, dtype=torch.int64) for length in lengths)
    assert isinstance(model, DecisionTransformer)
    observed, acted = model.config.observation_space, model.config.action_space
    assert observed is not None
    assert acted is not None
    actions = torch.zeros(2, 5, *acted.shape, dtype=torch.float32 if acted.kind == "box" else torch.int64)
    steps = torch.zeros(2, 5, dtype=torch.int64)
    return (Window(torch.zeros(2, 5, 1), torch.zeros(2, 5, *observed.shape), actions, steps, steps[:, 0]),)
