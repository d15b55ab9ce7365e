"""The text commands as their users meet them: mistakes, messages, folders, budgets, export, and what they cost."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from core.config import PositionConfig, TransformerConfig
from core.optim.config import OptimizerConfig
from core.training.metrics import read_metrics
from tests.processes import Command
from tests.text.processes import TINY, written
from text.config import TrainConfig
from text.models.gpt import GPTConfig
from text.train import train

ROOT = Path(__file__).parents[2]


# What is wrong with the input is said in one line.

TRAIN = ("--steps", 3, "--data", "{place}/text.txt", "--out", "{place}/new")
BAD_INPUT = {
    "an empty file": ((*TRAIN, "--data", "{place}/empty.txt"), "empty.txt is empty: there is no text to learn from"),
    "not UTF-8": ((*TRAIN, "--data", "{place}/latin.txt"), "latin.txt is not UTF-8 text: byte 0xfc at offset 2"),
    "shorter than a context": ((*TRAIN, "--data", "{place}/short.txt"), "needs at least 17: take a longer text"),
    "a held-out part that is": ((*TRAIN, "--validation", 0.0005), "the validation text has"),
    "one character": ((*TRAIN, "--data", "{place}/one.txt"), "one.txt is too short to be split: it has 1 characters"),
    "no such file": ((*TRAIN, "--data", "{place}/no.txt"), "there is no text or file '{place}/no.txt'"),
    "an unknown name": ((*TRAIN, "--data", "shakespear"), "did you mean 'shakespeare'?"),
    "no such tokenizer": ((*TRAIN, "--tokenizer", "words"), "tokenizer must be char, byte, bpe, gpt2 or the path"),
    "an unknown flag": ((*TRAIN, "--model.core.dimm", 8), "--model.core.dimm; did you mean --model.core.dim?"),
    "half a flag": ((*TRAIN, "--lr", 1), "unknown option --lr; did you mean --optimizer.lr?"),
    "an impossible shape": ((*TRAIN, "--model.core.n_heads", 3), "n_heads = 3 must divide dim = 32"),
    "an impossible value": ((*TRAIN, "--model.core.dropout", 1.5), "dropout = 1.5"),
    "not a number": ((*TRAIN, "--seed", "one"), "--seed"),
    "not a choice": ((*TRAIN, "--optimizer.kind", "sgd"), "--optimizer.kind: invalid choice: 'sgd'"),
    "two budgets": ((*TRAIN, "--minutes", 1), "steps = 3 and minutes = 1.0: exactly one must be given"),
    "no budget": ((*TRAIN, "--steps", 0), "steps = 0 must be above 0"),
    "an odd batch": ((*TRAIN, "--accumulate", 3), "accumulate = 3 must divide batch_size = 4"),
    "a flag without effect": ((*TRAIN, "--bpe-size", 300), "--bpe-size has no effect: only the tokenizer bpe"),
    "a shape beside a public one": ((*TRAIN, "--init-from", "{place}"), "--model.core.dim has no effect: init_from"),
    "no public model": ((*TRAIN, "--init-from", "{place}/no"), "no is not a folder, nor the name of a model"),
    "too small a vocabulary": ((*TRAIN, "--model.vocab-size", 5), "model.vocab_size = 5 is below the"),
    "no such device": ((*TRAIN, "--precision", "fp16"), "precision = 'fp16' needs a CUDA device"),
    "no folder can be there": ((*TRAIN, "--out", "{place}/text.txt/new"), "/new: no run can be written there: "),
    "a file is there": ((*TRAIN, "--out", "{place}/text.txt"), "text.txt: no run can be written there: "),
    "nothing to resume": ((*TRAIN, "--resume"), "{place}/new is not a run folder: it has no config.json"),
    "not a flag": ((*TRAIN, "more"), "unexpected word 'more'"),
    "a flag without value": ((*TRAIN, "--out"), "--out: expected one argument"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(command: Command, place: Path, case: str) -> None:
    for name, content in (("empty", b""), ("latin", b"Gr\xfc\xdfe\n" * 99), ("short", b"A few words."), ("one", b"x")):
        (place / f"{name}.txt").write_bytes(content)
    before = {path: path.stat().st_mtime_ns for path in place.iterdir() if path.name != "data"}
    arguments, message = BAD_INPUT[case]
    base = TINY
    if case == "no public model":  # TINY describes a shape
        base = ("nanogpt-cpu",)
    code, out, err = command("train", *base, *(str(word).format(place=place) for word in arguments))
    assert (code, out) == (2, "")
    assert len(err) == 1
    assert err[0].startswith("error: ")
    assert message.format(place=place) in err[0]
    assert {path: path.stat().st_mtime_ns for path in place.iterdir() if path.name != "data"} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "error: name a preset first: char-cpu, "),
        (("train", "--resume"), "error: name the run folder with --out, or a preset: char-cpu, "),
        (("train", "char-cp"), "error: unknown preset 'char-cp'; did you mean 'char-cpu'?"),
        (("evaluate",), "error: name the run folder first: python -m text.evaluate DIR [options]"),
        (("evaluate", "nosuchdir"), "error: nosuchdir is not a run folder: it has no config.json"),
        (("sample", "--prompt", "x"), "error: name the run folder first: python -m text.sample DIR [options]"),
        (("sample", "/"), "error: there is no config.json in /"),
        (("sample", "{run}", "--prompt", "The", "--tokens", 0), "error: tokens = 0 must be above 0"),
        (("sample", "{run}", "--temperature", -1), "error: temperature = -1.0 must be at least 0"),
        (("sample", "{run}", "--beams", 2, "--top-k", 3), "error: --top-k has no effect: beam search"),
        (("sample", "{run}", "--prompt", "The", "--stop", "and"), "error: stop = 'and' is 3 tokens, not one"),
        (("sample", "{run}", "--prompt", "A king"), "error: the character 'A' (U+0041) at position 0 is not among the"),
        (("sample", "{run}", "--prompt", "The queen"), "error: the character 'q' (U+0071) at position 4 is not among"),
        (
            ("evaluate", "{run}", "--checkpoint", 7),
            "error: checkpoint = '7' is not one of: last, best, last-good, 15, ",
        ),
        (("evaluate", "{run}", "--batch-size", 0), "error: batch_size = 0 must be above 0"),
        (("evaluate", "{run}", "--data", "nosuch.txt"), "error: there is no text or file 'nosuch.txt'"),
        (("export", "{run}"), "error: out is missing: name the new folder with --out"),
        (("export", "{run}", "--out", "{run}/x", "--family", "gpt3"), "error: model_type = 'gpt3' is not a family"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    command: Command, run_folder: Path, arguments: tuple[object, ...], message: str
) -> None:
    code, _, err = command(*(str(word).format(run=run_folder) for word in arguments))
    assert code == 2
    assert len(err) == 1
    assert err[0].startswith(message)


# Training


def test_a_newcomer_is_told_what_is_trained_and_what_to_do_next(command: Command, place: Path) -> None:
    arguments = (*TINY, "--data", place / "text.txt", "--steps", 2, "--out", place / "first")
    code, out, err = command("train", *arguments)
    assert (code, out) == (0, "")
    assert re_any(r"text\.txt: [\d,]+ tokens to learn from, [\d,]+ held out, 3\d different ones", err)
    assert re_any(rf"0\.0\d M parameters on cpu in fp32; the run is in {place / 'first'}", err)
    assert re_any(r"step 2/2 +val/loss \d", err)
    assert err[-1] == f"done; let it write with: python -m text.sample {place / 'first'}"


def re_any(pattern: str, found: list[str]) -> bool:
    return any(re.search(pattern, line) for line in found)


@pytest.mark.parametrize("name", ["train", "evaluate", "sample", "export"])
def test_help_explains_every_field_with_its_default(command: Command, name: str) -> None:
    code, out, err = command(name, "--help")
    assert (code, err) == (0, [])
    words = " ".join(out.split())
    flags = [word for word in out.replace("│", " ").split() if word.startswith("--") and "/" not in word]
    assert len(set(flags)) >= 4
    assert words.count("(default: ") + words.count("(required)") >= len(set(flags)) - 3  # --help, --no-resume, --json


def test_a_run_folder_holds_what_the_contract_says(run_folder: Path) -> None:
    assert {path.name for path in run_folder.iterdir()} == {
        *("config.json", "metrics.jsonl", "checkpoints", "samples", "tokenizer.json", "text.json")
    }
    measured = read_metrics(run_folder)
    assert [line["step"] for line in measured if "val/loss" in line] == [15, 30, 40]
    assert [line["step"] for line in measured if "train/loss" in line] == list(range(1, 41))
    assert all(line["seconds"] >= 0 for line in measured)
    assert len((run_folder / "samples" / "step-00000040.txt").read_text()) == 16 + 12


def test_a_longer_budget_goes_on(command: Command, run_folder: Path, place: Path) -> None:
    out = shutil.copytree(run_folder, place / "longer")
    assert command("train", "--out", out, "--resume")[2][-2].startswith("nothing left to do: ")
    code, _, err = command("train", "--out", out, "--resume", "--steps", 45)
    assert code == 0
    assert err[0] == f"resuming {out} at step 40"
    assert [line["step"] for line in read_metrics(out) if "train/loss" in line] == list(range(1, 46))


@pytest.mark.usefixtures("run_folder")  # so that everything is imported before the clock starts
def test_a_budget_of_minutes_ends_in_time_and_its_schedule_reaches_the_end(command: Command, place: Path) -> None:
    minutes, out = 0.03, place / "timed"
    arguments = (*TINY, "--data", place / "text.txt", "--minutes", minutes, "--save-every", 10_000, "--out", out)
    schedule = ("--schedule.kind", "wsd", "--schedule.decay", 0.5, "--schedule.final", 0)
    assert command("train", *arguments, *schedule, "--optimizer.lr", 1e-3)[0] == 0
    measured = [line for line in read_metrics(out) if "train/loss" in line]
    longest = max(b["seconds"] - a["seconds"] for a, b in pairwise(measured))
    assert 60 * minutes <= measured[-1]["seconds"] <= 60 * minutes + 2 * longest
    assert measured[-1]["train/lr"] <= 1e-3 * 2 * longest / (60 * minutes * 0.5) + 1e-9
    assert max(line["train/lr"] for line in measured) == pytest.approx(1e-3)
    assert read_metrics(out)[-1].keys() >= {"val/loss"}


# Export


@pytest.fixture(scope="module")
def bpe_run(place: Path) -> Path:
    """A GPT-2 in small, of a byte-pair encoding learned from the text."""
    core = TransformerConfig(
        dim=16, depth=1, n_heads=2, bias="all", feedforward="gelu-tanh", position=PositionConfig("learned")
    )
    config = TrainConfig(
        out=place / "bpe",
        data=str(place / "text.txt"),
        tokenizer="bpe",
        bpe_size=280,
        steps=25,
        batch_size=4,
        precision="fp32",
        device="cpu",
        sample=5,
        optimizer=OptimizerConfig(lr=1e-2),
        model=GPTConfig(context=16, core=core),
    )
    train(config)
    return config.out


def test_an_exported_run_writes_the_same_text(command: Command, bpe_run: Path, place: Path) -> None:
    public = place / "public"
    code, out, err = command("export", bpe_run, "--out", public)
    assert (code, err) == (0, [])
    assert out == f"wrote step 25 of {bpe_run} to {public} as gpt2\n"
    assert {path.name for path in public.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    prompt = ("--prompt", "The king sees", "--tokens", 40, "--temperature", 0)
    assert written(command, public, *prompt) == written(command, bpe_run, *prompt)
    for beginning in ("", "The Ω is not in the text: ☃"):
        text = written(command, public, "--prompt", beginning, "--tokens", 4)
        assert text.startswith(beginning)
        assert "<|" not in text  # tokens that begin or end texts are not shown
    code, _, err = command("export", bpe_run, "--out", public)
    assert (code, err) == (2, [f"error: {public} is already there: give the name of a new folder"])


def test_what_a_family_cannot_express_is_not_exported(command: Command, run_folder: Path, place: Path) -> None:
    before = set(place.iterdir())
    code, _, [line] = command("export", run_folder, "--out", place / "llama", "--family", "llama")
    assert code == 2
    assert "'relu2'" in line
    assert set(place.iterdir()) == before


# What a command costs

PROBE = """
import sys
from core.cli.exits import main
from core.training.command import parse
from text.sample import sample
sample([sys.argv[1], "--prompt", "The", "--tokens", "3"])
loaded = lambda *names: [name for name in names if name in sys.modules]
print(loaded("accelerate", "torch._dynamo", "tokenizers", "huggingface_hub", "transformers", "datasets"))
from text.config import TrainConfig
from text.evaluate import evaluate_run
from text.export import export
from text.presets import PRESETS
from text.train import train
evaluate_run([sys.argv[1], "--json"])
train(parse(TrainConfig, PRESETS, ["--out", sys.argv[2], "--resume", "--steps", "26"]))
export([sys.argv[2], "--out", sys.argv[3]])
print(loaded("torchvision", "timm", "matplotlib", "gymnasium", "transformers", "datasets", "sklearn", "tensorboard"))
"""


def test_no_command_pays_for_what_it_does_not_use(run_folder: Path, bpe_run: Path, place: Path) -> None:
    again = shutil.copytree(bpe_run, place / "bpe again")
    command = [sys.executable, "-c", PROBE, run_folder, again, place / "exported"]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=200)
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[]", "[]"]
