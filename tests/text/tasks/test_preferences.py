"""Preferences lead to the policy that theory says, are read and refused by name, and are measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from core.training.command import parse
from core.training.metrics import read_metrics
from tests.core.helpers import awake, shape
from text.conversations.preferences import read_preferences
from text.models.gpt import GPT, GPTConfig
from text.presets import PRESETS
from text.tasks.chatting.config import PreferencesConfig
from text.tasks.chatting.preferences import CURVES, REFERENCE, PreferenceLoss, pair_loss, preference_loss, row_logs
from text.tasks.configs import CONFIGS
from text.train import train
from text.trained import load

REWARDS = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.5])  # of five answers of one token
BETA, TIMES = 0.5, 20


def pair_batch() -> tuple[torch.Tensor, ...]:
    """Every two answers, as often preferred as their rewards say (Bradley-Terry): ids, targets, texts."""
    chosen, rejected = [], []
    for better in range(5):
        for worse in range(5):
            times = round(TIMES * float(torch.sigmoid(REWARDS[better] - REWARDS[worse]))) if better != worse else 0
            chosen += [better] * times
            rejected += [worse] * times
    answers = torch.tensor(chosen + rejected)
    ids = torch.full((len(answers), 1), 9)  # one question
    return ids, answers[:, None], torch.ones_like(ids)


def test_the_learned_policy_is_the_closed_form() -> None:
    """pi_ref(y) exp(r(y) / beta) / Z (Rafailov 2023, eq. 4): KL below 0.01, from any reference."""
    model = awake(GPT(GPTConfig(vocab_size=10, context=4, head="untied", core=shape())))
    ids, targets, texts = pair_batch()
    with torch.no_grad():
        reference = row_logs(model, ids, targets, texts)
        before = model(ids[:1])[0, -1, :5].log_softmax(-1)
    closed = (before + REWARDS / BETA).log_softmax(-1)
    assert F.kl_div(before, closed, log_target=True, reduction="sum") > 0.1
    loss = PreferenceLoss(model, PreferencesConfig(steps=1, beta=BETA))
    optimizer = torch.optim.Adam([model.head.weight], lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        (loss(ids, targets, texts, reference) / (len(ids) // 2)).backward()
        optimizer.step()
    learned = model(ids[:1])[0, -1, :5].log_softmax(-1)
    assert F.kl_div(closed, learned, log_target=True, reduction="sum") < 0.01


def test_losses_by_hand() -> None:
    ratios, lengths = torch.tensor([1.0, 2.0, -1.0, 4.0]), torch.tensor([2, 4, 1, 2])
    margins = [1.0 - -1.0, 2.0 - 4.0]
    dpo = [-math.log(1 / (1 + math.exp(-0.3 * margin))) for margin in margins]
    assert preference_loss(ratios, lengths, "dpo", 0.3).tolist() == pytest.approx(dpo)
    ipo = [(margin - 1 / 0.6) ** 2 for margin in margins]
    assert preference_loss(ratios, lengths, "ipo", 0.3).tolist() == pytest.approx(ipo, rel=1e-5)
    margins = [1 / 2 - -1 / 1, 2 / 4 - 4 / 2]
    dpo = [-math.log(1 / (1 + math.exp(-0.3 * margin))) for margin in margins]
    assert preference_loss(ratios, lengths, "normalised", 0.3).tolist() == pytest.approx(dpo)


def test_imitation_adds_the_loss_of_the_better_answer() -> None:
    """Its mean over the tokens of each better answer, times a weight (Pang 2024, eq. 1); none of it by default."""
    logs, reference = torch.tensor([-3.0, -8.0, -2.0, -1.0]), torch.tensor([-4.0, -10.0, -1.0, -5.0])
    lengths = torch.tensor([2, 4, 1, 2])
    dpo = preference_loss(logs - reference, lengths, "dpo", 0.1)
    assert torch.equal(pair_loss(logs, reference, lengths, PreferencesConfig(steps=1)), dpo)
    found = pair_loss(logs, reference, lengths, PreferencesConfig(steps=1, imitation=0.2))
    torch.testing.assert_close(found, dpo + 0.2 * torch.tensor([3 / 2, 8 / 4]))
    with pytest.raises(ValueError, match="imitation = -1"):
        PreferencesConfig(steps=1, imitation=-1)


def test_three_ways_to_write_a_preference(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "?"}]
    yes, no = ({"role": "assistant", "content": said} for said in ("yes", "no"))
    rows = [
        {"prompt": "?", "chosen": "yes", "rejected": "no"},
        {"prompt": asked, "chosen": [yes], "rejected": [no]},
        {"chosen": [*asked, yes], "rejected": [*asked, no]},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_preferences(str(tmp_path / "a.jsonl"))
    assert len({*found.chosen}) == len({*found.rejected}) == 1
    for row, reason in (
        ({"prompt": "?", "chosen": "yes", "rejected": "yes"}, "has two answers that are the same"),
        ({"prompt": "?", "chosen": "yes"}, "is no preference"),
        ({"prompt": "?", "chosen": "yes", "rejected": ""}, "has an empty answer"),
        ({"chosen": [*asked, yes], "rejected": [{"role": "user", "content": "!"}, no]}, "has answers to different"),
    ):
        (tmp_path / "a.jsonl").write_text(json.dumps(row))
        with pytest.raises(ValueError, match=f"line 1 of .* {reason}"):
            read_preferences(str(tmp_path / "a.jsonl"))


def test_a_run_starts_from_answers_and_measures_its_distance_from_them(tmp_path: Path) -> None:
    small = ("--device", "cpu", "--precision", "fp32", "--sample", 1)
    shape = ("--model.core.dim", 32, "--model.core.depth", 1, "--model.core.n-heads", 2, "--model.context", 128)
    words = ("instruct", *small, *shape, "--steps", 2, "--batch-size", 4, "--out", tmp_path / "base")
    train(parse(CONFIGS, PRESETS, [*map(str, words)]))
    asked = [f"Say twice: {a}{b}{c}" for a in "abc" for b in "def" for c in "xyz"]
    rows = [{"prompt": prompt, "chosen": "bb", "rejected": "aa"} for prompt in asked]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("prefer", *small, "--data", tmp_path / "pairs.jsonl", "--batch-size", 4, "--optimizer.lr", 3e-3)
    words = (*words, "--beta", 0.1, "--imitation", 0)
    with pytest.raises(ValueError, match="init_from is missing"):
        train(parse(CONFIGS, PRESETS, [*map(str, (*words, "--out", tmp_path / "never"))]))
    adapter = ("--adapter", "lora", "--adapter.targets", "all", "--init-from", tmp_path / "base")
    cut = ("--steps", 20, "--eval-every", 10, "--save-every", 10, "--out", tmp_path / "run")
    figures = train(parse(CONFIGS, PRESETS, [*map(str, (*words, *adapter, *cut))]))
    measured = {line["step"]: line for line in read_metrics(tmp_path / "run") if "val/kl" in line}
    assert figures["val/accuracy"] == 1
    assert figures["val/loss"] < measured[10]["val/loss"] < math.log(2)
    assert figures["val/reward_margin"] > measured[10]["val/reward_margin"] > 0
    assert figures["val/kl"] > measured[10]["val/kl"] > 0
    logged = {f"val/{name}" for name in ("reward_chosen", "reward_rejected", "logp_chosen", "logp_rejected")}
    assert logged <= figures.keys()
    assert (tmp_path / "run" / REFERENCE).is_file()
    assert (tmp_path / "run" / CURVES).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "run" / "samples" / "step-00000020.txt").read_text().startswith("Say twice")
    assert not any(p.isnan().any() for p in load(tmp_path / "run").model.parameters())
