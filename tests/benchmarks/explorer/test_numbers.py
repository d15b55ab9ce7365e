"""What the page computes is what PyTorch computes, to 1e-4."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.explorer.agents import random_window
from benchmarks.explorer.images import random_images, without_whitening
from benchmarks.explorer.packing import FORMATS, round_weights
from benchmarks.explorer.runs import Run
from benchmarks.explorer.texts import random_ids
from core.config import TransformerConfig
from core.graph import arbitrary, causal
from core.positions import index
from tests.benchmarks.explorer.panels import VIT, difference, gpt
from tests.benchmarks.explorer.variants import CHOICES, Computed, one_each
from tests.core.helpers import awake
from vision.models.vit import ViT

TOLERANCE = 1e-4
MANY, FEW = 100, 4  # random inputs of the main model of a panel, and of its variants


def check(computed: Computed, group: str, inputs: Callable[[Run, int], tuple[list[Any], Any]]) -> None:
    """Compares the logits of a group. inputs: of a run, for the page and for PyTorch, so many."""
    errors = {}
    for n, run in enumerate(computed.groups[group]):
        for_page, for_torch = inputs(run, FEW if n else MANY)
        with torch.no_grad():
            wanted = run.described.model(*for_torch)
        errors[run.name] = difference(computed.logits(run, for_page), wanted)
    assert {name: error for name, error in errors.items() if not error < TOLERANCE} == {}


@pytest.mark.parametrize("group", ["gpts", "encoders"])
def test_gpts_and_encoders_of_every_choice(computed: Computed, group: str) -> None:
    def inputs(run: Run, count: int) -> tuple[list[Any], Any]:
        ids = random_ids(run.described.model, count, seed=1)  # type: ignore[arg-type]
        return one_each(ids), (ids,)

    check(computed, group, inputs)


def test_encoder_decoders(computed: Computed) -> None:
    def inputs(run: Run, count: int) -> tuple[list[Any], Any]:
        model: Any = run.described.model
        source, target = random_ids(model, count, seed=1), random_ids(model, count, seed=2)[:, :9]
        return [[*pair] for pair in zip(source.tolist(), target.tolist(), strict=True)], (source, None, target)

    check(computed, "encoder-decoders", inputs)


def test_image_models(computed: Computed) -> None:
    def inputs(run: Run, count: int) -> tuple[list[Any], Any]:
        pixels = random_images(run.described.model, count, seed=1)  # type: ignore[arg-type]
        mean, std = (torch.tensor(run.described.said["shape"][key]).view(-1, 1, 1) for key in ("mean", "std"))
        return one_each((pixels * std + mean).flatten(1)), (pixels,)

    check(computed, "image models", inputs)


def test_agents(computed: Computed) -> None:
    def inputs(run: Run, count: int) -> tuple[list[Any], Any]:
        model: Any = run.described.model
        window = random_window(model.config, count, seed=1)
        return [[steps] for steps in raw(run, window)], (window,)

    check(computed, "agents", inputs)


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


@pytest.mark.parametrize("format", FORMATS)
def test_weights_come_out_of_the_page_as_they_were_rounded(computed: Computed, format: Any) -> None:
    """Every number of every format, and what the rounded model computes."""
    run = next(run for run in computed.groups["formats"] if run.name == format)
    model = copy.deepcopy(run.described.model)
    round_weights(model, run.described.tensors, format)
    ids = random_ids(model, FEW, seed=1)  # type: ignore[arg-type]
    script = """(explorer, n) => {
      const { weights } = explorer.session(n), names = Object.keys(weights.tensors);
      return JSON.stringify(Object.fromEntries(names.map((name) => [name, [...weights.get(name)]])));
    }"""
    found = json.loads(computed.visit.ask(script, computed.place(run)))
    wanted = model.state_dict()
    assert found.keys() == wanted.keys()
    assert [name for name in found if not torch.equal(torch.tensor(found[name]), wanted[name].flatten())] == []
    with torch.no_grad():
        assert difference(computed.logits(run, one_each(ids)), model(ids)) < TOLERANCE


def test_a_whitening_is_part_of_the_map_behind_it() -> None:
    model = awake(ViT(replace(VIT, inputs="whitened")))
    pixels = random_images(model, FEW)
    model.embed.patches.fit(pixels)  # type: ignore[operator]
    plain = without_whitening(model)
    assert torch.equal(plain.embed.patches.whitening, torch.eye(27))  # type: ignore[arg-type]
    with torch.no_grad():
        assert (plain(pixels) - model(pixels)).abs().max() < 1e-5


# ---------------------------------------------------------------------------------------------- cuts and caches


CUT = """(explorer, [ids, edges, heads]) => {
  const cuts = new explorer.Cuts();
  heads.forEach(([layer, head]) => cuts.toggleHead("self", layer, head));
  edges.forEach((edge) => cuts.set("self", ...edge, true));
  return [...explorer.session(0).model.logits(ids, cuts)];
}"""


def test_an_edge_that_is_cut_everywhere_is_one_less_in_the_graph(computed: Computed) -> None:
    model: Any = computed.groups["gpts"][0].described.model
    ids = random_ids(model, 1, seed=3)
    missing = [(5, 2), (7, 7), (9, 0), (0, 0)]  # the first token then attends to nothing
    table = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool)
    table[tuple(zip(*missing, strict=True))] = False
    edges = [[layer, head, *edge] for edge in missing for layer in range(2) for head in range(3)]
    with torch.no_grad():
        features = model.core(model.embed(ids), index(ids.shape[1]), causal() & arbitrary(table))
        assert difference(computed.visit.ask(CUT, [ids[0].tolist(), edges, []]), model.head(features)) < TOLERANCE


def test_a_head_that_is_off_sends_no_messages(computed: Computed) -> None:
    model: Any = gpt().described.model  # the same one, to be changed
    ids = random_ids(model, 1, seed=3)
    with torch.no_grad():
        model.core.blocks[1].attention.branch.out.weight[:, 8:16] = 0.0
        assert difference(computed.visit.ask(CUT, [ids[0].tolist(), [], [[1, 1]]]), model(ids)) < TOLERANCE


def test_what_was_read_before_changes_nothing(computed: Computed) -> None:
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
    a, b = random_ids(computed.groups["gpts"][0].described.model, 2, seed=4).tolist()  # type: ignore[arg-type]
    texts = [a[:5], a[:5], a[:12], a[:3], a[:3] + b[:9], a[:3] + b[:2] + a[5:], b]
    assert max(computed.visit.ask(script, [texts, [0, 1, 3, 1]])) < 1e-6


def test_the_activations_of_the_config_are_all_tried() -> None:
    from typing import get_args

    from core.config import FeedForwardKind

    tried = {choice.get("feedforward", TransformerConfig().feedforward) for choice in CHOICES.values()}
    assert tried == {*get_args(FeedForwardKind)}
