"""Proteins for claims: sequences with hidden residues, and chains whose contacts are known."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from core.attention import record_attention
from core.files.downloads import data_root
from text.corruption.masking import Masking
from text.examples.tagged import load_tagged

NEEDS = ("pdb_chains/pdb_chains.npz", "protein_ss/train_q3.tsv")
LETTERS = "ACDEFGHIKLMNPQRSTVWY"
OTHER, MASK, PAD, VOCABULARY = 20, 21, 22, 23
MASKING = Masking(MASK, np.arange(VOCABULARY) < len(LETTERS))
CROP, BATCH, SHARED = 320, 16, 20  # residues, chains of a batch, residues in a row that relatives share
LEAST, TOUCH, MISSING = 6, 8.0, -1e6  # residues along the chain from which a contact counts; angstrom


class Chain(NamedTuple):
    """Residues int64 (N,), and which are in contact, bool (N, N)."""

    ids: Tensor
    contacts: Tensor


def encoded(sequence: str) -> Tensor:
    """int64 (N,)."""
    return torch.tensor([LETTERS.find(letter) % VOCABULARY if letter in LETTERS else OTHER for letter in sequence])


@lru_cache(maxsize=1)
def structures() -> list[Chain]:
    """Chains of known structure, without the globins, which are all alike."""
    with np.load(data_root() / NEEDS[0]) as kept:
        places = np.split(kept["xyz"] / 1000, np.cumsum(kept["length"])[:-1])  # angstrom; (N, 5, 3) of each chain
        chosen = np.flatnonzero(~kept["globin"])
    found = []
    for number in chosen:
        alpha, beta = places[number][:, 1], places[number][:, 4]
        side = torch.from_numpy(np.where(beta < MISSING, alpha, beta))  # glycine has no beta carbon
        found.append(Chain(encoded(sequences()[number]), torch.cdist(side, side) < TOUCH))
    return found


@lru_cache(maxsize=1)
def sequences() -> list[str]:
    """Of all chains of known structure."""
    with np.load(data_root() / NEEDS[0]) as kept:
        return [str(one) for one in kept["sequence"]]


@lru_cache(maxsize=1)
def texts() -> tuple[list[Tensor], list[Tensor]]:
    """Sequences to train on, and held-out ones; none shares 20 residues in a row with a chain of known structure."""
    known = {one[n : n + SHARED] for one in sequences() for n in range(len(one) - SHARED + 1)}
    data = load_tagged("protein_ss")
    parts = (["".join(words) for words in part.words] for part in (data.train, data.validation))
    train, held_out = (
        [encoded(one) for one in part if not any(one[n : n + SHARED] in known for n in range(len(one)))]
        for part in parts
    )
    return train, held_out


def draw(chains: list[Tensor], g: torch.Generator) -> tuple[Tensor, ...]:
    """Pieces of sequences with hidden residues: ids (B, T), lengths (B,), places and targets (N,)."""
    rows = []
    for n in torch.randint(len(chains), (BATCH,), generator=g):
        start = int(torch.randint(max(1, len(chains[n]) - CROP + 1), (), generator=g))
        rows.append(chains[n][start : start + CROP])
    number = int(torch.randint(2**31, (), generator=g))
    ids = pad_sequence(rows, batch_first=True, padding_value=PAD)
    hidden = MASKING.hide(ids.numpy(), number, "masking", range(BATCH))
    return hidden.ids, torch.tensor([len(row) for row in rows]), hidden.places, hidden.targets


def entropy() -> float:
    """Nats of a residue that is known by its frequency alone."""
    shares = torch.cat(texts()[0]).bincount()[: len(LETTERS)].double()
    return float(torch.distributions.Categorical(shares).entropy())


def pairs(count: int) -> Tensor:
    """Residues of a chain that are far enough apart along it: int64 (2, P)."""
    return torch.triu_indices(count, count, LEAST)


@torch.no_grad()
def attention(model: nn.Module, ids: Tensor) -> Tensor:
    """Of every pair what all heads say, made symmetric, less what both have with all (APC, Dunn 2008): (P, L H)."""
    with record_attention(model) as maps:
        model(ids[None])
    weights = torch.cat([layer[0] for layer in maps.values()])  # (L H, N, N)
    weights = weights + weights.mT
    mean = weights.sum(-1, keepdim=True) * weights.sum(-2, keepdim=True) / weights.sum((-2, -1), keepdim=True)
    i, j = pairs(len(ids))
    return (weights - mean)[:, i, j].T
