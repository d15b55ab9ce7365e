"""Tiny models of every kind with random weights, as runs of a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.explorer.agents import describe_agent
from benchmarks.explorer.described import Described
from benchmarks.explorer.images import describe_images
from benchmarks.explorer.packing import pack
from benchmarks.explorer.runs import Run
from benchmarks.explorer.texts import describe_text
from core.config import PositionConfig, TransformerConfig
from decision.config import TrainConfig as AgentConfig
from decision.data.summary import Normaliser, Summary
from decision.environments.spaces import Space
from decision.models.config import DecisionConfig
from decision.models.decision_transformer import DecisionTransformer
from decision.trained import Trained as TrainedAgent
from tests.core.helpers import awake
from text.config import LanguageModellingConfig
from text.models.build import build_model
from text.models.encoder_decoder import EncoderDecoderConfig, shape_2017
from text.models.gpt import GPTConfig
from text.tokens.base import ByteTokenizer, CharTokenizer, Tokenizer
from text.trained import Trained as TrainedText
from vision.config import TrainConfig as ImageConfig
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig
from vision.models.vit import ViT
from vision.trained import Trained as TrainedImages

CORE = TransformerConfig(dim=24, depth=2, n_heads=3, ffn_dim=32)
LETTERS = CharTokenizer("\n abcdefghijklmnopqrstuvwxyz,.")
CART = Space("box", (4,), "float32", (None,), (None,))
PUSH = Space("discrete", (), "int64", counts=(2,), start=(0,))
VIT = ViTConfig(image_size=12, channels=3, classes=5, patch=3, core=replace(CORE, n_heads=2))
PROSE = "It's 12,345.67 o'clock — I'm “fine”\n\n\tnaïve  日本語 🙂 x\u3000y\u0085z ... don't" * 2
CPU = torch.device("cpu")


def as_run(described: Described, name: str) -> Run:
    """A run with its weights as they are."""
    return Run(name, described, pack(described.tensors, "fp32"), 0.0)


def text_run(config: Any, tokenizer: Tokenizer = LETTERS, name: str = "text", prompt: str = "the cat, a") -> Run:
    """A text model over the vocabulary of a tokenizer."""
    model = awake(build_model(replace(config, vocab_size=tokenizer.vocab_size)))
    said = TrainedText(model, LanguageModellingConfig(steps=1), 0, CPU, tokenizer)
    return as_run(describe_text(said, prompt), name)


def gpt(name: str = "gpt", tokenizer: Tokenizer = LETTERS, context: int = 64, **core: Any) -> Run:
    """A GPT; `core` changes CORE."""
    return text_run(GPTConfig(context=context, core=replace(CORE, **core)), tokenizer, name)


def translator(name: str = "translator") -> Run:
    """A 2017 Transformer over bytes."""
    config = replace(shape_2017(dim=24, depth=2, n_heads=3, ffn_dim=32, context=64), start=1, eos=2, pad=0)
    return text_run(config, ByteTokenizer(), name)


def seq2seq(config: EncoderDecoderConfig, name: str) -> Run:
    return text_run(config, LETTERS, name)


def images(config: ViTConfig, name: str = "images", data: Path = Path("nowhere")) -> Run:
    """An image model; from nowhere it comes without examples."""
    model = awake(ViT(config))
    if config.inputs == "whitened":
        model.embed.patches.fit(torch.randn(8, config.channels, config.image_size, config.image_size))  # type: ignore[operator]
    classes = tuple(f"class {label}" for label in range(config.classes))
    mean, std = (0.3, 0.4, 0.5)[: config.channels], (0.25, 0.3, 0.35)[: config.channels]
    preparation = Preparation(classes, config.channels, mean, std, config.image_size)
    run = ImageConfig(steps=1, data=str(data), model=config)
    return as_run(describe_images(TrainedImages(model, run, 0, CPU, preparation)), name)


def agent(
    name: str = "agent", observation: Space = CART, action: Space = PUSH, env: str = "CartPole-v1", **changes: Any
) -> Run:
    """A Decision Transformer; `changes` are those of its configuration."""
    settings = {"context": 6, "max_timestep": 500, "core": replace(CORE, position=PositionConfig("none"))} | changes
    config = DecisionConfig(observation, action, **settings)
    model = awake(DecisionTransformer(config))
    size = observation.size if observation.kind == "box" else 0
    normaliser = Normaliser(observation.shape, (0.1,) * size, (0.5,) * size, return_scale=500.0)
    summary = Summary(env, observation, action, normaliser, None, 1, 10, 10, tuple(map(float, range(101))))
    run = AgentConfig(steps=1, model=config)
    return as_run(describe_agent(TrainedAgent(model, run, 0, CPU, summary)), name)


def difference(found: Any, wanted: Tensor) -> float:
    """The largest difference of the page's numbers from PyTorch's."""
    got = torch.tensor(found, dtype=torch.float32)
    return float((got.view_as(wanted) - wanted).abs().max())
