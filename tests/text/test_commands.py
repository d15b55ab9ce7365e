"""The text commands as a user runs them: mistakes, messages, folders, budgets, export, and what they import."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.config import PositionConfig, TransformerConfig
from core.optim.config import OptimizerConfig
from core.training.metrics import read_metrics
from tests.processes import Command
from tests.text.processes import TINY, written
from text.config import LanguageModellingConfig
from text.models.gpt import GPTConfig
from text.train import train

ROOT = Path(__file__).parents[2]


# Bad input is explained in one line

TRAIN = ("--steps", 3, "--data", "{place}/text.txt", "--out", "{place}/new")
BAD_INPUT = {
    "an empty file": ((*TRAIN, "--data", "{place}/empty.txt"), "empty.txt is empty"),
    "not UTF-8": ((*TRAIN, "--data", "{place}/latin.txt"), "byte 0xfc at offset 2"),
    "shorter than a context": ((*TRAIN, "--data", "{place}/short.txt"), "context of 16"),
    "a held-out part that is": ((*TRAIN, "--validation", 0.0005), "validation text"),
    "one character": ((*TRAIN, "--data", "{place}/one.txt"), "one.txt is too short"),
    "no such file": ((*TRAIN, "--data", "{place}/no.txt"), "data = '{place}/no.txt'"),
    "an unknown name": ((*TRAIN, "--data", "shakespear"), "'shakespeare'?"),
    "no such tokenizer": ((*TRAIN, "--tokenizer", "words"), "char, byte, bpe, wordpiece, gpt2"),
    "a flag without effect": ((*TRAIN, "--bpe-size", 300), "--bpe-size has no effect"),
    "a shape beside a public one": ((*TRAIN, "--init-from", "{place}"), "--model.core.dim has no effect"),
    "no public model": ((*TRAIN, "--init-from", "{place}/no"), "no is not a folder"),
    "too small a vocabulary": ((*TRAIN, "--model.vocab-size", 5), "model.vocab_size = 5"),
    "a flag without value": ((*TRAIN, "--out"), "--out"),
}


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
        (("train",), "char-cpu"),
        (("train", "--resume"), "--out"),
        (("train", "char-cp"), "'char-cpu'?"),
        (("evaluate",), "python -m text.evaluate DIR"),
        (("evaluate", "nosuchdir"), "nosuchdir is not a run folder"),
        (("sample", "--prompt", "x"), "python -m text.sample DIR"),
        (("sample", "/"), "config.json"),
        (("sample", "{run}", "--prompt", "The", "--tokens", 0), "tokens = 0"),
        (("sample", "{run}", "--temperature", -1), "temperature = -1.0"),
        (("sample", "{run}", "--beams", 2, "--top-k", 3), "--top-k has no effect"),
        (("sample", "{run}", "--prompt", "The", "--stop", "the", "Ω"), "stop = 'Ω' is never written"),
        (("sample", "{run}", "--prompt", "The", "--stop", ""), "stop = ('',) must not be empty"),
        (("evaluate", "{run}", "--part", "whole"), "--part has no effect"),
        (("sample", "{run}", "--prompt", "A king"), "'A' (U+0041) at position 0"),
        (("sample", "{run}", "--prompt", "The queen"), "'q' (U+0071) at position 4"),
        (
            ("evaluate", "{run}", "--checkpoint", 7),
            "checkpoint = '7' is not one of: last, best, last-good, last-K, 15, ",
        ),
        (("evaluate", "{run}", "--batch-size", 0), "batch_size = 0"),
        (("evaluate", "{run}", "--data", "nosuch.txt"), "data = 'nosuch.txt'"),
        (("export", "{run}"), "--out"),
        (("export", "{run}", "--out", "{run}/x", "--family", "gpt3"), "model_type = 'gpt3'"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    command: Command, run_folder: Path, arguments: tuple[object, ...], message: str
) -> None:
    code, _, err = command(*(str(word).format(run=run_folder) for word in arguments))
    assert code == 2
    assert len(err) == 1
    assert err[0].startswith("error: ")
    assert message in err[0]


# Training


def test_training_reports_its_data_its_model_and_the_next_command(command: Command, place: Path) -> None:
    arguments = (*TINY, "--data", place / "text.txt", "--steps", 2, "--out", place / "first")
    code, out, err = command("train", *arguments)
    assert (code, out) == (0, "")
    assert re_any(r"text\.txt: [\d,]+ tokens.* [\d,]+ held out.* vocabulary of 3\d", err)
    assert re_any(rf"0\.0\d M parameters on cpu in fp32.* {place / 'first'}", err)
    assert re_any(r"step 2/2 +val/loss \d", err)
    assert err[-1].endswith(f"python -m text.sample {place / 'first'}")


def re_any(pattern: str, lines: list[str]) -> bool:
    return any(re.search(pattern, line) for line in lines)


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
        *("config.json", "metrics.jsonl", "checkpoints", "samples", "tokenizer.json", "data.json")
    }
    measured = read_metrics(run_folder)
    assert [line["step"] for line in measured if "val/loss" in line] == [15, 30, 40]
    assert [line["step"] for line in measured if "train/loss" in line] == list(range(1, 41))
    assert all(line["seconds"] >= 0 for line in measured)
    assert len((run_folder / "samples" / "step-00000040.txt").read_text()) == 16 + 12


def test_a_budget_of_minutes_is_spent_and_its_schedule_reaches_the_end(command: Command, place: Path) -> None:
    minutes, out = 0.03, place / "timed"
    arguments = (*TINY, "--data", place / "text.txt", "--minutes", minutes, "--save-every", 10_000, "--out", out)
    schedule = ("--schedule.kind", "wsd", "--schedule.decay", 0.5, "--schedule.final", 0)
    assert command("train", *arguments, *schedule, "--optimizer.lr", 1e-3)[0] == 0
    measured = [line for line in read_metrics(out) if "train/loss" in line]
    assert measured[-1]["seconds"] >= 60 * minutes
    rates = [line["train/lr"] for line in measured]
    assert rates[-1] < max(rates) / 2
    assert read_metrics(out)[-1].keys() >= {"val/loss"}


# Export


@pytest.fixture(scope="module")
def bpe_run(place: Path) -> Path:
    """A GPT-2 in small, of a byte-pair encoding learned from the text."""
    core = TransformerConfig(
        dim=16, depth=1, n_heads=2, bias="all", feedforward="gelu-tanh", position=PositionConfig("learned")
    )
    config = LanguageModellingConfig(
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
    assert "gpt2" in out
    assert {path.name for path in public.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    prompt = ("--prompt", "The king sees", "--tokens", 40, "--temperature", 0)
    assert written(command, public, *prompt) == written(command, bpe_run, *prompt)
    for beginning in ("", "The Ω is not in the text: ☃"):
        text = written(command, public, "--prompt", beginning, "--tokens", 4)
        assert text.startswith(beginning)
        assert "<|" not in text  # tokens that begin or end texts are not shown
    code, _, err = command("export", bpe_run, "--out", public)
    assert (code, len(err)) == (2, 1)
    assert f"{public} already exists" in err[0]


def test_what_a_family_cannot_express_is_not_exported(command: Command, run_folder: Path, place: Path) -> None:
    before = set(place.iterdir())
    code, _, [line] = command("export", run_folder, "--out", place / "llama", "--family", "llama")
    assert code == 2
    assert "'relu2'" in line
    assert set(place.iterdir()) == before


# What a command imports

PROBE = """
import sys
from core.cli.exits import main
from core.training.command import parse
from text.sample import sample
sample([sys.argv[1], "--prompt", "The", "--tokens", "3"])
loaded = lambda *names: [name for name in names if name in sys.modules]
print(loaded("accelerate", "torch._dynamo", "tokenizers", "huggingface_hub", "transformers", "datasets"))
from text.config import LanguageModellingConfig
from text.evaluate import evaluate_run
from text.export import export
from text.presets import PRESETS
from text.train import train
evaluate_run([sys.argv[1], "--json"])
train(parse(LanguageModellingConfig, PRESETS, ["--out", sys.argv[2], "--resume", "--steps", "26"]))
export([sys.argv[2], "--out", sys.argv[3]])
print(loaded("torchvision", "timm", "matplotlib", "gymnasium", "transformers", "datasets", "sklearn", "tensorboard"))
"""


def test_no_command_imports_what_it_does_not_use(run_folder: Path, bpe_run: Path, place: Path) -> None:
    again = shutil.copytree(bpe_run, place / "bpe again")
    command = [sys.executable, "-c", PROBE, run_folder, again, place / "exported"]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=200)
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[]", "[]"]
