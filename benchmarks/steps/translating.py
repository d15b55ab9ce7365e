"""Beam search over the same sources with the same weights, read from one public folder; ours and transformers'."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.decoding.beams import beam_search
from core.devices import keep_freed_memory
from core.files.json_files import read_json, write_json
from text.corpus.batches import evaluation_batches, restored
from text.corpus.sequences import Ragged, encode_all
from text.models.encoder_decoder import Seq2Seq, shape_2017
from text.pretrained.folders import export_pretrained, load_pretrained
from text.trained import load
from text.using.translator import most_tokens

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MODEL, SOURCES = "model", "sources.json"

Search = Callable[[Tensor, Tensor, int], list[list[int]]]
"""(sources (S, N), lengths (S,), most tokens) -> for each source the tokens of the best translation."""


# ---------------------------------------------------------------------------------------------- what is translated


def prepare(folder: Path, run: Path | None, sentences: Sequence[str], tiny: bool, seed: int = 0) -> None:
    """Writes what both sides read: the model in MarianMT's layout, and the sources as tokens.

    run: of `text.train multi30k`; None = random weights and random sources of 8 to 24 tokens, as many
    """
    if run is not None:
        trained = load(run)
        ids = encode_all(trained.tokenizer, sentences, after=[trained.config.model.eos], name="sentence")
        sources = [ids[row].tolist() for row in range(len(ids))]
        export_pretrained(trained.model, folder / MODEL, "marian")
    else:
        torch.manual_seed(seed)
        dim, depth, ffn, vocabulary = (32, 2, 48, 700) if tiny else (256, 3, 512, 8000)
        shape = shape_2017(dim, depth, 4, ffn, dropout=0.0, context=64)
        model = Seq2Seq(replace(shape, vocab_size=vocabulary, start=1, eos=2, pad=0))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        export_pretrained(model, folder / MODEL, "marian")
        lengths = torch.randint(8, 25, (len(sentences),)).tolist()
        sources = [[*torch.randint(5, vocabulary, (length - 1,)).tolist(), 2] for length in lengths]
    write_json(folder / SOURCES, {"sources": sources})


# ---------------------------------------------------------------------------------------------- both sides


def our_search(folder: Path, beams: int, length_penalty: float, precision: str) -> Search:
    """`core.decoding.beams`."""
    model = load_pretrained(folder / MODEL, Seq2Seq).to(DTYPES[precision])
    eos, start = model.config.eos, model.config.start

    def search(source: Tensor, lengths: Tensor, most: int) -> list[list[int]]:
        bound, prompts = model.bind(source, lengths), [[start]] * len(source)
        found = beam_search(bound, prompts, most, beams, n_best=1, eos=eos, length_penalty=length_penalty)
        return [best.tokens for best, *_ in found]

    return search


def their_search(folder: Path, beams: int, length_penalty: float, precision: str) -> Search:
    """transformers' `generate`; its scores are log p / n^length_penalty."""
    from transformers import GenerationConfig, MarianMTModel

    model: Any = MarianMTModel.from_pretrained(folder / MODEL, dtype=DTYPES[precision]).eval()
    own = model.config
    settings = GenerationConfig(
        num_beams=beams,
        length_penalty=length_penalty,
        eos_token_id=own.eos_token_id,
        pad_token_id=own.pad_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
    )

    @torch.inference_mode()
    def search(source: Tensor, lengths: Tensor, most: int) -> list[list[int]]:
        mask = torch.arange(source.shape[1]) < lengths.unsqueeze(1)  # (S, N)
        rows = model.generate(source, settings, attention_mask=mask.long(), max_new_tokens=most)[:, 1:].tolist()
        return [row[: row.index(own.eos_token_id) + 1] if own.eos_token_id in row else row for row in rows]

    return search


SIDES = {"ours": our_search, "transformers": their_search}


def translate(
    seed: int, side: str, folder: str, rows: int, beams: int, length_penalty: float, precision: str, result: str
) -> dict[str, float]:
    """Translates all sources, `rows` of about equal length at a time, and leaves the tokens in the file `result`."""
    keep_freed_memory()
    search = SIDES[side](Path(folder), beams, length_penalty, precision)
    sources, pad = Ragged.of(read_json(Path(folder) / SOURCES)["sources"]), 0
    batches = evaluation_batches(sources.lengths, rows)
    search(*sources.padded(batches[-1][:4], pad), 4)  # unmeasured: libraries start
    wall, core = time.perf_counter(), time.process_time()
    most = most_tokens(int(sources.lengths.max()))  # the same however many are translated at once
    found = [search(*sources.padded(batch, pad), most) for batch in batches]
    wall, core = time.perf_counter() - wall, time.process_time() - core
    hypotheses = restored(batches, found, len(sources))
    Path(result).write_text(json.dumps(hypotheses))
    return {
        "decoding_core_seconds": core,
        "decoding_seconds": wall,
        "sentences_per_core_second": len(sources) / core,
        "tokens": sum(map(len, hypotheses)),
    }
