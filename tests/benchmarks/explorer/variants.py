"""Every choice that the page computes, as tiny models, and the page that holds them all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from benchmarks.explorer.packing import FORMATS, pack
from benchmarks.explorer.runs import Run
from core.config import PositionConfig, RotaryScaling
from decision.environments.spaces import Space
from tests.benchmarks.explorer.panels import CORE, VIT, agent, gpt, images, seq2seq, text_run
from tests.benchmarks.explorer.visits import Visit
from text.models.encoder import ClassifierConfig, MaskedLMConfig, TaggerConfig
from text.models.encoder_decoder import shape_2017, shape_modern
from text.models.gpt import GPTConfig
from text.models.heads import HeadConfig


def position(kind: Any, **more: Any) -> dict[str, Any]:
    return {"position": PositionConfig(kind, **more)}


def scaled(**scaling: Any) -> dict[str, Any]:
    return position("rotary", scaling=RotaryScaling(factor=4.0, **scaling))


CHOICES: dict[str, dict[str, Any]] = {
    "learned, biases, gelu-tanh": {**position("learned"), "bias": "all", "feedforward": "gelu-tanh"},
    "sinusoidal": position("sinusoidal"),
    "sinusoidal, halves": position("sinusoidal", pairing="halves", amplitude=0.1),
    "alibi": position("alibi"),
    "t5": position("t5", buckets=8, max_distance=20),
    "no positions": position("none"),
    "halves": position("rotary", pairing="halves"),
    "linear": scaled(kind="linear"),
    "llama3": scaled(kind="llama3", original_context=16),
    "yarn": scaled(kind="yarn", original_context=16),
    "rmsnorm, swiglu, one key head": {"norm": "rmsnorm", "feedforward": "swiglu", "n_kv_heads": 1, "bias": "none"},
    "rms, relu2": {"norm": "rms", "embedding_norm": "rms", "qk_norm": "rms", "feedforward": "relu2", "bias": "none"},
    "post": {"norm_placement": "post", "feedforward": "relu", "bias": "attention"},
    "branch, qk-norm over all heads": {
        "norm_placement": "branch", "norm": "rmsnorm", "qk_norm": "rmsnorm", "qk_norm_over": "all-heads", "bias": "qkv"
    },
    "embedding norm alone, geglu": {
        "embedding_norm": "layernorm", "first_norm": "none", "feedforward": "geglu", "bias": "feedforward"
    },
    "geglu-tanh, no scale": {"feedforward": "geglu-tanh", "attention_scale": "none", "qk_norm": "layernorm"},
    "silu, layer scale, wide heads": {"feedforward": "silu", "layer_scale": 0.3, "head_dim": 10},
    "windows with positions of their own": {
        "window": 5, "window_layers": (1,), "window_position": PositionConfig("rotary", base=50.0)
    },
    "a layer without positions": {"unpositioned_layers": (0,)},
}  # fmt: skip

BOX = Space("box", (2,), "float32", (-2.0, 0.0), (2.0, 1.0))
OPEN = Space("box", (2,), "float32", (None,), (None,))
SEVERAL = Space("multidiscrete", (2,), "int64", counts=(3, 4), start=(0, 1))


def gpts() -> list[Run]:
    return [
        gpt("plain"),
        *(gpt(name, **choice) for name, choice in CHOICES.items()),
        text_run(GPTConfig(context=32, head="untied", logit_softcap=2.0, core=CORE), name="bounded logits"),
    ]


def encoders() -> list[Run]:
    modern = replace(CORE, norm="rmsnorm", feedforward="geglu", position=PositionConfig("t5", direction="both"))
    shapes: list[Any] = [
        MaskedLMConfig(context=32, head=HeadConfig("dense-norm", "gelu"), core=CORE, types=2, neighbours=2),
        MaskedLMConfig(context=32, head=HeadConfig("dense", "tanh"), output="untied", core=modern),
        ClassifierConfig(context=32, pooling="class", labels=("a", "b", "c"), core=CORE),
        ClassifierConfig(context=32, pooling="mean", labels=("a", "b"), core=CORE),
        ClassifierConfig(context=32, pooling="max", labels=("a", "b"), core=replace(CORE, window=4)),
        TaggerConfig(context=32, labels=("a", "b", "c"), core=CORE),
    ]
    return [text_run(shape, name=f"encoder {n}") for n, shape in enumerate(shapes)]


def encoder_decoders() -> list[Run]:
    small: dict[str, Any] = {"dim": 24, "depth": 2, "n_heads": 3, "ffn_dim": 32, "context": 32}
    tied = replace(shape_modern(**small, head_dim=None, head="tied"), head_scale="inverse-sqrt-dim")
    shapes = [replace(shape_2017(**small), head_bias="learned", decoder_depth=1), tied]
    return [seq2seq(shape, f"encoder-decoder {n}") for n, shape in enumerate(shapes)]


def image_models() -> list[Run]:
    learned = replace(VIT.core, position=PositionConfig("learned"))
    shapes = [
        replace(VIT, inputs="whitened"),
        replace(VIT, pool="class", registers=2, core=learned),
        replace(VIT, pool="class", coordinates="raster", final_norm="pooled", core=replace(learned, norm="rmsnorm")),
        replace(VIT, image_size=8, channels=1, patch=4, tokenizer="conv", pool="attention", registers=1),
        replace(VIT, core=replace(VIT.core, position=PositionConfig("alibi")), final_norm="pooled"),
        replace(VIT, core=replace(VIT.core, position=PositionConfig("t5", direction="both"))),
    ]
    return [images(shape, f"image model {n}") for n, shape in enumerate(shapes)]


def agents() -> list[Run]:
    return [
        agent(),
        agent("bounded", action=BOX, returns="none"),
        agent("unbounded", action=OPEN, timesteps="position", core=CORE),
        agent("gaussian", action=BOX, head="gaussian"),
        agent("choices", observation=SEVERAL, action=SEVERAL),
    ]


def formats() -> list[Run]:
    """One model in every format of weights."""
    run = gpt()
    return [replace(run, name=format, packed=pack(run.described.tensors, format)) for format in FORMATS]


GROUPS: Mapping[str, Callable[[], list[Run]]] = {
    "gpts": gpts,
    "encoders": encoders,
    "encoder-decoders": encoder_decoders,
    "image models": image_models,
    "agents": agents,
    "formats": formats,
}


@dataclass(frozen=True)
class Computed:
    """The open page of some groups of runs, one after another."""

    visit: Visit
    groups: Mapping[str, list[Run]]

    def place(self, run: Run) -> int:
        """The number of its tab."""
        return [each.name for group in self.groups.values() for each in group].index(run.name)

    def logits(self, run: Run, inputs: list[Any]) -> Any:
        """The page's logits for each of some lists of arguments."""
        script = """(explorer, text) => {
          const [n, inputs] = JSON.parse(text), { model } = explorer.session(n);
          return JSON.stringify(inputs.map((each) => [...model.logits(...each)]));
        }"""
        return json.loads(self.visit.ask(script, json.dumps([self.place(run), inputs])))


def one_each(rows: Tensor) -> list[list[Any]]:
    """Each row as the only argument."""
    return [[row] for row in rows.tolist()]
