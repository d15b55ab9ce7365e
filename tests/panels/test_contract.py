"""The contract that every panel's every task fulfils, by its public commands."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import text.trained as text_trained
import vision.trained as vision_trained
from core.cli.triptych import commands
from core.training.checkpoints import Checkpoints
from core.training.metrics import read_metrics
from tests.panels.models import build, example
from tests.panels.subjects import SUBJECTS, Subject
from tests.processes import Commands, assert_close, assert_same_run
from text.pretrained.folders import load_pretrained

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
PANELS = ("text", "vision", "decision")
LENGTH = ("--steps", 20, "--save-every", 4, "--eval-every", 8, "--accumulate", 2)


class Trial:
    """A subject with a folder of its own, and what its commands made there."""

    def __init__(self, subject: Subject, folder: Path):
        self.subject, self.folder = subject, folder
        self.commands, self.data = Commands(folder), subject.data(folder)

    def words(self, *more: object) -> tuple[object, ...]:
        return (*self.subject.small, "--data", self.data, *more)

    def train(self, *words: object) -> list[str]:
        """Trains, and returns what was said."""
        life = self.commands.run(f"{self.subject.panel}.train", *words)
        assert life.process.exitcode == 0, life.err
        return life.err

    def refused(self, *words: object) -> str:
        """The one line by which `train` refuses."""
        life = self.commands.run(f"{self.subject.panel}.train", *words)
        assert life.process.exitcode == 2, life.err
        [line] = life.err
        assert line.startswith("error: ")
        return line


@pytest.fixture(scope="module", params=SUBJECTS)
def trial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_DATA", str(folder / "cache"))
        yield Trial(SUBJECTS[request.param], folder)


@pytest.fixture(scope="module")
def whole(trial: Trial) -> Path:
    """A run that nothing interrupts, with everything that draws random numbers."""
    trial.train(*trial.words(*trial.subject.random, *LENGTH), "--out", trial.folder / "whole")
    return trial.folder / "whole"


# Runs survive


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_anywhere_it_resumes_bit_for_bit(trial: Trial, whole: Path, number: signal.Signals) -> None:
    cut = trial.folder / f"cut by {number.name}"
    words = trial.words(*trial.subject.random, *LENGTH)
    life = trial.commands.begin(f"{trial.subject.panel}.train", *words, "--out", cut)
    life.wait_for(lambda: max(Checkpoints(cut).steps(), default=0) >= 8)
    life.signal(number)
    assert life.end() in {-signal.SIGKILL if number == signal.SIGKILL else 130, 0}
    trial.train("--out", cut, "--resume")
    assert_same_run(whole, cut)


def test_however_a_batch_is_divided_the_losses_are_the_same(trial: Trial) -> None:
    """In micro-batches, and between two processes that also share the evaluation."""
    steady = ("--optimizer.muon-lr", 0.002)  # a step of Muon's multiplies differences of rounding
    words = trial.words(*trial.subject.divided, *steady, "--steps", 8, "--eval-every", 4)
    one, micro, two = (trial.folder / name for name in ("one", "micro", "two"))
    trial.train(*words, "--out", one)
    trial.train(*words, "--accumulate", 2, "--out", micro)
    lives = trial.commands.pair(f"{trial.subject.panel}.train", *words, "--out", two)
    assert [life.end() for life in lives] == [0, 0]
    assert_close(one, micro, 1e-5)
    assert_close(one, two, 1e-5)


@pytest.mark.slow
def test_shards_and_blocks_computed_again_make_the_same_losses(trial: Trial) -> None:
    """Between two processes of which each holds half of every weight, evaluated and sampled from as ever."""
    steady = ("--optimizer.muon-lr", 0.002, "--steps", 8, "--eval-every", 4)
    words = trial.words(*trial.subject.divided, *steady)
    one, two = trial.folder / "whole-weights", trial.folder / "sharded-weights"
    trial.train(*words, "--out", one)
    sharded = ("--distribute", "fsdp", "--remat", "selective")
    lives = trial.commands.pair(f"{trial.subject.panel}.train", *words, *sharded, "--out", two)
    assert [life.end(300) for life in lives] == [0, 0], lives[0].err
    assert_close(one, two, 1e-5)


@pytest.mark.slow
def test_a_plan_trains_nothing(trial: Trial) -> None:
    out = trial.folder / "planned"
    words = trial.words("--plan", "2xH100", "--distribute", "fsdp", "--remat", "selective", "--out", out)
    life = trial.commands.run(f"{trial.subject.panel}.train", *words)
    assert life.process.exitcode == 0, life.err
    shown = Path(life.streams.stdout).read_text(encoding="utf-8")
    assert "1/2 of every tensor on each device" in shown
    assert " per second, " in shown
    assert not out.exists()


def test_a_longer_budget_goes_on(trial: Trial, whole: Path) -> None:
    longer = shutil.copytree(whole, trial.folder / "longer")
    assert any("nothing left to do" in line for line in trial.train("--out", longer, "--resume"))
    trial.train("--out", longer, "--resume", "--steps", 22)
    assert [line["step"] for line in read_metrics(longer) if "train/loss" in line] == list(range(1, 23))


# Folders and figures are what the contract says


def test_a_run_folder_holds_what_the_contract_says(whole: Path) -> None:
    assert {"config.json", "metrics.jsonl", "checkpoints", "data.json"} <= {path.name for path in whole.iterdir()}
    measured = read_metrics(whole)
    assert [line["step"] for line in measured if "train/loss" in line] == list(range(1, 21))
    assert {line["step"] for line in measured if any(name.startswith("val/") for name in line)} == {8, 16, 20}
    assert Checkpoints(whole).steps()[-1] == 20
    assert not [path for path in whole.rglob("*") if path.suffix in {".pt", ".pkl", ".bin", ".part"}]


def test_evaluation_prints_one_flat_json_object(trial: Trial, whole: Path) -> None:
    log = trial.folder / "evaluated.json"
    life = trial.commands.run(f"{trial.subject.panel}.evaluate", whole, "--json", stdout=log)
    assert life.process.exitcode == 0, life.err
    figures = json.loads(log.read_text().splitlines()[-1], parse_constant=pytest.fail)
    assert figures["step"] in {8, 16, 20}
    assert not [name for name, value in figures.items() if isinstance(value, dict)]
    assert [name for name, value in figures.items() if "/" in name and isinstance(value, float)]


# Mistakes are one line, and nothing is written

BAD: dict[str, tuple[tuple[object, ...], tuple[str, ...]]] = {
    "an unknown flag": (("--model.core.dimm", 8), ("--model.core.dimm", "--model.core.dim")),
    "half a flag": (("--lr", 1), ("--lr", "--optimizer.lr")),
    "not a number": (("--seed", "one"), ("--seed", "one")),
    "not a choice": (("--optimizer.kind", "sgd"), ("--optimizer.kind", "sgd", "muon")),
    "an impossible shape": (("--model.core.n_heads", 3), ("n_heads = 3", "dim = ")),
    "an impossible value": (("--model.core.dropout", 1.5), ("dropout = 1.5", "below 1")),
    "two budgets": (("--steps", 3, "--minutes", 1), ("steps = 3", "minutes = 1.0")),
    "no budget": (("--steps", 0), ("steps = 0", "above 0")),
    "a batch that does not divide": (("--accumulate", 3), ("accumulate = 3", "batch_size = ")),
    "a flag without effect": (
        ("--schedule.kind", "constant", "--schedule.decay", 0.1),
        ("--schedule.decay", "no effect"),
    ),
    "no such precision": (("--precision", "fp16"), ("precision = 'fp16'", "CUDA")),
    "no such data": (("--data", "nowhere-to-be-found"), ("nowhere-to-be-found",)),
    "nothing to start from": (("--init-from", "{folder}/void"), ("void",)),
    "a word too many": (("more",), ("more",)),
    "nothing to resume": (("--resume",), ("never is not a run folder",)),
}


OF_THE_TASK = ("an impossible shape", "no such data", "nothing to start from", "nothing to resume")
MISTAKES = [(name, case) for name in SUBJECTS for case in BAD if name in PANELS or case in OF_THE_TASK]
"""The first task of a panel is tried with all of them; to the others, the command line is the same."""


@pytest.mark.parametrize(("trial", "case"), MISTAKES, indirect=["trial"])
def test_a_mistake_is_one_line_and_nothing_is_written(trial: Trial, case: str) -> None:
    flags, words = BAD[case]
    small = trial.subject.small[:1] if case == "nothing to start from" else trial.subject.small
    out, given = trial.folder / "never", [str(flag).format(folder=trial.folder) for flag in flags]
    line = trial.refused(*small, "--steps", 2, "--data", trial.data, "--out", out, *given)
    assert [word for word in words if word not in line] == []
    assert not out.exists()


def test_a_preset_that_is_not_there_is_named_with_the_nearest(trial: Trial) -> None:
    preset = str(trial.subject.small[0])
    line = trial.refused(preset[:-1], "--data", trial.data)
    assert f"'{preset[:-1]}'" in line
    assert preset in line


def test_a_folder_that_cannot_be_a_run_is_refused(trial: Trial, whole: Path) -> None:
    words = trial.words("--steps", 2)
    assert "--resume" in trial.refused(*words, "--out", whole)
    file = trial.folder / "file"
    file.touch()
    for out in (file, file / "below"):
        assert str(out) in trial.refused(*words, "--out", out)


def test_a_run_goes_on_with_its_own_settings_data_and_format_only(trial: Trial, whole: Path) -> None:
    out = shutil.copytree(whole, trial.folder / "misfits")
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    line = trial.refused("--out", out, "--resume", "--seed", 1)
    assert "seed = 0" in line
    assert " 1" in line
    trial.subject.change(trial.folder)
    assert str(out) in trial.refused("--out", out, "--resume", "--steps", 30)
    trial.subject.data(trial.folder)
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    config = out / "config.json"
    record = json.loads(config.read_text())
    config.write_text(json.dumps(record | {"format": record["format"] - 1}))
    assert str(config) in trial.refused("--out", out, "--resume")


# Presets

PARAMETERS = {
    "text/char-cpu": 803_072,
    "text/nanogpt-cpu": 804_096,
    "text/char-modern": 803_072,
    "text/nanogpt-gpu": 10_745_088,
    "text/char-gpu-modern": 10_666_752,
    "text/gpt2-124m": 124_475_904,
    "text/multi30k": 4_165_824,
    "text/multi30k-modern": 4_141_248,
    "text/multi30k-lstm": 2_390_400,
    "text/multi30k-bahdanau": 2_610_816,
    "text/multi30k-luong": 2_390_400,
    "text/char-lstm": 559_616,
    "text/mlm-cpu": 3_296_065,
    "text/t5-cpu": 6_330_624,
    "text/embed-cpu": 3_230_208,
    "text/sst2": 189_314,
    "text/ud-pos": 401_794,
    "text/protein-q3": 928_130,
    "text/instruct": 803_072,
    "text/prefer": 803_072,
    "vision/vit-digits": 150_219,
    "vision/vit-cifar-cpu": 1_188_874,
    "vision/vit-cifar-best": 14_171_146,
    "vision/cct-7-3x1": 3_765_515,
    "vision/fsdd": 341_194,
    "vision/fsdd-speakers": 426_154,
    "vision/vit-tiny": 5_526_346,
    "vision/vit-small": 21_669_514,
    "vision/vit-base": 85_806_346,
    "vision/flow-digits": 315_460,
    "vision/flow-mnist": 1_849_232,
    "vision/flow-icons": 2_880_944,
    "vision/judge-icons": 965_504,
    "vision/pixels-digits": 201_152,
    "vision/pixels-icons": 1_387_264,
    "vision/flow-cifar": 32_505_228,
    "decision/cartpole": 163_458,
    "decision/lunarlander": 721_412,
    "decision/hopper-medium": 721_667,
    "decision/hopper-medium-replay": 721_667,
    "decision/halfcheetah-medium": 723_206,
    "decision/halfcheetah-medium-replay": 723_206,
    "decision/walker2d-medium": 723_206,
    "decision/walker2d-medium-replay": 723_206,
}
"""Trainable parameters of each preset's model: for text with 65 characters unless it says otherwise, for vision with
the channels and classes of the data it names, for decision in CartPole or Hopper."""


LOOKING = (
    *("decision/", "vision/fsdd", "text/multi30k-lstm", "text/multi30k-bahdanau", "text/multi30k-luong", "text/sst2"),
)
"""Action heads look at the bounds of their space, packed sequences and sounds at their lengths, words at how many there
are."""


def presets() -> list[str]:
    return [f"{panel}/{name}" for panel in PANELS for name in importlib.import_module(f"{panel}.presets").PRESETS]


@pytest.mark.parametrize("name", presets())
def test_a_preset_builds_and_predicts(name: str) -> None:
    """On the meta device, where nothing looks at numbers."""
    with torch.device("cpu" if name.startswith(LOOKING) else "meta"):
        model = build(name).eval()
        prediction = model(*example(model))
    first = prediction[0] if isinstance(prediction, tuple) else prediction
    assert first.shape[0] == 2
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


# What leaves comes back


def test_an_exported_text_model_comes_back_with_the_same_logits(tmp_path: Path) -> None:
    trial = Trial(SUBJECTS["text"], tmp_path)
    shape = ("--model.core.bias", "all", "--model.core.feedforward", "gelu-tanh", "--model.core.dim", 32)
    words = ("nanogpt-cpu", *shape, "--model.context", 16, "--data", trial.data, "--steps", 2, "--device", "cpu")
    trial.train(*words, "--out", tmp_path / "run")
    life = trial.commands.run("text.export", tmp_path / "run", "--out", tmp_path / "left", "--family", "gpt2")
    assert life.process.exitcode == 0, life.err
    ids = torch.arange(24).view(2, 12)
    ours, back = text_trained.load(tmp_path / "run").model, load_pretrained(tmp_path / "left")
    torch.testing.assert_close(back(ids), ours(ids), atol=1e-6, rtol=0)


def test_an_exported_image_model_predicts_the_same(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    trial = Trial(SUBJECTS["vision"], tmp_path)
    trial.train(*trial.words("--steps", 2), "--out", tmp_path / "run")
    life = trial.commands.run("vision.export", tmp_path / "run", "--onnx", tmp_path / "left.onnx")
    assert life.process.exitcode == 0, life.err
    session, run = onnxruntime.InferenceSession(tmp_path / "left.onnx"), vision_trained.load(tmp_path / "run")
    pixels = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (run.preparation.mean, run.preparation.std))
    [taken] = session.get_inputs()
    [logits] = session.run(None, {taken.name: pixels.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), run.model((pixels - mean) / std), atol=1e-4, rtol=0)


# Words of a command line, for every command


EMPTY: dict[str, tuple[str, ...]] = {
    "text.train": ("char-cpu", "--data", ""),
    "text.evaluate": ("",),
    "text.sample": ("",),
    "text.explain": ("", "--prompt", "a", "--out", "a.png"),
    "text.export": ("run", "--out", ""),
    "text.chat": ("",),
    "text.classify": ("run", ""),
    "text.embed": ("run", ""),
    "text.fill": ("run", ""),
    "text.tag": ("run", ""),
    "text.tokenize": ("", "--tokenizer", "byte", "--out", "tokens"),
    "text.translate": ("",),
    "vision.train": ("vit-digits", "--out="),
    "vision.evaluate": ("run", "--data", " "),
    "vision.predict": ("run", ""),
    "vision.explain": ("", "image.png"),
    "vision.export": ("",),
    "vision.generate": ("",),
    "decision.train": ("--out", "", "--resume"),
    "decision.evaluate": ("",),
    "decision.collect": ("--join", "a.npz", ""),
    "decision.rollout": ("run", "--video="),
    "decision.finetune": ("",),
    "decision.explain": ("", "--out", "a.png"),
    "decision.export": ("run", "--onnx="),
}


def test_every_command_is_tried_with_an_empty_word() -> None:
    assert {f"{panel}.{name}" for panel in PANELS for name, _ in commands(panel)} == {*EMPTY}


@pytest.mark.parametrize("command", EMPTY)
def test_an_empty_word_is_refused_by_name(command: str, tmp_path: Path) -> None:
    """As an unset variable gives it: it would be the working directory, and all that is below it."""
    life = Commands(tmp_path).run(command, *EMPTY[command])
    assert life.process.exitcode == 2
    [line] = life.err
    assert "is empty" in line, line


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("text.train char-cpu --block-size 64", "--model.context"),
        ("text.train char-cpu --n_embd 64", "--model.core.dim"),
        ("text.sample run --max-new-tokens 9", "--tokens"),
        ("vision.train vit-digits --img-size 32", "--model.image-size"),
        ("vision.train vit-digits --drop-path-rate 0.1", "--model.core.drop-path"),
        ("decision.train cartpole --env-id CartPole-v1", "--env"),
        ("decision.rollout run --rtg 100", "--target-return"),
    ],
)
def test_a_name_of_another_project_leads_to_ours(words: str, option: str, tmp_path: Path) -> None:
    command, *rest = words.split()
    life = Commands(tmp_path).run(command, *rest)
    [line] = life.err
    assert (life.process.exitcode, line.endswith(f"did you mean {option}?")) == (2, True), line
