"""What after-training reaches on a CPU: LoRA beside full fine-tuning, six skills, preferences, a 135 M model's memory.

python -m benchmarks.after_training [--parts lora,skills,preferences,memory] [--seeds 0,1,2] [--steps N]

- lora: a model of bytes learns tiny Shakespeare, then Python's own documentation (`--data pydoc`), by all of its
  weights and by LoRA of rank 8, in as many steps. `share` is the part of full fine-tuning's fall of the loss that LoRA
  reaches; `parameters`, what it trains as a part of the weights.
- skills: the preset instruct; the part of the held-out questions whose answer is right to the letter.
- preferences: a model learns the skills from answers of which half are a word and half a sentence; the preset prefer
  then learns that a sentence is better. Of answers of either model: the part that is right, in a word or a sentence.
- memory: LoRA on a model of 135 million random weights (30 layers, 576 wide, 9 heads, 3 of keys, 49,152 tokens), 50
  steps of 1,024 tokens: the most memory that the process held, and core-seconds.

Run folders stay in runs/after_training: what is finished there is not trained again. Each part replaces its own
figures in benchmarks/results/after_training.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from benchmarks.measure.harness import last_json
from benchmarks.measure.options import add_results, check_known, integers, names, parser_of
from benchmarks.measure.record import ROOT, number, provenance, table, update
from benchmarks.peers.nanogpt import run_timed
from core.cli.exits import main
from core.config import PositionConfig, TransformerConfig
from core.decoding.filters import Sampling
from core.files.atomic import write_text
from core.files.json_files import read_json
from core.memory import children_peak_memory
from core.training.checkpoints import Checkpoints
from text.conversations.messages import Message
from text.conversations.skills import skills
from text.conversations.template import saved_template
from text.models.gpt import GPT, GPTConfig
from text.pretrained.folders import CONFIG, export_pretrained
from text.trained import load
from text.using.answering import Answering

NAME = "after_training"
WIDE = "--tokenizer byte --model.core.dim 448 --model.core.n-heads 7 --model.head tied --sample 0"
FASTER = "--optimizer.lr 1.5e-3 --optimizer.weight-decay 0 --adapter.alpha 128"
LORA = "--adapter lora --adapter.rank 8 --adapter.targets all"
SMOL = GPTConfig(
    vocab_size=49_152,
    context=1024,
    core=TransformerConfig(
        dim=576, depth=30, n_heads=9, n_kv_heads=3, ffn_dim=1536, feedforward="swiglu", norm="rmsnorm", bias="none",
        position=PositionConfig("rotary", pairing="halves"),
    ),
)  # fmt: skip
"""The shape of SmolLM2-135M."""
SMALL = replace(SMOL, vocab_size=300, core=replace(SMOL.core, dim=36, depth=2, ffn_dim=48))
TESTED, ANSWER = 600, 40  # questions, and tokens of an answer and of what ends it, at most
Figures = dict[str, float]


# ---------------------------------------------------------------------------------------------- commands


def train(folder: Path, *words: object) -> float:
    """`text.train`, unless the folder holds a finished run; one that was interrupted goes on. Its core-seconds."""
    if finished(folder):
        return 0.0
    again = ["--resume"] if (folder / CONFIG).exists() else []
    return command("text.train", *words, "--device", "cpu", "--out", folder, *again)[0]["train_core_seconds"]


def finished(folder: Path) -> bool:
    """Whether the last step of a run's budget is saved."""
    saved = Checkpoints(folder).steps()
    return bool(saved) and saved[-1] == read_json(folder / CONFIG)["config"]["steps"]


def evaluate(folder: Path, *words: object) -> Mapping[str, Any]:
    """What `text.evaluate` says of the last weights."""
    return last_json(command("text.evaluate", folder, "--checkpoint", "last", "--device", "cpu", "--json", *words)[1])


def command(module: str, *words: object) -> tuple[Figures, str]:
    """Runs `python -m module`: the seconds that it took, and what it printed."""
    parts = (part for word in words for part in (shlex.split(word) if isinstance(word, str) else [str(word)]))
    return run_timed([sys.executable, "-m", module, *parts], ROOT)


def steps_of(options: argparse.Namespace, usual: int) -> str:
    """The budget of a training, unless --steps says otherwise."""
    return f"--steps {options.steps or usual}"


# ---------------------------------------------------------------------------------------------- the parts


def lora(options: argparse.Namespace, seed: int) -> Figures:
    """The fall of the loss on Python's help texts, by all weights and by LoRA, from the same Shakespeare."""
    folder = options.runs / "lora" / f"seed-{seed}"
    base, budget = folder / "shakespeare", f"--seed {seed} {steps_of(options, 700)}"
    train(base, "char-modern --data shakespeare", WIDE, budget)
    further = "char-modern --data pydoc --sample 0 --init-from", base, budget
    train(folder / "full", *further, options.full_options)
    train(folder / "lora", *further, LORA, options.lora_options)
    before = evaluate(base, "--data pydoc")["val/loss"]
    full, adapted = (evaluate(folder / name)["val/loss"] for name in ("full", "lora"))
    return {
        "before": before,
        "full": full,
        "lora": adapted,
        "share": (before - adapted) / (before - full),
        "parameters": trained_share(folder / "lora"),
    }


def trained_share(folder: Path) -> float:
    """Parameters of the adapters, as a part of those of the model beside which they stand."""
    sizes = [(p.numel(), p.requires_grad) for p in load(folder, "last", adapters="apart").model.parameters()]
    adapters = sum(size for size, trained in sizes if trained)
    return adapters / (sum(size for size, _ in sizes) - adapters)


def six_skills(options: argparse.Namespace, seed: int) -> Figures:
    """The preset instruct on its six skills."""
    folder = options.runs / "skills" / f"seed-{seed}"
    train(folder, "instruct", f"--seed {seed} {steps_of(options, 1000)}")
    found = evaluate(folder)
    return {name: found[f"val/{name}"] for name in ("exact_match", "loss")}


def preferences(options: argparse.Namespace, seed: int) -> Figures:
    """Skills answered in a word or in a sentence, as it comes, and the preset prefer on pairs of both."""
    folder, coins = options.runs / "preferences" / f"seed-{seed}", np.random.default_rng(seed)
    said, pairs = folder / "said.jsonl", folder / "pairs.jsonl"
    words = [(asked.content, word.content) for asked, word in skills()]
    learned, held_out = words[:-TESTED], words[-TESTED:]
    either = [(asked, word if coins.integers(2) else sentence(word)) for asked, word in learned]
    write_rows(said, [{"instruction": asked, "output": answer} for asked, answer in either])
    write_rows(pairs, [{"prompt": asked, "chosen": sentence(word), "rejected": word} for asked, word in learned])
    train(folder / "skills", "instruct --data", said, f"--seed {seed} {steps_of(options, 1000)}")
    spent = train(folder / "preferred", "prefer --data", pairs, "--init-from", folder / "skills", f"--seed {seed}")
    before, after = (answered(folder / name, held_out, seed) for name in ("skills", "preferred"))
    shares = {f"{what}, {when}": part[what] for what in before for when, part in (("before", before), ("after", after))}
    found = evaluate(folder / "preferred")
    return {**shares, **{name: found[f"val/{name}"] for name in ("accuracy", "reward_margin", "kl")}, "seconds": spent}


def sentence(word: str) -> str:
    """The same answer, in a sentence."""
    return f"It is {word}."


def write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    write_text(path, "\n".join(map(json.dumps, rows)) + "\n")


def answered(folder: Path, words: Sequence[tuple[str, str]], seed: int) -> Figures:
    """Of answers drawn at a temperature of 1, the part that are right in a word, and in a sentence."""
    trained = load(folder, "last")
    answering = Answering(trained.model, trained.tokenizer, saved_template(folder, trained.tokenizer))
    said = ["".join(answering.answer([Message("user", asked)], Sampling(), ANSWER, seed + n))
            for n, (asked, _) in enumerate(words)]  # fmt: skip
    right = {"word": [word for _, word in words], "sentence": [sentence(word) for _, word in words]}
    return {what: mean(map(str.__eq__, said, each)) for what, each in right.items()}


def memory(options: argparse.Namespace, seed: int) -> Figures:
    """One training of the large model; its memory is the most that any command of this benchmark held."""
    folder = options.runs / "memory" / f"seed-{seed}"
    if not (folder / "base").exists():
        torch.manual_seed(seed)
        export_pretrained(GPT(SMALL if options.tiny else SMOL), folder / "base", "llama", precision="bf16")
    words = "instruct --tokenizer byte --template chatml --batch-size 4 --model.context 256 --init-from"
    spent = train(folder / "run", words, folder / "base", LORA, f"--seed {seed} {steps_of(options, 50)}")
    return {
        "peak_gb": children_peak_memory() / 1e9,
        "core_seconds": spent,
        "parameters": trained_share(folder / "run"),
    }


PARTS: dict[str, Callable[[argparse.Namespace, int], Figures]] = {
    "lora": lora,
    "skills": six_skills,
    "preferences": preferences,
    "memory": memory,
}


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a part that is none."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--parts", type=names, default=[*PARTS], help=f"of {','.join(PARTS)}")
    parser.add_argument("--seeds", type=integers, default=[0], help="of the trainings")
    parser.add_argument("--steps", type=int, default=0, help="of each training; default: 700, 1,000, 1,000 and 50")
    parser.add_argument("--full-options", default="", help="lora: more options of the training of all weights")
    parser.add_argument("--lora-options", default=FASTER, help="lora: more options of the training of adapters")
    parser.add_argument("--tiny", action="store_true", help="memory: a small model, to try")
    parser.add_argument("--runs", type=Path, default=Path("runs") / NAME, help="folder of the run folders")
    add_results(parser)
    options = parser.parse_args(argv)
    check_known(options, parts=PARTS)
    options.runs = options.runs.absolute()
    return options


def run(options: argparse.Namespace) -> None:
    """Every part asked for, over the seeds, printed and saved as soon as it is measured."""
    for part in options.parts:
        found = [PARTS[part](options, seed) for seed in options.seeds]
        print(f"\n## {part}\n\n{shown(found)}", flush=True)
        update(
            NAME,
            {part: {"seeds": dict(zip(map(str, options.seeds), found, strict=True)), **provenance()}},
            options.results,
        )


def shown(found: Sequence[Figures]) -> str:
    """A row for each figure: its mean, and every seed."""
    rows = [[name, *(number(value) for value in (mean(each), *each))] for name, each in over_seeds(found).items()]
    return table(["", "mean", *(f"seed {place}" for place in range(len(found)))], rows)


def over_seeds(found: Sequence[Figures]) -> dict[str, list[float]]:
    return {name: [one[name] for one in found] for name in found[0]}


if __name__ == "__main__":
    main(lambda: run(parse()))
