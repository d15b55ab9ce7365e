"""What claims measure by, each against what must come out: contacts, ladders, laws, and policies in closed form."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.claims.common import Lab, fit, generator, seeded
from benchmarks.claims.learning import alignment, one_architecture, proteins, scaling
from benchmarks.claims.materials import ladder, writing
from benchmarks.claims.materials.power_law import bounds, fitted, loss_of
from benchmarks.claims.materials.residues import LEAST, LETTERS, PAD, Chain, attention, draw, encoded, pairs
from benchmarks.claims.verdict import judge
from core.attention import record_attention
from core.config import TransformerConfig
from core.files.json_files import write_json
from core.optim.config import OptimizerConfig
from text.corpus.sequences import learn_bpe
from text.models.gpt import GPT, GPTConfig
from text.reports.bleu import LENGTHS

# ---------------------------------------------------------------------------------------------- proteins


def chain(count: int = 30, seed: int = 0) -> Chain:
    g = generator(seed, "chain")
    near = torch.rand(count, count, generator=g) < 0.1
    return Chain(torch.randint(len(LETTERS), (count,), generator=g), near | near.T)


def test_precision_is_the_share_of_contacts_among_the_best_pairs():
    one = chain()
    i, j = pairs(30)
    true = one.contacts[i, j]
    perfect, worst = (proteins.precisions(sign * true.float(), one)[0] for sign in (1, -1))
    assert perfect == pytest.approx(min(1.0, int(true.sum()) / 30))
    assert worst == pytest.approx(max(0, 30 - int((~true).sum())) / 30)
    assert int((j - i).min()) == LEAST


def test_what_heads_say_of_a_pair_is_corrected_for_what_its_residues_have_in_common_with_all():
    model, ids = seeded(0, proteins.build).eval(), chain().ids
    i, j = pairs(30)
    with record_attention(model) as maps, torch.no_grad():
        model(ids[None])
    weights = next(iter(maps.values()))[0, 3].double()  # the fourth head of the first layer
    weights = weights + weights.T
    expected = weights - torch.outer(weights.sum(1), weights.sum(0)) / weights.sum()
    found = attention(model, ids)
    assert found.shape == (len(i), 4 * 8)
    torch.testing.assert_close(found[:, 3].double(), expected[i, j], atol=1e-6, rtol=1e-4)
    assert expected.sum(0).abs().max() < 1e-9  # as a correction for both sides must leave it


def test_only_residues_are_hidden_and_unknown_ones_stay():
    assert encoded("ACXZ").tolist() == [0, 1, 20, 20]
    ids, lengths, places, targets = draw([encoded("ACDX" * 20), encoded("WY" * 10)], generator(0, "draw"))
    assert targets.max() < len(LETTERS)
    assert (places % ids.shape[1] < lengths[places // ids.shape[1]]).all()
    assert (ids[lengths < ids.shape[1]][:, -1] == PAD).all()


def test_the_kinds_of_features_are_told_apart():
    models = {name: seeded(seed, proteins.build).eval() for seed, name in enumerate(("untrained", "trained"))}
    found = {kind: proteins.described(models, kind, chain().ids) for kind in proteins.KINDS}
    assert [one.shape[1] for one in found.values()] == [2, 34, 34, 32]
    alone, untrained, both, heads = found.values()
    assert torch.equal(both[:, :2], alone)
    assert torch.equal(both[:, 2:], heads)
    assert not torch.equal(untrained, both)


# ---------------------------------------------------------------------------------------------- alignment


def test_the_policy_ends_where_reward_and_distance_balance(monkeypatch):
    """Sentences of one token: the best policy is the original's probability times exp(reward / weight)."""
    monkeypatch.setattr(writing, "LONGEST", 1)
    tokenizer, weight = learn_bpe(["a b"], 260), 0.5
    core = TransformerConfig(dim=16, depth=1, n_heads=1)
    original = seeded(0, lambda: GPT(GPTConfig(260, 2, "untied", core))).eval()
    policy = GPT(original.config)
    policy.load_state_dict(original.state_dict())
    reward = lambda texts: torch.tensor([float(text.isascii()) for text in texts])  # noqa: E731
    draws = alignment.episodes(policy, original, tokenizer, reward)
    objective = partial(alignment.policy_loss, weight)
    fit(policy, objective, draws, 0, 0, steps=100, optimizer=OptimizerConfig(lr=3e-3, weight_decay=0.0))
    with torch.no_grad():
        old, new = (
            model(torch.tensor([[tokenizer.bos]]))[0, 0].double().log_softmax(-1) for model in (original, policy)
        )
    texts = ["" if token == tokenizer.eos else tokenizer.decode([token]) for token in range(260)]
    best = (old + reward(texts) / weight).log_softmax(-1)
    before, after = ((p.exp() * (p - best)).sum().item() for p in (old, new))
    assert before > 0.3
    assert after < 0.1


# ---------------------------------------------------------------------------------------------- laws


LAW = np.array([1.2, 4.0, 0.35, 5.0, 0.4])


def losses(noise: float = 0.0) -> list[list[float]]:
    random = np.random.default_rng(0)
    grid = [(n, d) for n in (3e4, 1e5, 2e5, 4e5) for d in (2e5, 8e5, 3e6)]
    return [[n, d, float(loss_of(LAW, n, d) + noise * random.normal())] for n, d in grid]


def test_a_law_is_found_again_and_predicts_what_it_has_not_seen():
    at = 6e5, 6e6
    assert loss_of(fitted(np.array(losses())), *at) == pytest.approx(loss_of(LAW, *at), abs=2e-3)
    low, high = bounds(losses(0.003), at, 0.9, 20, seed=0)
    assert low < loss_of(LAW, *at) < high
    assert high - low < 0.1


def test_it_is_too_late_to_predict_what_has_been_trained(tmp_path):
    lab = Lab(1, 1, tmp_path / "one.part.json")
    lab.cell("outcome, seed 0", lambda: [1, 2, 3.0])
    with pytest.raises(ValueError, match="outcome, seed 0: it is too late to predict"):
        scaling.predict(lab)


def test_a_prediction_of_a_file_is_not_made_again(tmp_path):
    said = {"dim": 48, "loss": 2.0, "low": 1.9, "high": 2.1, "law": LAW.tolist(), "points": []}
    lab = Lab(1, 1, tmp_path / "one.part.json", predicted={"seed 0": said})
    assert scaling.foretold(lab, 0) == said
    assert lab.found == {}


# ---------------------------------------------------------------------------------------------- read from others


def test_the_ladder_says_what_is_missing_and_tests_with_enough_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder, "FILE", tmp_path / "ladder.json")
    assert ladder.ladder()[:2] == ([], [])
    assert ladder.COMMAND in ladder.ladder().note
    rung = dict.fromkeys(ladder.GROUPS, 30.0)
    cells = {f"{preset}, seed {seed}": {"beams": {f"bleu_cased_{group}": value - (10.0 if preset == ladder.OLD and
             group == ladder.GROUPS[-1] else 0.0) + seed / 10 for group, value in rung.items()}}
             for preset in (ladder.OLD, ladder.NEW) for seed in range(3)}  # fmt: skip
    write_json(ladder.FILE, {"settings": {"minutes": 6}, "cells": cells})
    panels, [gain], note = ladder.ladder()
    assert gain.values == pytest.approx((10, 10, 10))
    assert [len(each) for each in panels[0].lines.values()] == [3, 3]
    assert len(panels[0].xs) == len(LENGTHS) + 1
    assert "20.1 (20.0 to 20.2)" in note
    write_json(ladder.FILE, {"settings": {"minutes": 6}, "cells": {key: cells[key] for key in [*cells][:4]}})
    assert ladder.ladder().conditions == []


def test_the_generalist_is_judged_by_what_it_left_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(one_architecture, "FILE", tmp_path / "generalist.json")
    nothing = one_architecture.measure(Lab(0.1, 3, tmp_path / "part.json"))
    verdict = judge(nothing.conditions, 0.1, 0.1, nothing.missing)
    assert (verdict.word, "run python -m benchmarks.generalist" in verdict.because) == ("not shown", True)
    figures = {"generalist": {"text": 2.0, "vision": 0.6, "decision": 400.0}, "cosines": np.eye(3).tolist()}
    figures |= {"samples": {"text": 1.98, "vision": 0.6, "decision": 402.0}, "steps": 10, "seconds": 5.0}
    figures |= {"provenance": {"commit": "abc"}}
    write_json(one_architecture.FILE, {f"seed {n}": figures for n in range(3)} | {"seed 3": {"generalist": {}}})
    found = one_architecture.measure(Lab(0.1, 3, tmp_path / "part.json"))
    assert [one.values for one in found.conditions] == [(0.99,) * 3, (1.0,) * 3, (pytest.approx(400 / 402),) * 3]
    assert judge(found.conditions, 0.1, 0.1).word == "held"
    assert found.rows[2][1:] == ["not run"] * 3
    assert math.isclose(found.panels[0].bars["text, specialists, same samples"][0], 0.99)
