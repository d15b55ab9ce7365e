"""Tagged sentences: CoNLL-U as its format says, two columns, proteins with their masks; broken rows named by line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from text.corpus.documents import BadText, Document
from text.corpus.published import CB513, find_published
from text.corpus.tables import Row, records
from text.corpus.windows import IGNORED
from text.examples.tagged import load_tagged, read_tagged, sentences

CONLLU = """\
# sent_id = 1
# text = I haven't a clue.
1\tI\tI\tPRON\tPRP\t_\t2\tnsubj\t_\t_
2-3\thaven't\t_\t_\t_\t_\t_\t_\t_\t_
2\thave\thave\tVERB\tVBP\t_\t0\troot\t_\t_
3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t_\t_
3.1\tgot\tget\tVERB\tVBN\t_\t_\t_\t2:x\t_
4\ta bit of\ta bit of\tDET\tDT\t_\t5\tdet\t_\t_

# sent_id = 2

1\t#\t#\tSYM\tNN\t_\t0\troot\t_\t_
2\t1\t1\tNUM\tCD\t_\t1\tdep\t_\t_
"""
CONLL2003 = """\
-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
# NN B-NP O


-DOCSTART- -X- -X- O

Peter NNP B-NP B-PER
"""


def write(file: Path, text: str) -> str:
    file.write_text(text, encoding="utf-8")
    return str(file)


def pairs(path: str, column: str = "upos") -> list[list[tuple[str, str]] | str]:
    found = sentences(Document("F", Path(path)), column)  # type: ignore[arg-type]
    return [str(each) if isinstance(each, BadText) else [word[1:] for word in each] for each in found]


def test_conllu_has_its_syntactic_words(tmp_path: Path) -> None:
    first, second = pairs(write(tmp_path / "a.conllu", CONLLU))
    assert first == [("I", "PRON"), ("have", "VERB"), ("n't", "PART"), ("a bit of", "DET")]
    assert second == [("#", "SYM"), ("1", "NUM")]
    assert pairs(write(tmp_path / "a.txt", CONLLU))[0] == first  # known by its ten columns
    assert pairs(str(tmp_path / "a.conllu"), "xpos")[1] == [("#", "NN"), ("1", "CD")]


def test_two_columns_and_more(tmp_path: Path) -> None:
    expected = [[("EU", "B-ORG"), ("rejects", "O"), ("#", "O")], [("Peter", "B-PER")]]
    assert pairs(write(tmp_path / "a.txt", CONLL2003)) == expected
    tabs = "# a comment of words\nEU\tB-ORG\nrejects\tO\n#\tO\n\t\n# another\nPeter\tB-PER"
    assert pairs(write(tmp_path / "b.tsv", tabs)) == expected
    assert pairs(write(tmp_path / "c.tsv", tabs.replace("\n", "\r\n"))) == expected
    assert pairs(write(tmp_path / "d.tsv", "of course\tADV\n")) == [[("of course", "ADV")]]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (
            "a.conllu",
            CONLLU.replace("PART\tRB\t", "PART\t"),
            "line 6 of F has not 10 columns, separated by tabs, but 9",
        ),
        ("a.conllu", CONLLU.replace("3\tn't", "4\tn't"), "line 6 of F has a wrong word number: '4' in place of 3"),
        ("a.conllu", CONLLU.replace("PRON", "_"), "line 3 of F has no UPOS"),
        ("a.conllu", CONLLU.replace("\thave\t", "\t \t", 1), "line 5 of F has no word"),
        ("a.conllu", CONLLU.replace("1\tI\t", "I\t"), "line 3 of F has not 10 columns"),
        ("a.txt", CONLL2003.replace("rejects VBZ B-VP O", "rejects VBZ O"), "line 4 of F has not 4 columns but 3"),
        ("a.tsv", "EU\tB-ORG\nrejects\t \n\nPeter\tB-PER\n", "line 2 of F has an empty column"),
        ("a.txt", "EU\nrejects\n\nPeter\n", "line 1 of F has not 2 columns but 1"),
    ],
)
def test_a_broken_row_is_named_and_costs_its_sentence(name: str, text: str, reason: str, tmp_path: Path) -> None:
    bad, second = pairs(write(tmp_path / name, text))
    assert str(bad).startswith(reason)
    assert isinstance(second, list) is (reason.count("columns but 1") == 0)


def test_sentences_left_out_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.conllu", CONLLU.replace("PRON", "_"))
    with pytest.raises(ValueError, match=f"line 3 of {re.escape(path)} has no UPOS; --skip-bad leaves such sentences"):
        read_tagged(path, ["NUM", "SYM"])
    assert read_tagged(path, ["NUM", "SYM"], bad="skip").words == [["#", "1"]]
    assert f"left out, because it has no UPOS: 1 (first line 3 of {path})" in capfd.readouterr().err


def test_a_line_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("one A\n\nfünf B\n".encode("latin-1"))
    assert pairs(str(tmp_path / "a.txt")) == [
        [("one", "A")],
        "line 3 of F is not UTF-8 text: byte 0xfc at its position 1",
    ]


def test_a_tag_that_training_lacks_names_its_row(tmp_path: Path) -> None:
    train, held_out = write(tmp_path / "a.txt", CONLL2003), write(tmp_path / "b.txt", "a O\nb I-LOC\n")
    with pytest.raises(
        ValueError, match=f"line 2 of {re.escape(held_out)} has the tag 'I-LOC', .*: known are B-ORG, B-PER, O"
    ):
        load_tagged(train, validation_data=held_out)


def test_own_files(tmp_path: Path) -> None:
    text = "".join(f"word{number} {'AB'[number % 2]}\nend C\n\n" for number in range(20))
    data = load_tagged(write(tmp_path / "a.txt", text), validation=0.25)
    assert (data.names, data.unit, data.tests) == (("A", "B", "C"), "words", {})
    assert (len(data.train), len(data.validation)) == (15, 5)
    assert data.fingerprint == load_tagged(str(tmp_path / "a.txt"), validation=0.25).fingerprint
    for words, tags in zip(data.validation.words, data.validation.tags, strict=True):
        assert tags.tolist() == [int(words[0][4:]) % 2, 2]


@pytest.mark.parametrize(
    ("data", "settings", "reason"),
    [
        ("ud_english", {}, "did you mean 'ud_english_ewt'?"),
        ("protein_ss", {"column": "xpos"}, "validation_data and column have no effect"),
        ("ud_english_ewt", {"column": "pos"}, "column = 'pos' is not one of: upos, xpos"),
    ],
)
def test_bad_settings(data: str, settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        load_tagged(data, **settings)  # type: ignore[arg-type]


def test_a_column_of_what_has_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="column = 'xpos' has no effect: .* is no CoNLL-U"):
        load_tagged(write(tmp_path / "a.txt", CONLL2003), column="xpos")


def test_english_web_treebank(data_root: Path) -> None:
    """As many sentences and words as the treebank's own statistics say."""
    data = load_tagged("ud_english_ewt", root=data_root)
    parts = [data.train, data.validation, data.tests["test"]]
    assert [len(part) for part in parts] == [12_544, 2001, 2077]
    assert [sum(map(len, part.words)) for part in parts] == [204_577, 25_147, 25_094]
    assert len(data.names) == 17
    assert all(len(words) == len(tags) for part in parts for words, tags in zip(part.words, part.tags, strict=True))
    assert [data.names[tag] for tag in data.train.tags[0][:5]] == ["PROPN", "PUNCT", "PROPN", "PUNCT", "ADJ"]


def test_proteins(data_root: Path) -> None:
    data = load_tagged("protein_ss", root=data_root)
    parts = {"train": data.train, "valid": data.validation, **data.tests}
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 9712,
        "valid": 1080,
        "new364": 364,
        "cb513": 511,
    }
    assert data.names == ("C", "E", "H")
    flip = [parts[name] for name in ("train", "valid", "new364")]
    assert sum(len(chain) for part in flip for chain in part.words) == 2_845_094
    assert sum(int((tags != IGNORED).sum()) for part in flip for tags in part.tags) == 2_658_218
    rows = records(find_published(CB513, data_root), ["q3", "resolved", "mask"])
    for row, tags in zip(rows, data.tests["cb513"].tags, strict=True):
        assert isinstance(row, Row)
        cells = zip(*row.cells, strict=True)
        expected = ["CEH".index(q3) if resolved == mask == "1" else IGNORED for q3, resolved, mask in cells]
        np.testing.assert_array_equal(tags, expected)
    known = "\n".join(str(chain) for part in flip[:2] for chain in part.words)
    assert sum(str(chain) in known for chain in data.tests["cb513"].words) == 3  # as the note says
