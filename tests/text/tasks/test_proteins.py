"""Real proteins as a task of tagging."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.training.command import parse
from core.training.order import Share
from text.presets import PRESETS
from text.tag import shown, words_of
from text.tasks.configs import CONFIGS
from text.tasks.labelling.tagging import Tagging


def test_chains_are_read_letter_by_letter(data_root: Path) -> None:
    if not (data_root / "protein_ss").is_dir():
        pytest.skip("no protein_ss in TRIPTYCH_DATA")
    config = parse(CONFIGS, PRESETS, ("protein-q3", "--steps", "1", "--device", "cpu"))
    prepared = Tagging.prepare(config)  # type: ignore[arg-type]
    assert prepared.config.model.labels == ("C", "E", "H")
    assert prepared.tokenizer.vocab_size == 26
    assert len(prepared.tokenizer.encode(prepared.corpus.tests["cb513"].words[0])) > 0
    assert {*"".join(map("".join, prepared.corpus.tests["cb513"].words))} <= {*prepared.tokenizer.characters}  # type: ignore[attr-defined]
    assert "homology" in prepared.summary()
    ids, lengths, words, tags = prepared.order(0, Share(), 0.0)[0]
    assert (ids.shape, lengths.tolist()) == (words.shape, [length + 2 for length in (words.amax(1) + 1).tolist()])
    assert tags.shape[1] == ids.shape[1] - 2


def test_a_chain_is_written_above_its_structure() -> None:
    residues = words_of("mkt av", "characters", "words")
    assert residues == [*"MKTAV"]
    assert shown(residues, [*"CHHEC"], "characters", as_json=False) == "MKTAV\nCHHEC"
