"""Translation: what is learned, how it is measured, and the command that translates."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from core.optim.config import OptimizerConfig, ScheduleConfig
from core.training.order import Share
from tests.core.helpers import awake
from tests.processes import Command
from text.config import TranslationConfig
from text.corpus.sequences import Ragged, encode_all
from text.corpus.windows import IGNORED
from text.models.build import build_model
from text.models.encoder_decoder import shape_2017
from text.models.recurrent_seq2seq import RecurrentSeq2SeqConfig
from text.reports.bleu import by_length, cased, lower_cased
from text.tasks.translation import Translation, TranslationLoss, common_widths
from text.train import train
from text.trained import load
from text.using.translator import Translator

SHAPE = shape_2017(64, 2, n_heads=4, ffn_dim=128, dropout=0.0, context=40)


ENGLISH, GERMAN = "zero one two three four five six", "null eins zwei drei vier fünf sechs"


def numbers(folder: Path) -> Path:
    """Numbers of four to six digits to the base 7, in words of two languages."""
    rows = [[int(digit) for digit in np.base_repr(7**3 + 271 * row, 7)] for row in range(400)]
    lines = ["\t".join(" ".join(words.split()[digit] for digit in row) for words in (ENGLISH, GERMAN)) for row in rows]
    (folder / "pairs.tsv").write_text("\n".join(["source\ttarget", *lines, ""]), encoding="utf-8")
    return folder / "pairs.tsv"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("translation")


@pytest.fixture(scope="module")
def config(place: Path) -> TranslationConfig:
    return TranslationConfig(
        data=str(numbers(place)),
        out=place / "run",
        steps=400,
        batch_size=800,
        label_smoothing=0.0,
        bpe_size=401,
        eval_every=400,
        precision="fp32",
        device="cpu",
        optimizer=OptimizerConfig(lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0),
        schedule=ScheduleConfig("wsd", warmup=0.1, decay=0.5, final=0.0),
        model=SHAPE,
    )


@pytest.fixture(scope="module")
def run(config: TranslationConfig) -> Path:
    """A run that translates numbers from English to German, and has learned it."""
    figures = train(config)
    assert figures["val/bleu"] > 90, "100.0 with seeds 0 to 3"
    return config.out


def test_loss_is_the_mean_over_all_real_target_tokens(config: TranslationConfig) -> None:
    task = Translation.prepare(config)
    model = awake(build_model(task.config.model))
    objective = TranslationLoss(model, smoothing=0.0)
    by_hand, tokens = 0.0, 0
    rows = task.batches.batch(3)
    for row in rows.tolist():
        source, target = (torch.from_numpy(side[row].astype("int64")) for side in task.train)
        inputs = torch.cat((torch.tensor([task.ids.bos]), target[:-1]))
        logits = model(source[None], None, inputs[None])[0]
        by_hand += F.cross_entropy(logits, target, reduction="sum").item()
        tokens += len(target)
    for share in (Share(), Share(accumulate=2), Share(accumulate=3)):
        batches = task.order(3, share, 0.0)
        assert len(batches) == share.accumulate
        assert sum(int(task.count(*batch)) for batch in batches) == tokens
        assert sum(objective(*batch).item() for batch in batches) == pytest.approx(by_hand, rel=1e-5)
    parts = [task.order(3, Share(rank, 2), 0.0)[0] for rank in range(2)]
    assert sum(objective(*part).item() for part in parts) == pytest.approx(by_hand, rel=1e-5)


def test_targets_are_one_token_ahead_and_end(config: TranslationConfig) -> None:
    task = Translation.prepare(config)
    [(_, _, inputs, targets)] = task.order(0, Share(), 0.0)
    assert (inputs[:, 0] == task.ids.bos).all()
    real = targets != IGNORED
    assert torch.equal(inputs[:, 1:][real[:, :-1] & real[:, 1:]], targets[:, :-1][real[:, :-1] & real[:, 1:]])
    lasts = targets.gather(1, real.sum(1, keepdim=True) - 1)
    assert (lasts == task.ids.eos).all()


@pytest.mark.parametrize("beams", [1, 3])
def test_a_translation_does_not_depend_on_its_batch(run: Path, beams: int) -> None:
    trained = load(run)
    texts = ["one two three four", "six six zero one two", "four four zero one", "three one two two"]
    ids = Translator(trained.model, trained.tokenizer, trained.device).ids
    sources = encode_all(trained.tokenizer, texts, after=[ids.eos])
    found = [
        [[best.text for best in each] for each in translator.translate(sources)]
        for translator in (
            Translator(trained.model, trained.tokenizer, trained.device, rows=rows, beams=beams) for rows in (1, 2, 4)
        )
    ]
    assert found[0] == found[1] == found[2]
    learned = ["eins zwei drei vier", "sechs sechs null eins zwei", "vier vier null eins", "drei eins zwei zwei"]
    assert [each[0] for each in found[0]] == learned


def test_the_command_reads_arguments_files_and_standard_input(
    run: Path, place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "lines.txt").write_text("one two three four\n\nsix five four three\n", encoding="utf-8")
    words = command("translate", run, "one two three four", "six five four three")
    assert words[:2] == (0, "eins zwei drei vier\nsechs fünf vier drei\n")
    assert command("translate", run, "--file", place / "lines.txt", "--from", "source")[:2] == words[:2]
    monkeypatch.setattr("sys.stdin", io.StringIO("one two three four\nsix five four three\n"))
    assert command("translate", run)[:2] == words[:2]
    code, out, _ = command("translate", run, "six six one two", "--best", 2, "--alignment", place / "a.png")
    assert (code, out.count("\n")) == (0, 2)
    assert out.split()[1:5] == ["sechs", "sechs", "eins", "zwei"]
    assert (place / "a.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("one", "--from", "de"), ["source = 'de'", "'source'"]),
        (("one " * 60,), ["sentence 1", "40"]),
        (("one", "--best", 9), ["best = 9", "beams = 5"]),
        (("one", "--file", "x.txt"), ["x.txt"]),
    ],
)
def test_mistakes_of_the_command_are_one_line(
    run: Path, command: Command, words: tuple[object, ...], named: list[str]
) -> None:
    code, out, err = command("translate", run, *words)
    assert (code, out, len(err)) == (2, "", 1)
    assert [word for word in named if word not in err[0]] == []


@pytest.mark.parametrize("attention", ["none", "additive", "dot"])
def test_what_came_before_is_trained_by_the_same_task(config: TranslationConfig, place: Path, attention: str) -> None:
    shape = RecurrentSeq2SeqConfig(dim=32, context=40, attention=attention)  # type: ignore[arg-type]
    adam = OptimizerConfig(lr=5e-3)
    figures = train(replace(config, out=place / attention, steps=20, model=shape, optimizer=adam))
    assert figures["val/loss"] < 4.5, "ln 320 is 5.8"
    trained = load(place / attention)
    translator = Translator(trained.model, trained.tokenizer, trained.device, beams=2, best=2)
    assert len(translator.translate(encode_all(trained.tokenizer, ["one"], after=[translator.ids.eos]))[0]) == 2


def test_bleu_of_both_conventions() -> None:
    references = ["Ein Mann fährt Fahrrad.", "Zwei Hunde spielen im tiefen Schnee."]
    assert cased(references, references).score == pytest.approx(100)
    lower = [line.lower() for line in references]
    assert cased(lower, references).score < lower_cased(lower, references, "de").score == pytest.approx(100)
    assert "tok:13a" in cased(lower, references).signature
    assert {"case:lc", "tok:moses"} <= {*lower_cased(lower, references, "de").signature.split("|")}
    groups = by_length(["a b", " ".join("a" * 25)], references, references)
    assert {name: round(value) for name, value in groups.items()} == {"up_to_8_words": 100, "over_20_words": 100}


def test_batches_to_train_on_have_few_shapes(config: TranslationConfig) -> None:
    """Both sides of a pair are equally wide, by steps of 4 tokens and never beyond the context."""
    task = Translation.prepare(config)
    shapes = {tuple(tensor.shape for tensor in batch) for step in range(20) for batch in task.order(step, Share(), 0.0)}
    assert all(source == inputs == targets and source[1] % 4 == 0 for source, _, inputs, targets in shapes)
    assert {source[1] for source, *_ in shapes} <= {4, 8, 12}
    assert common_widths((Ragged.of([[1] * 5, [1]]), Ragged.of([[1], [1] * 2])), 6).tolist() == [6, 4]
