"""What the page computes is what PyTorch computes, to 1e-4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.explorer.agents import random_window
from benchmarks.explorer.images import random_images
from benchmarks.explorer.runs import Run
from benchmarks.explorer.texts import random_ids
from core.config import PositionConfig, RotaryScaling, TransformerConfig
from core.graph import arbitrary, causal
from core.positions import index
from decision.environments.spaces import Space
from tests.benchmarks.explorer.panels import CORE, agent, difference, gpt, images, seq2seq, text_run
from tests.benchmarks.explorer.visits import Visit, visited, write
from text.models.encoder import ClassifierConfig, MaskedLMConfig, TaggerConfig
from text.models.encoder_decoder import shape_2017, shape_modern
from text.models.gpt import GPTConfig
from text.models.heads import HeadConfig
from vision.models.config import ViTConfig

TOLERANCE = 1e-4
MANY, FEW = 100, 4  # random inputs of the main model of a panel, and of its variants


def position(kind: Any, **more: Any) -> dict[str, Any]:
    return {"position": PositionConfig(kind, **more)}


def scaled(**scaling: Any) -> dict[str, Any]:
    return position("rotary", scaling=RotaryScaling(factor=4.0, **scaling))


CHOICES: dict[str, dict[str, Any]] = {
    "learned, biases, gelu-tanh": {**position("learned"), "bias": "all", "feedforward": "gelu-tanh"},
    "sinusoidal": position("sinusoidal"),
    "sinusoidal, halves": position("sinusoidal", pairing="halves"),
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


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a page of runs: the function that does it."""
    opened: list[Any] = []

    def opening(*runs: Run) -> Visit:
        context = visited(browser, write(tmp_path / "page.html", *runs))
        opened.append(context)
        return context.__enter__()

    yield opening
    for context in opened:
        context.__exit__(None, None, None)


def logits(visit: Visit, run: int, inputs: list[Any]) -> Any:
    """The page's logits for each of some lists of arguments."""
    script = "(explorer, [n, inputs]) => inputs.map((each) => [...explorer.session(n).model.logits(...each)])"
    return visit.ask(script, [run, inputs])


def one_each(rows: Tensor) -> list[list[Any]]:
    return [[row] for row in rows.tolist()]


def test_a_gpt_of_every_choice(visit: Any) -> None:
    runs = [gpt("plain"), *(gpt(name, **choice) for name, choice in CHOICES.items())]
    page, errors = visit(*runs), {}
    for n, run in enumerate(runs):
        model: Any = run.described.model
        ids = random_ids(model, FEW if n else MANY, seed=1)
        with torch.no_grad():
            errors[run.name] = difference(logits(page, n, one_each(ids)), model(ids))
    assert {name: error for name, error in errors.items() if error > TOLERANCE} == {}


def test_bounded_logits_and_a_head_of_its_own(visit: Any) -> None:
    run = text_run(GPTConfig(context=32, head="untied", logit_softcap=2.0, core=CORE))
    model: Any = run.described.model
    ids = random_ids(model, FEW, seed=1)
    with torch.no_grad():
        assert difference(logits(visit(run), 0, one_each(ids)), model(ids)) < TOLERANCE


def test_encoders(visit: Any) -> None:
    modern = replace(CORE, norm="rmsnorm", feedforward="geglu", position=PositionConfig("t5", direction="both"))
    shapes: list[Any] = [
        MaskedLMConfig(context=32, head=HeadConfig("dense-norm", "gelu"), core=CORE, types=2, neighbours=2),
        MaskedLMConfig(context=32, head=HeadConfig("dense", "tanh"), output="untied", core=modern),
        ClassifierConfig(context=32, pooling="class", labels=("a", "b", "c"), core=CORE),
        ClassifierConfig(context=32, pooling="mean", labels=("a", "b"), core=CORE),
        ClassifierConfig(context=32, pooling="max", labels=("a", "b"), core=replace(CORE, window=4)),
        TaggerConfig(context=32, labels=("a", "b", "c"), core=CORE),
    ]
    runs = [text_run(shape, name=str(n)) for n, shape in enumerate(shapes)]
    page = visit(*runs)
    for n, run in enumerate(runs):
        model: Any = run.described.model
        ids = random_ids(model, FEW if n else MANY, seed=1)
        with torch.no_grad():
            assert difference(logits(page, n, one_each(ids)), model(ids)) < TOLERANCE, shapes[n]


def test_encoder_decoders(visit: Any) -> None:
    small: dict[str, Any] = {"dim": 24, "depth": 2, "n_heads": 3, "ffn_dim": 32, "context": 32}
    tied = replace(shape_modern(**small, head_dim=None, head="tied"), head_scale="inverse-sqrt-dim")
    shapes = [replace(shape_2017(**small), head_bias="learned", decoder_depth=1), tied]
    runs = [seq2seq(shape, str(n)) for n, shape in enumerate(shapes)]
    page = visit(*runs)
    for n, run in enumerate(runs):
        model: Any = run.described.model
        source, target = random_ids(model, FEW if n else MANY, seed=1), random_ids(model, FEW if n else MANY, seed=2)
        pairs = [[*pair] for pair in zip(source.tolist(), target[:, :9].tolist(), strict=True)]
        with torch.no_grad():
            assert difference(logits(page, n, pairs), model(source, None, target[:, :9])) < TOLERANCE


def test_image_models(visit: Any) -> None:
    shape = ViTConfig(image_size=12, channels=3, classes=5, patch=3, core=replace(CORE, dim=24, n_heads=2))
    learned = replace(shape.core, position=PositionConfig("learned"))
    shapes = [
        replace(shape, inputs="whitened"),
        replace(shape, pool="class", registers=2, core=learned),
        replace(shape, pool="class", coordinates="raster", final_norm="pooled", core=replace(learned, norm="rmsnorm")),
        replace(shape, image_size=8, channels=1, patch=4, tokenizer="conv", pool="attention", registers=1),
        replace(shape, core=replace(shape.core, position=PositionConfig("alibi")), final_norm="pooled"),
        replace(shape, core=replace(shape.core, position=PositionConfig("t5", direction="both"))),
    ]
    runs = [images(each, str(n)) for n, each in enumerate(shapes)]
    page = visit(*runs)
    for n, run in enumerate(runs):
        model: Any = run.described.model
        pixels = random_images(model, FEW if n else MANY, seed=1)
        mean, std = (torch.tensor(run.described.said["shape"][key]).view(-1, 1, 1) for key in ("mean", "std"))
        with torch.no_grad():
            found = logits(page, n, one_each((pixels * std + mean).flatten(1)))
            assert difference(found, model(pixels)) < TOLERANCE, shapes[n]


BOX = Space("box", (2,), "float32", (-2.0, 0.0), (2.0, 1.0))
OPEN = Space("box", (2,), "float32", (None,), (None,))
SEVERAL = Space("multidiscrete", (2,), "int64", counts=(3, 4), start=(0, 1))


def test_agents(visit: Any) -> None:
    rotary: dict[str, Any] = {"timesteps": "position", "core": CORE}
    runs = [
        agent(),
        agent("bounded", action=BOX, returns="none"),
        agent("unbounded", action=OPEN, **rotary),
        agent("gaussian", action=BOX, head="gaussian"),
        agent("choices", observation=SEVERAL, action=SEVERAL),
    ]
    page = visit(*runs)
    for n, run in enumerate(runs):
        model: Any = run.described.model
        window = random_window(model.config, FEW if n else MANY, seed=1)
        with torch.no_grad():
            assert difference(logits(page, n, [[steps] for steps in raw(run, window)]), model(window)) < TOLERANCE


def raw(run: Run, window: Any) -> list[list[dict[str, Any]]]:
    """Windows as the page reads them: nothing is normalised."""
    shape = run.described.said["shape"]
    observations = window.observations
    if shape["observation"]["kind"] == "box":
        observations = observations * torch.tensor(shape["stateStd"]) + torch.tensor(shape["stateMean"])
    returns, actions = window.returns[..., 0] * shape["returnScale"], window.actions
    actions = actions if actions.dim() > 2 else actions.unsqueeze(-1)  # (B, K, N)
    rows, steps = window.timesteps.shape
    return [
        [
            {
                "toGo": float(returns[b, k]),
                "state": observations[b, k].tolist(),
                "action": actions[b, k].tolist(),
                "timestep": k,
            }
            for k in range(steps)
        ]
        for b in range(rows)
    ]


# ---------------------------------------------------------------------------------------------- cuts and caches

CUT = """(explorer, [ids, edges, heads]) => {
  const cuts = new explorer.Cuts();
  heads.forEach(([layer, head]) => cuts.toggleHead("self", layer, head));
  edges.forEach((edge) => cuts.set("self", ...edge, true));
  return [...explorer.session(0).model.logits(ids, cuts)];
}"""


def test_an_edge_that_is_cut_everywhere_is_one_less_in_the_graph(visit: Any) -> None:
    run = gpt()
    model: Any = run.described.model
    ids = random_ids(model, 1, seed=3)
    missing = [(5, 2), (7, 7), (9, 0), (0, 0)]  # the first token then attends to nothing
    table = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool)
    table[tuple(zip(*missing, strict=True))] = False
    edges = [[layer, head, *edge] for edge in missing for layer in range(2) for head in range(3)]
    with torch.no_grad():
        features = model.core(model.embed(ids), index(ids.shape[1]), causal() & arbitrary(table))
        assert difference(visit(run).ask(CUT, [ids[0].tolist(), edges, []]), model.head(features)) < TOLERANCE


def test_a_head_that_is_off_sends_no_messages(visit: Any) -> None:
    run = gpt()
    model: Any = run.described.model
    ids = random_ids(model, 1, seed=3)
    page = visit(run)
    with torch.no_grad():
        model.core.blocks[1].attention.branch.out.weight[:, 8:16] = 0.0
        assert difference(page.ask(CUT, [ids[0].tolist(), [], [[1, 1]]]), model(ids)) < TOLERANCE


def test_what_was_read_before_changes_nothing(visit: Any) -> None:
    """Texts that grow, shrink and change in the middle, edges that are cut and restored: as if read anew."""
    script = """(explorer, [texts, edge]) => {
      const { model } = explorer.session(0), reader = model.newReader();
      return texts.flatMap((ids, n) => {
        const cuts = new explorer.Cuts();
        if (n % 2) cuts.set("self", ...edge, true);
        const state = reader.read(ids, cuts), last = ids.length - 1;
        const kept = [...model.answer(state.out.row(last))], anew = model.logits(ids, cuts).slice(-kept.length);
        return kept.map((value, i) => Math.abs(value - anew[i]));
      });
    }"""
    a, b = random_ids(gpt().described.model, 2, seed=4).tolist()  # type: ignore[arg-type]
    texts = [a[:5], a[:5], a[:12], a[:3], a[:3] + b[:9], a[:3] + b[:2] + a[5:], b]
    assert max(visit(gpt()).ask(script, [texts, [0, 1, 3, 1]])) < 1e-6


def test_the_activations_of_the_config_are_all_tried() -> None:
    from typing import get_args

    from core.config import FeedForwardKind

    tried = {choice.get("feedforward", TransformerConfig().feedforward) for choice in CHOICES.values()}
    assert tried == {*get_args(FeedForwardKind)}
