"""Tagging: a rule is learned, no sentence depends on others, each loss is the mean over its words; commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from core.training.command import parse
from core.training.order import Share
from tests.processes import Command
from tests.text.tasks import toys
from tests.text.tasks.toys import TAG, ends, names
from text.corpus.windows import IGNORED
from text.examples.tagged import Tagged, TaggedText
from text.models.build import build_model
from text.presets import PRESETS
from text.pretrained.families import find_family
from text.tasks.configs import CONFIGS
from text.tasks.labelling.tagging import Tagging, learned
from text.tokens.affixes import UNKNOWN, AffixTokenizer, parts_of
from text.tokens.base import CharTokenizer
from text.tokens.load import load_tokenizer
from text.tokens.wordpiece import WordPieceTokenizer
from text.train import train
from text.trained import load
from text.using.word_tagger import BETWEEN, WordTagger, encode_words

SENTENCE = "Zoning torly , belness is molous"
LATE = ("--tokenizer", "char", "--model.words", "mean", "--model.context", "128")


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """A run that has learned the rule."""
    words = (*TAG, "--data", str(ends(place / "ends.txt")), "--steps", "60", "--eval-every", "60")
    figures = train(parse(CONFIGS, PRESETS, (*words, "--out", str(place / "ends"))))
    assert figures["val/accuracy"] == 1
    return place / "ends"


def task(place: Path, *words: str) -> Tagging:
    given = (*TAG, "--data", str(ends(place / "ends.txt")), "--out", str(place / "never"), "--steps", "3", *words)
    return Tagging.prepare(parse(CONFIGS, PRESETS, given))  # type: ignore[arg-type]


def awake(model: torch.nn.Module) -> torch.nn.Module:
    """With weights of the head and of the last maps that are not zero."""
    for number, parameter in enumerate(model.parameters()):
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(number))
    return model


# What is learned


def test_the_rule_is_learned_for_words_never_seen(command: Command, run: Path) -> None:
    code, out, err = command("tag", run, SENTENCE.replace(" ,", ","), "torly")
    assert (code, err) == (0, [])
    first, second = ([line.split("\t") for line in part.splitlines()] for part in out.strip().split("\n\n"))
    found: dict[str, str] = dict(first)  # type: ignore[arg-type]
    assert {found[word] for word in ("Zoning", "torly", "belness", "molous")} == {"VERB", "ADV", "NOUN", "ADJ"}
    assert (found["Zoning"], found["molous"], second) == ("VERB", "ADJ", [["torly", "ADV"]])


def test_spans_are_measured_where_tags_mark_them(command: Command, place: Path) -> None:
    words = (*TAG, "--data", names(place / "names.txt"), "--out", place / "names", "--steps", "60")
    code, _, err = command("train", *words)
    assert code == 0, err
    assert json.loads((place / "names" / "checkpoints" / "best.json").read_text())["metric"] == "val/span_f1"
    code, out, err = command("evaluate", place / "names", "--json")
    figures = json.loads(out.splitlines()[-1])
    assert figures["val/span_f1"] == figures["val/accuracy"] == 1
    (place / "wrong.txt").write_text("see O\nAnna B-PER\nSmith O\n", encoding="utf-8")
    code, out, err = command("evaluate", place / "names", "--data", place / "wrong.txt", "--json")
    assert json.loads(out.splitlines()[-1])["data/span_f1"] == 0
    assert "I-PER, not O: see Anna [Smith]" in out


def test_what_is_written_can_be_read_again(command: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "tagged.txt").write_text(command("tag", run, "torly belness", "Zoning").out, encoding="utf-8")
    code, out, err = command("evaluate", run, "--data", tmp_path / "tagged.txt", "--json")
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["data/accuracy"] == 1
    assert (run / "evaluation" / "data.txt").exists()


# No sentence depends on others


@pytest.mark.parametrize("flags", [(), LATE, (*LATE, "--model.words", "first")])
def test_scores_do_not_depend_on_the_batch(place: Path, flags: tuple[str, ...]) -> None:
    prepared = task(place, *flags)
    model = awake(build_model(prepared.config.model)).eval()
    part = prepared.held_out
    answers = [
        part.answers(WordTagger(model, prepared.tokenizer, torch.device("cpu"), rows=rows)) for rows in (1, 3, 64)
    ]
    for other in answers[1:]:
        torch.testing.assert_close(other.likelihood, answers[0].likelihood, atol=1e-5, rtol=0)
        assert torch.equal(other.answer, answers[0].answer)


def test_a_word_enters_the_core_as_the_mean_of_its_parts(place: Path) -> None:
    prepared = task(place)
    model = awake(build_model(prepared.config.model)).eval()
    encoded = encode_words(prepared.tokenizer, [["torly", "Zoning"]], prepared.config.model, "refuse", "sentence")
    ids, words = torch.from_numpy(encoded.ids[0])[None].long(), torch.from_numpy(encoded.words[0])[None].long()
    means = torch.stack([model.encoder.embed(ids[words == word]).mean(0) for word in (0, 1)])[None]
    from core.graph import full
    from core.positions import index

    expected = model.head(model.encoder.core(means, index(2), full()))
    torch.testing.assert_close(model(ids, None, words, 2), expected)


# The loss is the mean over words, whoever reads them


@pytest.mark.parametrize("flags", [(), LATE])
@pytest.mark.parametrize("share", [(1, 1), (1, 3), (2, 2)])
def test_the_loss_is_the_mean_over_all_words(place: Path, flags: tuple[str, ...], share: tuple[int, int]) -> None:
    prepared = task(place, *flags)
    model = awake(build_model(prepared.config.model))
    objective, (world, accumulate) = prepared.objective(model), share
    micro = [batch for rank in range(world) for batch in prepared.order(1, Share(rank, world, accumulate), 0.0)]
    assert len(micro) == world * accumulate
    loss = sum(objective(*batch) for batch in micro) / sum(prepared.count(*batch) for batch in micro)
    by_hand: list[torch.Tensor] = []
    for row in prepared.batches.batch(1).tolist():
        ids, words = (torch.from_numpy(part[row])[None].long() for part in prepared.train.encoded[:2])
        tags = torch.from_numpy(prepared.train.tags[row]).long()
        by_hand.extend(F.cross_entropy(model(ids, None, words, len(tags))[0], tags, reduction="none"))
    assert loss.item() == pytest.approx(torch.stack(by_hand).mean().item(), abs=1e-4)  # type: ignore[union-attr]


def test_what_has_no_tag_counts_nowhere() -> None:
    """Residues that were not resolved: a protein's letters, each with a tag or none."""
    tags = [np.array([0, IGNORED, 1, 1]), np.array([1, 0])]
    part = Tagged(["MKVA", "AM"], tags)
    corpus = TaggedText(name="toy", train=part, validation=part, names=("C", "H"), unit="characters")
    tokenizer = learned(corpus, "char", 0)
    assert isinstance(tokenizer, CharTokenizer)
    config = parse(CONFIGS, PRESETS, ("protein-q3", "--steps", "1"))
    shape = replace(config.model, vocab_size=tokenizer.vocab_size + 3, labels=corpus.names, context=16)
    prepared = Tagging(corpus, tokenizer, replace(config, model=shape))  # type: ignore[arg-type]
    [batch] = prepared.order(0, Share(), 0.0)
    assert prepared.count(*batch) == 5
    model = awake(build_model(shape)).eval()
    answers = prepared.held_out.answers(WordTagger(model, tokenizer, torch.device("cpu")))
    assert answers.truth.tolist() == [0, 1, 1, 1, 0]
    assert prepared.held_out.shown(1) == "M K [V] A"
    assert prepared.objective(model)(*batch).item() == pytest.approx(-answers.likelihood.sum().item(), abs=1e-4)


# Words as tokens


def test_each_token_knows_its_word() -> None:
    tokenizer = CharTokenizer("abc")
    shape = replace(parse(CONFIGS, PRESETS, ("protein-q3", "--steps", "1")).model, vocab_size=6)
    encoded = encode_words(tokenizer, [["ab", "c"], [], ["abc"]], shape, "refuse", "sentence")
    assert [encoded.ids[row].tolist() for row in range(3)] == [[4, 0, 1, 2, 5], [4, 5], [4, 0, 1, 2, 5]]
    assert encoded.words[0].tolist() == [BETWEEN, 0, 0, 1, BETWEEN]
    assert encoded.words[2].tolist() == [BETWEEN, 0, 0, 0, BETWEEN]
    assert encoded.read.tolist() == [2, 0, 1]


def test_a_tokenizer_that_frames_words_is_followed() -> None:
    tokenizer, sentence = WordPieceTokenizer.train(["hello world unhappy"] * 5, 120), ["Hello", "un", "\u200b", "world"]
    shape = replace(parse(CONFIGS, PRESETS, ("protein-q3", "--steps", "1")).model, vocab_size=tokenizer.vocab_size)
    encoded = encode_words(tokenizer, [sentence], shape, "refuse", "sentence")
    ids, places = tokenizer.encode_words(sentence)
    assert encoded.ids[0].tolist() == ids.tolist()
    assert encoded.words[0].tolist() == places.tolist()
    cut = encode_words(tokenizer, [sentence], replace(shape, context=len(ids) - 1), "truncate", "sentence")
    assert cut.ids[0].tolist() == [*ids[:-2], ids[-1]]


@pytest.mark.parametrize(("flags", "read"), [((), 3), (("--model.words", "mean"), 2)])
def test_words_that_are_cut_off_have_no_answer(
    place: Path, capfd: pytest.CaptureFixture[str], flags: tuple[str, ...], read: int
) -> None:
    prepared = task(place, *flags)
    shape = replace(prepared.config.model, context=3 if not flags else 14)
    sentence = ["torly", "belness", "Zoning", "torly"]
    encoded = encode_words(prepared.tokenizer, [sentence], shape, "truncate", "sentence")
    assert encoded.read.tolist() == [read]
    assert f"{4 - read} words" in capfd.readouterr().err
    with pytest.raises(ValueError, match="1 of 1 are too long"):
        encode_words(prepared.tokenizer, [sentence], shape, "refuse", "sentence")


def test_parts_of_words_are_learned_and_saved(tmp_path: Path) -> None:
    tokenizer = AffixTokenizer.learn("The cat sat . The bat sat on 2010 and 1999".split())
    assert set(parts_of("McDo-99")) >= {"=McDo-99", "~mcdo-99", "#XxXx-0", "<mcd", "99>"}
    known = [tokenizer.parts[part] for part in tokenizer.encode("hat")]
    assert known == [UNKNOWN, "#x", "t>", "at>"]
    assert [tokenizer.parts[part] for part in tokenizer.encode("2025")][:2] == [UNKNOWN, "#0"]
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again == tokenizer
    assert again.encode("The hat").tolist() == tokenizer.encode("The hat").tolist()


def test_what_is_left_out_depends_on_seed_and_step_and_spares_a_part_of_each_word(place: Path) -> None:
    prepared = task(place, "--token-dropout", "0.6")

    def read(step: int, world: int, accumulate: int) -> list[tuple[list[int], list[int]]]:
        batches = [b for rank in range(world) for b in prepared.order(step, Share(rank, world, accumulate), 0.0)]
        return sorted(
            (row[:length].tolist(), numbers[:length].tolist())
            for ids, lengths, words, _ in batches
            for row, length, numbers in zip(ids, lengths, words, strict=True)
        )

    assert read(1, 1, 1) == read(1, 2, 1) == read(1, 1, 4)
    assert read(1, 1, 1) != read(2, 1, 1)
    kept = sum(len(ids) for ids, _ in read(1, 1, 1))
    assert 0.3 < kept / prepared.train.encoded.ids.lengths[prepared.batches.batch(1)].sum() < 0.5
    assert all(set(words) == set(range(max(words) + 1)) for _, words in read(1, 1, 1))


# Weights to start from


def test_the_encoder_of_a_masked_model_is_taken_over(command: Command, place: Path, run: Path) -> None:
    shape = (*toys.PLAIN, *toys.SMALL, "--model.context", "64", "--batch-size", "8", "--bpe-size", "300")
    words = ("mlm-cpu", *shape, "--data", place / "text.txt", "--steps", "2", "--out", place / "masked")
    code, _, err = command("train", *words)
    assert code == 0, err
    words = ("ud-pos", *toys.PLAIN, "--init-from", place / "masked", "--data", place / "ends.txt", "--steps", "2")
    code, _, err = command("train", *words, "--out", place / "tuned")
    assert code == 0, err
    trained, source = load(place / "tuned"), load(place / "masked")
    assert (trained.config.model.words, trained.config.model.core.dim) == ("first", 32)
    assert trained.tokenizer == source.tokenizer


@pytest.mark.parametrize("change", [{"words": "early-mean"}, {"neighbours": 2}])
def test_what_public_layouts_lack_is_refused_by_name(change: dict[str, Any]) -> None:
    family = find_family("modernbert")
    fields = {"model_type": "modernbert", "architectures": ["ModernBertForTokenClassification"]}
    shape = family.from_fields(fields)[0].to_config()
    family.from_config(shape)
    [(name, value)] = change.items()
    with pytest.raises(ValueError, match=f"{name} = {value!r} cannot be expressed in the modernbert layout"):
        family.from_config(replace(shape, **change))


# text.tag


def test_sentences_are_tagged_from_anywhere(
    command: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["torly belness", "Zoning it's"]
    code, out, err = command("tag", run, *texts)
    assert (code, err) == (0, [])
    assert [line.split("\t")[0] for line in out.splitlines()] == ["torly", "belness", "", "Zoning", "it", "'s", ""]
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts), encoding="utf-8")
    assert command("tag", run, "--file", file).out == out
    monkeypatch.setattr("sys.stdin", file.open())
    assert command("tag", run, "--at-once", "1").out == out
    rows = [json.loads(line) for line in command("tag", run, *texts, "--json", "--split", "spaces").out.splitlines()]
    assert rows[1]["words"] == ["Zoning", "it's"]
    assert rows[0]["tags"] == ["ADV", "NOUN"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{run}", "torly", "--file", "x"), "already"),
        (("{run}", " "), "empty"),
        (("{run}", "torly " * 300), "are too long"),
        (("{run_folder}", "torly"), "language-modelling, not one that tags"),
        (("{place}/void", "torly"), "void"),
    ],
)
def test_what_cannot_be_tagged_is_one_line(
    command: Command, run: Path, run_folder: Path, place: Path, words: tuple[str, ...], said: str
) -> None:
    code, _, [line] = command("tag", *(word.format(run=run, run_folder=run_folder, place=place) for word in words))
    assert code == 2
    assert said in line


def test_words_that_are_cut_off_are_marked(command: Command, run: Path) -> None:
    code, out, err = command("tag", run, "torly " * 300, "--too-long", "truncate")
    assert (code, out.count("torly\tADV"), out.count("torly\t_")) == (0, 256, 44)
    assert any("44 words" in line for line in err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--validation-data", "{place}/unseen.txt"), "tag 'ODD'"),
        (("--data", "{place}/broken.conllu"), "line 2 of"),
        (("--column", "text"), "--column has no effect"),
        (("--tokenizer", "char", "--token-dropout", "0.1", "--data", "{place}/letters.txt"), "token_dropout = 0.1"),
        (("--model.context", "2"), "are too long"),
        (("--model.labels", "A"), "model.labels"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(
    command: Command, place: Path, words: tuple[str, ...], said: str
) -> None:
    (place / "unseen.txt").write_text("torly\tODD\n", encoding="utf-8")
    (place / "letters.txt").write_text("a\tA\nb\tB\n\n" * 20, encoding="utf-8")
    (place / "broken.conllu").write_text("1\ta\ta\tX\t_\t_\t0\troot\t_\t_\n2\tb\n", encoding="utf-8")
    data = ("--data", ends(place / "ends.txt"))
    given = [word.format(place=place) for word in words]
    code, _, err = command("train", *TAG, *data, "--steps", "2", "--out", place / "never", *given)
    assert code == 2
    assert said in err[-1]
    assert not (place / "never").exists()
