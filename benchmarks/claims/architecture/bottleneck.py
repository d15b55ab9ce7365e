"""Bottleneck: sequences reversed and copied through one vector, with attention of 2014 and 2015, by a Transformer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.claims.common import Claim, Finding, Lab, fit, generator, parameters, percent, seeded
from benchmarks.claims.materials.ladder import LEAST_GAIN, ladder
from benchmarks.claims.picture import Lines
from benchmarks.claims.verdict import Condition
from core.config import PositionConfig
from core.optim.config import OptimizerConfig
from text.models.build import build_model
from text.models.encoder_decoder import EncoderDecoderConfig
from text.models.recurrent_seq2seq import RecurrentSeq2SeqConfig
from text.presets import MUON, modern_core

SYMBOLS, START, LONGEST, BATCH = 32, 32, 20, 128
LENGTHS, WIDTHS, WIDTH = (5, 10, 15, 20), (32, 64, 128, 256), 64
LSTM = RecurrentSeq2SeqConfig(SYMBOLS + 1, LONGEST + 1, dim=WIDTH, attention="none", encoder="forward", start=START)
TRANSFORMER = EncoderDecoderConfig(
    SYMBOLS + 1,
    LONGEST + 1,
    head="untied",
    start=START,
    core=replace(modern_core(48, 1, 4), position=PositionConfig("learned")),
)
RUNGS: dict[str, Any] = {
    "LSTM, one vector": LSTM,
    "LSTM, additive attention": replace(LSTM, attention="additive", dim=54),
    "LSTM, general attention": replace(LSTM, attention="general", dim=58),
    "Transformer": TRANSFORMER,
}
Task = Literal["reversal", "copying"]
ENDS = ("LSTM, one vector", "Transformer")
ADAMW = OptimizerConfig(lr=5e-3, betas=(0.9, 0.99), weight_decay=0.0)


def rows_of(task: Task, length: int, rows: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sources, what the decoder reads, and what it is to say: 3 x int64 (rows, length)."""
    source = torch.randint(SYMBOLS, (rows, length), generator=g)
    said = source.flip(1) if task == "reversal" else source
    return source, torch.cat((torch.full((rows, 1), START), said[:, :-1]), dim=1), said


def draw(task: Task, g: torch.Generator) -> tuple[Tensor, ...]:
    """A batch of one length, 1 to 20."""
    return rows_of(task, int(torch.randint(1, LONGEST + 1, (), generator=g)), BATCH, g)


def loss(model: Any, source: Tensor, read: Tensor, said: Tensor) -> Tensor:
    return model.head.loss(model.features(source, None, read), said)


@torch.no_grad()
def right(model: nn.Module, task: Task, length: int, rows: int) -> tuple[float, float]:
    """The share of whole sequences, and of symbols, that are right, each symbol given the true ones before it.

    A sequence is right in this sense exactly where greedy decoding writes it.
    """
    source, read, said = rows_of(task, length, rows, generator(0, "test", length))
    hits = model(source, None, read).argmax(-1) == said
    return hits.all(1).float().mean().item(), hits.float().mean().item()


def learned(config: Any, task: Task, seconds: float, rows: int, seed: int) -> dict[str, list[float]]:
    """Accuracy by length, of sequences and of symbols."""
    model = seeded(seed, partial(build_model, config))
    optimizer = MUON if config is TRANSFORMER else ADAMW
    counted: Callable[..., int] = lambda *batch: batch[2].numel()  # noqa: E731
    fit(model, loss, partial(draw, task), seconds, seed, count=counted, optimizer=optimizer)
    whole, symbols = zip(*(right(model, task, length, rows) for length in LENGTHS), strict=True)
    return {"sequences": [*whole], "symbols": [*symbols]}


def row(name: str, config: Any, found: list[dict[str, list[float]]]) -> list[str]:
    """Of the table: parameters, sequences right by length, and single symbols at the longest."""
    lengths = (percent([one["sequences"][n] for one in found]) for n in range(len(LENGTHS)))
    size = parameters(build_model(config))
    return [name, f"{size:,}", *lengths, percent([one["symbols"][-1] for one in found])]


def judged(done: str, found: Mapping[str, list[dict[str, list[float]]]]) -> list[Condition]:
    """What both ends are to reach with the longest sequences."""
    vector, attention = (tuple(one["sequences"][-1] for one in found[name]) for name in ENDS)
    return [
        Condition(f"LSTM, one vector, {LONGEST} symbols {done}", vector, "at most", 0.5, 0.015),
        Condition(f"Transformer, {LONGEST} symbols {done}", attention, "at least", 0.99, 0.003),
    ]


def measure(lab: Lab) -> Finding:
    wider = {width: replace(LSTM, dim=width) for width in WIDTHS if width != WIDTH}
    seconds, rows = lab.seconds(len(RUNGS) + len(wider) + len(ENDS)), 64 if lab.quick else 1000

    def each(name: str, config: Any, task: Task = "reversal") -> list[dict[str, list[float]]]:
        return lab.each_seed(f"{name}, {task}", partial(learned, config, task, seconds, rows))

    found = {name: each(name, config) for name, config in RUNGS.items()}
    copied = {name: each(name, RUNGS[name], "copying") for name in ENDS}
    grown = {width: each(f"LSTM of {width}", config) for width, config in wider.items()} | {WIDTH: found[ENDS[0]]}
    shown = found | {f"{name}, copying": ones for name, ones in copied.items()}
    sequences = {name: [one["sequences"] for one in ones] for name, ones in shown.items()}
    table = [row(name, RUNGS[name], ones) for name, ones in found.items()]
    table += [row(f"{name}, copying", RUNGS[name], ones) for name, ones in copied.items()]
    table += [row(f"LSTM, one vector of {width}", config, grown[width]) for width, config in wider.items()]
    translated = ladder()
    widths = [[grown[width][seed]["symbols"][n] for width in WIDTHS] for seed in range(lab.seeds) for n in (1, 3)]
    return Finding(
        ["sequences reversed", "parameters", *(f"{n} symbols" for n in LENGTHS), f"single symbols at {LONGEST}"],
        table,
        [
            Lines("whole sequences that are right", "symbols of a sequence", "share", LENGTHS, sequences),
            Lines("LSTM: single symbols, by the vector's size", "channels", "share", WIDTHS,
                  {f"{LENGTHS[1]} symbols": widths[::2], f"{LENGTHS[3]} symbols": widths[1::2]}, ("log", "linear")),
            *translated.panels,
        ],
        [
            *judged("reversed", found),
            *judged("copied", copied),
            *translated.conditions,
        ],
        ["A sequence counts where all of its symbols are right. The recurrent rungs learn with AdamW at 5e-3, the "
         "Transformer with Muon.", translated.note],
    )  # fmt: skip


CLAIM = Claim(
    sentence="An encoder that squeezes a sequence into one vector loses long inputs; attention doesn't.",
    hypothesis=f"On reversing and on copying {LONGEST} of {SYMBOLS} symbols, an LSTM with one vector of {WIDTH} "
    "channels gets at most half of the sequences right, a Transformer of as many parameters at least 99 %. Where "
    f"Multi30k's ladder was run, a Transformer gains at least {LEAST_GAIN:g} BLEU more over an LSTM in the longest "
    "sentences than the shortest.",
    equal="parameters, to a tenth, of the first four; and core-seconds",
    measure=measure,
    minutes=36,
    least=10,
)
