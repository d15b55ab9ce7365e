"""Proteins: which residues touch, read off the attention of a masked language model of their sequences (Rao 2020).

A model learns to fill in hidden residues; it never sees a structure. On 20 chains a logistic regression finds which
heads attend to what is near in space; it is tested on chains that neither has seen. Beside it: the distance along the
chain alone, and the heads of a model that has learned nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.claims.common import Claim, Finding, Lab, fit, generator, hidden_tokens, parameters, percent, seeded
from benchmarks.claims.materials.residues import (
    LEAST,
    NEEDS,
    TOUCH,
    VOCABULARY,
    Chain,
    attention,
    draw,
    entropy,
    pairs,
    structures,
    texts,
)
from benchmarks.claims.picture import Bars, Cells
from benchmarks.claims.verdict import Condition
from text.models.encoder import MaskedLM, MaskedLMConfig
from text.presets import MUON, modern_core

LITTLE = 0.02
FITTED, FAR = 20, 24  # chains; residues along the chain from which a contact is far
PARTS = {"L": (1, LEAST), "L/2": (2, LEAST), "L/5": (5, LEAST), f"L, {FAR} or more apart": (1, FAR)}
KINDS = ("distance alone", "distance and untrained attention", "distance and attention", "attention alone")


def build() -> MaskedLM:
    return MaskedLM(MaskedLMConfig(VOCABULARY, 512, core=modern_core(128, 4, 8)))


@torch.no_grad()
def held_out_loss(model: nn.Module, batches: int) -> float:
    """Nats for each hidden residue of sequences that were not trained on."""
    drawn = [draw(texts()[1], generator(0, "held out", n)) for n in range(batches)]
    return float(sum(hidden_tokens(model, *batch) for batch in drawn)) / sum(len(batch[-1]) for batch in drawn)


def described(models: dict[str, nn.Module], kind: str, ids: Tensor) -> Tensor:
    """What the regression reads of every pair: (P, F)."""
    i, j = pairs(len(ids))
    apart = (j - i).float().log()[:, None]
    heads = [attention(models["untrained" if "untrained" in kind else "trained"], ids)] if "attention" in kind else []
    return torch.cat(([apart, apart**2] if "distance" in kind else []) + heads, dim=1)


def precisions(scores: Tensor, chain: Chain) -> list[float]:
    """The share of contacts among the pairs of highest score, as many as there are residues, or a part of them."""
    i, j = pairs(len(chain.ids))
    found = []
    for part, least in PARTS.values():
        far = j - i >= least
        best = scores[far].topk(max(1, min(int(far.sum()), len(chain.ids) // part))).indices
        found.append(chain.contacts[i, j][far][best].float().mean().item())
    return found


def tested(models: dict[str, nn.Module], kind: str, fitted: list[Chain], tests: list[Chain]) -> dict[str, Any]:
    """Mean precisions over the tests, and the probabilities of contacts in the first of them."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    said = torch.cat([described(models, kind, chain.ids) for chain in fitted])
    true = torch.cat([chain.contacts[tuple(pairs(len(chain.ids)))] for chain in fitted])
    judge = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(said.numpy(), true.numpy())
    scores = [torch.from_numpy(judge.decision_function(described(models, kind, one.ids).numpy())) for one in tests]
    ties = [1e-6 * torch.rand(len(one), generator=generator(0, "ties", n)) for n, one in enumerate(scores)]
    each = [precisions(one + tie, chain) for one, tie, chain in zip(scores, ties, tests, strict=True)]
    return {"precisions": np.mean(each, 0).tolist(), "first": scores[0].sigmoid().tolist()}


def learned(seconds: float, few: int | None, seed: int) -> dict[str, Any]:
    """The held-out loss of a model, and precisions by what is read; the seed also draws the 20 chains."""
    models: dict[str, nn.Module] = {"untrained": seeded(seed, build).eval(), "trained": seeded(seed, build)}
    count = lambda *batch: len(batch[-1])  # noqa: E731
    fit(models["trained"], hidden_tokens, partial(draw, texts()[0]), seconds, seed, count=count, optimizer=MUON,
        precision="auto")  # fmt: skip
    order = torch.randperm(len(structures()), generator=generator(seed, "chains")).tolist()
    chains = [structures()[n] for n in order]
    fitted, tests = chains[:FITTED][:few], sorted(chains[FITTED:][:few], key=lambda one: len(one.ids))
    found = {kind: tested(models, kind, fitted, tests) for kind in KINDS}
    return {
        "loss": held_out_loss(models["trained"], 1 if few else 30),
        "precisions": {kind: one["precisions"] for kind, one in found.items()},
        "map": shown(tests[0], found["distance and attention"]["first"]),
    }


def shown(chain: Chain, probabilities: list[float]) -> list[list[float]]:
    """Contacts above the diagonal, and below it probabilities over the largest: N rows of N."""
    i, j = pairs(len(chain.ids))
    both = torch.zeros(chain.contacts.shape)
    both[i, j] = chain.contacts[i, j].float()
    both[j, i] = torch.tensor(probabilities) / max(probabilities)
    return [[round(value, 2) for value in row] for row in both.tolist()]


def added(gains: tuple[float, ...]) -> str:
    """In points, and plainly."""
    mean = 100 * sum(gains) / len(gains)
    return f"{mean:.1f} points" + (", which is little" if mean < 100 * LITTLE else "")


def measure(lab: Lab) -> Finding:
    found = lab.each_seed("chains", partial(learned, lab.seconds(1), 3 if lab.quick else None))
    by = {kind: list(zip(*(one["precisions"][kind] for one in found), strict=True)) for kind in KINDS}
    gains = {rival: tuple(a - b for a, b in zip(by[KINDS[2]][0], by[rival][0], strict=True)) for rival in KINDS[:2]}
    losses = ", ".join(f"{one['loss']:.3f}" for one in found)
    return Finding(
        ["precision of the best", *PARTS],
        [[kind, *map(percent, by[kind])] for kind in KINDS],
        [
            Bars("contacts among the best L pairs", "share", {kind: by[kind][0] for kind in KINDS}),
            Cells("seed 0: contacts above, read off below", "residue", "residue", found[0]["map"], (),
                  ()),
        ],
        [
            Condition("precision at L: with attention over without", gains[KINDS[0]], "at least", LITTLE, 0.003),
            Condition("the same over an untrained model's", gains[KINDS[1]], "at least", 0.01, 0.003),
        ],
        [f"What attention adds to the distance at L: {added(gains[KINDS[0]])}. A contact: beta carbons within "
         f"{TOUCH:g} angstrom, {LEAST} or more residues apart; globins are left out. {parameters(build()):,} "
         f"parameters; nats for each hidden residue of held-out sequences, by seed: {losses}; residues by their "
         f"frequency alone would have {entropy():.3f}.",
         "ESM-2 of 8 million parameters reads 15.9 % of far contacts at L off its attention (its authors' figure, on "
         "other chains)."],
    )  # fmt: skip


CLAIM = Claim(
    sentence="A language model of protein sequences learns which residues touch in space: its attention shows it.",
    hypothesis=f"A regression on {FITTED} chains that reads attention maps beside the distance along the chain finds "
    "at least 2 points more contacts among the best L pairs of an unseen chain of L residues than one that reads the "
    "distance alone, and at least 1 point more than with the maps of an untrained model.",
    equal="chains, and the regression; core-seconds of the models",
    measure=measure,
    minutes=27,
    least=10,
    needs=NEEDS,
)
