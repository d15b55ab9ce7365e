"""Classification: a rule is learned, no text depends on others, each loss is the mean over its texts; commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from core.training.command import parse
from core.training.order import Share
from core.training.trained import DATA
from tests.processes import Command
from tests.text.tasks import toys
from tests.text.tasks.toys import CLASSIFY, moods
from text.corpus.windows import IGNORED
from text.models.build import build_model
from text.presets import PRESETS
from text.tasks.configs import CONFIGS
from text.tasks.labelling.classification import Classification
from text.tasks.task import starting_model
from text.tokens.affixes import words_of
from text.train import train
from text.trained import load
from text.using.text_classifier import TextClassifier

TEXTS = ["the film is lovely", "dull", "a man and his dog about the queer film is the man"]
WANTED = ["good", "bad", "odd"]


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """A run that has learned the rule."""
    data, out = moods(place / "moods.tsv"), place / "moods"
    words = (*CLASSIFY, "--data", str(data), "--out", str(out), "--steps", "60", "--eval-every", "60")
    figures = train(parse(CONFIGS, PRESETS, words))
    assert figures["val/accuracy"] == 1
    return out


def task(place: Path, *words: str) -> Classification:
    data = str(moods(place / "moods.tsv"))
    config = parse(CONFIGS, PRESETS, (*CLASSIFY, "--data", data, "--out", str(place / "never"), "--steps", "3", *words))
    return Classification.prepare(config)  # type: ignore[arg-type]


# What is learned


def test_the_rule_is_learned_and_what_was_found_is_written(command: Command, run: Path) -> None:
    code, out, err = command("evaluate", run, "--json")
    assert code == 0, err
    figures = json.loads(out.splitlines()[-1])
    assert figures["val/accuracy"] == figures["val/macro_f1"] == 1
    assert {"val/ece", "val/loss", "val/balanced_accuracy"} <= figures.keys()
    report = (run / "evaluation" / "val.txt").read_text()
    assert (run / "samples" / "step-00000060.txt").read_text() == report
    assert "label \\ answer" in report
    assert "most confident errors" not in report


def test_other_data_with_the_label_wrong_shows_the_error(command: Command, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("text,label\nthe film is fine,bad\na man is dull,bad\nabout a weird dog,odd\n", encoding="utf-8")
    code, out, err = command("evaluate", run, "--data", other)
    assert code == 0, err
    assert "data/accuracy" in out
    assert "good, not bad: the film is fine" in out
    assert f"{2 / 3:.4f}" in out


# No text depends on others


def test_probabilities_do_not_depend_on_the_batch(run: Path) -> None:
    trained = load(run)
    texts = [*TEXTS, *(f"{text} {number}" for number in range(5) for text in TEXTS)]
    together, alone = (TextClassifier(trained.model, trained.tokenizer, trained.device, rows=rows) for rows in (64, 1))
    expected = together.probabilities(together.encode(texts))
    torch.testing.assert_close(alone.probabilities(alone.encode(texts)), expected, atol=1e-6, rtol=0)
    backwards = together.probabilities(together.encode(texts[::-1])).flip(0)
    torch.testing.assert_close(backwards, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(expected.sum(1), torch.ones(len(texts), dtype=torch.float64))


# The loss is the mean over texts, whoever reads them


@pytest.mark.parametrize("share", [(1, 1), (1, 3), (2, 2)])
def test_the_loss_is_the_mean_over_all_texts(place: Path, share: tuple[int, int]) -> None:
    prepared = task(place)
    model = build_model(prepared.config.model)
    objective = prepared.objective(model)
    world, accumulate = share
    micro = [batch for rank in range(world) for batch in prepared.order(2, Share(rank, world, accumulate), 0.0)]
    assert len(micro) == world * accumulate
    loss = sum(objective(*batch) for batch in micro) / sum(prepared.count(*batch) for batch in micro)
    rows = prepared.batches.batch(2)
    by_hand = []
    for row in rows.tolist():
        ids = torch.tensor(prepared.train.ids[row])[None].long()
        by_hand.append(F.cross_entropy(model(ids), prepared.labels[[row]]).item())
    assert loss.item() == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-5)  # type: ignore[union-attr]


def test_a_process_without_a_text_of_its_own_adds_nothing(place: Path) -> None:
    prepared = task(place, "--batch-size", "2")
    [batch] = prepared.order(0, Share(2, 3, 1), 0.0)
    assert batch[-1].tolist() == [IGNORED]
    assert prepared.count(*batch) == 0
    assert prepared.objective(build_model(prepared.config.model))(*batch).item() == 0


# Tokens that are left out


def test_what_is_left_out_depends_on_seed_and_step_alone(place: Path) -> None:
    prepared = task(place, "--token-dropout", "0.4")

    def read(step: int, world: int, accumulate: int) -> list[list[int]]:
        batches = [b for rank in range(world) for b in prepared.order(step, Share(rank, world, accumulate), 0.0)]
        return sorted(row[:length].tolist() for b in batches for row, length in zip(*b[:2], strict=True))

    assert read(1, 1, 1) == read(1, 2, 1) == read(1, 1, 4)
    special = prepared.special
    whole = {row: prepared.train.ids[row].tolist() for row in prepared.batches.batch(1).tolist()}
    kept, tokens = sum(map(len, read(1, 1, 1))), sum(map(len, whole.values()))
    inner = tokens - 2 * len(whole)
    assert 0.5 < (kept - 2 * len(whole)) / inner < 0.7
    assert all(ids[0] == special.bos and ids[-1] == special.eos for ids in read(1, 1, 1))
    assert read(1, 1, 1) != read(2, 1, 1)


# Words as one token each

WORDS = ("--tokenizer", "affixes", "--model.words", "early-mean", "--model.pooling", "max")


def test_the_rule_is_learned_from_words_too_whatever_the_batch(command: Command, place: Path) -> None:
    data, out = moods(place / "moods.tsv"), place / "words"
    words = (*CLASSIFY, *WORDS, "--data", str(data), "--out", str(out), "--steps", "40", "--eval-every", "40")
    assert train(parse(CONFIGS, PRESETS, words))["val/accuracy"] == 1
    code, lines, err = command("classify", out, "The film is Lovely, and queerest!", *TEXTS)
    assert code == 0, err
    assert [line.split()[0] for line in lines.splitlines()[-3:]] == WANTED
    trained = load(out)
    together, alone = (TextClassifier(trained.model, trained.tokenizer, trained.device, rows=rows) for rows in (64, 1))
    expected = together.probabilities(together.encode(TEXTS))
    torch.testing.assert_close(alone.probabilities(alone.encode(TEXTS)), expected, atol=1e-6, rtol=0)


def test_a_classifier_of_words_starts_one_of_words(place: Path) -> None:
    """The preset's way to read gives way to that of the weights, not to what is asked for."""
    data = ("--data", str(moods(place / "moods.tsv")))
    train(parse(CONFIGS, PRESETS, (*CLASSIFY, *WORDS, *data, "--out", str(place / "words again"), "--steps", "1")))
    start = ("sst2", *toys.PLAIN, "--init-from", str(place / "words again"), *data, "--out", str(place / "x"))
    config = parse(CONFIGS, PRESETS, (*start, "--steps", "1"))
    assert Classification.prepare(config).config.model.words == "early-mean"  # type: ignore[arg-type]


def test_a_part_of_each_word_is_left_whoever_reads_it(place: Path) -> None:
    prepared = task(place, *WORDS, "--token-dropout", "0.8")

    def read(world: int, accumulate: int) -> list[tuple[list[int], list[int]]]:
        batches = [b for rank in range(world) for b in prepared.order(1, Share(rank, world, accumulate), 0.0)]
        return sorted(
            (row[:length].tolist(), numbers[:length].tolist())
            for ids, lengths, words, _ in batches
            for row, length, numbers in zip(ids, lengths, words, strict=True)
        )

    assert read(1, 1) == read(2, 1) == read(1, 4)
    assert all(set(words) == set(range(max(words) + 1)) for _, words in read(1, 1))
    assert sum(len(ids) for ids, _ in read(1, 1)) < 0.5 * prepared.train.ids.lengths[prepared.batches.batch(1)].sum()


def test_words_of_a_running_text_are_apart_from_marks() -> None:
    assert words_of("It 's well-made, is n't it?") == ["It", "'s", "well-made", ",", "is", "n't", "it", "?"]


def test_words_of_two_texts_are_refused(place: Path, tmp_path: Path) -> None:
    data = tmp_path / "pairs.tsv"
    data.write_text("text\tother\tlabel\n" + "a\tb\tx\nc\td\ty\n" * 10, encoding="utf-8")
    with pytest.raises(ValueError, match="'early-mean' reads one text"):
        task(place, *WORDS, "--data", str(data), "--second-column", "other")


# Two texts


def test_two_texts_are_read_with_a_type_each_where_the_model_has_types(place: Path, tmp_path: Path) -> None:
    rows = [{"one": f"{a} dog", "two": f"{b} man", "same": str(a == b)} for a in toys.FILLING for b in toys.FILLING]
    data = tmp_path / "pairs.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    words = ("--data", str(data), "--column", "one", "--second-column", "two", "--label-column", "same")
    prepared = task(place, *words, "--model.types", "2")
    ids, lengths, types, _ = prepared.order(0, Share(), 0.0)[0]
    row, special = ids[0, : lengths[0]], prepared.special
    first = row.tolist().index(special.eos) + 1
    assert types[0, : lengths[0]].tolist() == [0] * first + [1] * (int(lengths[0]) - first)
    assert (row == special.eos).sum() == 2
    assert len(task(place, *words).order(0, Share(), 0.0)[0]) == 3


# Weights to start from


def test_the_encoder_of_a_masked_model_is_taken_over_with_its_tokenizer(
    command: Command, run: Path, place: Path
) -> None:
    shape = (*toys.PLAIN, *toys.SMALL, "--model.context", "64", "--batch-size", "8", "--bpe-size", "300")
    words = ("mlm-cpu", *shape, "--data", place / "text.txt", "--steps", "2", "--out", place / "masked")
    code, _, err = command("train", *words, "--model.types", "2")
    assert code == 0, err
    data = ("--data", place / "moods.tsv", "--steps", "40", "--eval-every", "40", "--model.core.dropout", "0")
    words = ("sst2", *toys.PLAIN, "--init-from", place / "masked", *data, "--batch-size", "32", "--ema", "0.9")
    prepared = Classification.prepare(parse(CONFIGS, PRESETS, [*map(str, words), "--out", str(place / "x")]))  # type: ignore[arg-type]
    source, model = load(place / "masked"), starting_model(prepared.config, started=True)
    assert prepared.tokenizer == source.tokenizer
    ours, theirs = model.encoder.state_dict(), source.model.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    code, _, err = command("train", *words, "--out", place / "tuned")
    assert code == 0, err
    assert load(place / "tuned").config.model.core.dim == 32
    code, _, err = command("train", "--out", place / "tuned", "--resume", "--steps", "41")
    assert code == 0, err


def test_public_weights_are_taken_over_too(command: Command, run: Path, place: Path) -> None:
    shape = (*toys.PLAIN, *toys.SMALL, "--model.context", "64", "--batch-size", "8", "--bpe-size", "300")
    words = ("mlm-cpu", *shape, "--data", place / "text.txt", "--steps", "2", "--out", place / "public masked")
    assert command("train", *words).code == 0
    code, _, err = command("export", place / "public masked", "--out", place / "public")
    assert code == 0, err
    words = ("sst2", *toys.PLAIN, "--init-from", place / "public", "--data", place / "moods.tsv", "--steps", "1")
    config = parse(CONFIGS, PRESETS, [*map(str, words), "--out", str(place / "y")])
    prepared = Classification.prepare(config)  # type: ignore[arg-type]
    ours, theirs = starting_model(prepared.config, started=True), load(place / "public masked").model
    ids = torch.randint(0, 256, (2, 20))
    torch.testing.assert_close(ours.eval().features(ids), theirs.features(ids), atol=1e-5, rtol=0)
    assert prepared.config.model.pooling == "mean"
    code, _, err = command("train", *words, "--batch-size", "8", "--out", place / "from public")
    assert code == 0, err
    assert command("classify", place / "from public", *TEXTS).code == 0


def test_a_model_without_an_encoder_is_no_start(command: Command, run: Path, run_folder: Path, place: Path) -> None:
    words = ("sst2", "--data", place / "moods.tsv", "--init-from", run_folder, "--steps", "2", "--out", place / "never")
    code, _, [line] = command("train", *words)
    assert code == 2
    assert "holds no encoder" in line


def test_a_model_leaves_in_a_public_layout_and_answers_alike(command: Command, run: Path, place: Path) -> None:
    code, _, err = command("export", run, "--out", place / "left")
    assert code == 0, err
    assert command("classify", place / "left", *TEXTS).out == command("classify", run, *TEXTS).out


# text.classify


def test_texts_are_classified_from_anywhere(
    command: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = command("classify", run, *TEXTS)
    assert (code, err) == (0, [])
    assert [line.split()[0] for line in out.splitlines()] == WANTED
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join(TEXTS), encoding="utf-8")
    assert command("classify", run, "--file", file).out == out
    monkeypatch.setattr("sys.stdin", file.open())
    assert command("classify", run, "--at-once", "1").out == out
    rows = [json.loads(line) for line in command("classify", run, *TEXTS, "--json").out.splitlines()]
    assert [row["label"] for row in rows] == WANTED
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in rows)
    assert [row["text"] for row in rows] == TEXTS


def test_two_texts_need_a_tab(command: Command, run: Path, tmp_path: Path) -> None:
    import shutil

    paired = shutil.copytree(run, tmp_path / "paired")
    record = json.loads((paired / DATA).read_text())
    (paired / DATA).write_text(json.dumps(record | {"paired": True}))
    assert command("classify", paired, "fine\tdog").code == 0
    code, _, [line] = command("classify", paired, "fine dog")
    assert (code, "separated by a tab" in line) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{run}", "fine", "--file", "x"), "already"),
        (("{run}", ""), "empty"),
        (("{run}", "--file", "{place}/none.txt"), "not a file"),
        (("{run}", "fine " * 200), "are too long"),
        (("{run_folder}", "fine"), "language-modelling, not one that classifies"),
    ],
)
def test_what_cannot_be_classified_is_one_line(
    command: Command, run: Path, run_folder: Path, place: Path, words: tuple[str, ...], said: str
) -> None:
    given = [word.format(run=run, run_folder=run_folder, place=place) for word in words]
    code, _, [line] = command("classify", *given)
    assert code == 2
    assert said in line


def test_what_is_too_long_is_cut_where_that_is_asked_for(command: Command, run: Path) -> None:
    code, out, [line] = command("classify", run, "fine " * 200, "--too-long", "truncate")
    assert (code, out.split()[0]) == (0, "good")
    assert "1 of 1 sequences (text) are cut" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--validation-data", "{place}/unseen.tsv"), "label 'ugly'"),
        (("--data", "{place}/long.tsv"), "are too long"),
        (("--label-column", "mood"), "has no column 'mood'"),
        (("--label-smoothing", "1"), "label_smoothing = 1.0"),
        (("--model.labels", "a", "b"), "model.labels"),
        (("--tokenizer", "wordy"), "wordy"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(
    command: Command, place: Path, words: tuple[str, ...], said: str
) -> None:
    (place / "unseen.tsv").write_text("text\tlabel\nso so\tugly\n", encoding="utf-8")
    (place / "long.tsv").write_text(f"text\tlabel\n{'fine ' * 300}\tgood\n" + "dull\tbad\n" * 20, encoding="utf-8")
    data = ("--data", moods(place / "moods.tsv"))
    given = [word.format(place=place) for word in words]
    code, _, err = command("train", *CLASSIFY, *data, "--steps", "2", "--out", place / "never", *given)
    assert code == 2
    assert said in err[-1]
    assert not (place / "never").exists()


def test_an_option_that_means_nothing_here_is_refused(command: Command, run: Path) -> None:
    code, _, [line] = command("evaluate", run, "--beams", "3")
    assert (code, "--beams has no effect" in line) == (2, True)


def test_a_shape_keeps_the_labels_of_its_data(place: Path) -> None:
    assert task(place).config.model.labels == ("bad", "good", "odd")
    assert replace(task(place).config.model, labels=()).labels == ()
