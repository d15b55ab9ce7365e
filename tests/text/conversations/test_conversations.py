"""Conversations are read in three layouts, written by templates, and learned from their answers, packed or not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.core.helpers import awake, shape
from text.conversations.encode import encode_conversation, encode_conversations, encode_located, kept_part, pack
from text.conversations.messages import Conversation, Message
from text.conversations.read import load_conversations, read_conversations
from text.conversations.template import BUILT_IN, MARKS, ChatTemplate, choose_template, saved_template
from text.corpus.sequences import learn_bpe
from text.corpus.windows import IGNORED
from text.models.gpt import GPT, GPTConfig
from text.tasks.chatting.instructions import AnswerLoss, answer_totals, figures
from text.tokens.base import ByteTokenizer, CharTokenizer, Tokenizer
from text.tokens.bpe import BPETokenizer
from text.using.answering import Answering, before

SAID: Conversation = (
    Message("system", "Be brief."),
    Message("user", "Réverse abc"),
    Message("assistant", "cba"),
    Message("user", "And de?"),
    Message("assistant", "ed 👍"),
)
CHATML = choose_template("chatml", ByteTokenizer())
TEXTS = [message.content for message in SAID]


def tokenizers() -> dict[str, Tokenizer]:
    learned = learn_bpe(TEXTS, 270)
    assert isinstance(learned, BPETokenizer)
    written = "".join(ChatTemplate(name, source).write(SAID).text for name, source in BUILT_IN.items())
    return {
        "byte": ByteTokenizer(),
        "char": CharTokenizer(set(written)),
        "bpe": learned.extended(MARKS, before="nothing"),
    }


def write(file: Path, *rows: object) -> Path:
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return file


def test_three_layouts_hold_the_same(tmp_path: Path) -> None:
    pair = [("user", "Add 1 and 2\n\nnow"), ("assistant", "3")]
    theirs = [("human", " Add 1 and 2\n\nnow\n"), ("gpt", "3 ")]
    messages = [{"role": role, "content": said} for role, said in pair]
    rows = (
        {"messages": messages},
        {"conversations": [{"from": role, "value": said} for role, said in theirs]},
        {"instruction": "Add 1 and 2", "input": "now", "output": "3"},
        {"instruction": "Add 1 and 2", "instances": [{"input": "now", "output": "3"}]},
    )
    found = read_conversations(str(write(tmp_path / "a.jsonl", *rows))).messages
    assert set(found) == {tuple(Message(*each) for each in pair)}
    assert len(found) == 4
    (tmp_path / "b.json").write_text(json.dumps(rows))
    assert read_conversations(str(tmp_path / "b.json")).messages == found
    open_ended = {"messages": [*messages, {"role": "user", "content": "And?"}]}
    assert read_conversations(str(write(tmp_path / "c.jsonl", open_ended))).messages == [found[0]]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [{"role": "oracle", "content": "?"}]}, "has an unknown role: 'oracle'; known are system, user"),
        ({"instruction": "Say", "output": " "}, "has an empty answer"),
        ({"instruction": "", "output": "x"}, "has an empty message"),
        ({"messages": [{"role": "user", "content": ["?"]}]}, "has a message without text"),
        ({"messages": [{"role": "user", "content": "?"}]}, "has no answer"),
        ({"messages": [{"role": "assistant", "content": "!"}]}, "is not said in turn: 'assistant' speaks where 'user'"),
        ({"text": "x"}, "is no conversation"),
        ("{", "is not JSON"),
    ],
)
def test_bad_rows_are_one_line_or_left_out(
    row: object, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [{"instruction": f"Say {n}", "output": str(n)} for n in range(8)]
    file = str(write(tmp_path / "a.jsonl", *good, row))
    with pytest.raises(ValueError, match="line 9 of .*a.jsonl") as error:
        load_conversations(file)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    data = load_conversations(file, bad="skip")
    assert len(data.train) + len(data.validation) == 8
    assert "left out" in capsys.readouterr().err


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_the_learned_tokens_are_the_answers_and_what_ends_them(name: str, kind: str) -> None:
    tokenizer, template = tokenizers()[kind], ChatTemplate(name, BUILT_IN[name])
    ids, flags = encode_conversation(template, tokenizer, SAID, set())
    written = template.write(SAID)
    assert tokenizer.decode(ids) == written.text
    assert tokenizer.decode(ids[flags]) == "".join(written.text[start:end] for start, end in written.answers)
    end = {"chatml": "<|im_end|>", "tags": "</assistant>"}[name]
    between = "\n" if name == "chatml" else ""
    assert template.end == end
    assert tokenizer.decode(ids[flags]) == f"cba{end}{between}ed 👍{end}{between}"
    first = int(flags.argmax())
    prompt, _ = encode_located(tokenizer, template.prompt(SAID[:2]))
    assert prompt.tolist() == ids[:first].tolist()  # as when it answers


def test_marks_are_tokens_and_messages_cannot_say_them() -> None:
    tokenizer = tokenizers()["bpe"]
    ids, _ = encode_conversation(CHATML, tokenizer, SAID, set())
    marks = [tokenizer.vocab_size - 2, tokenizer.vocab_size - 1]
    assert [(ids == mark).sum() for mark in marks] == [5, 5]
    bad = (Message("user", "x<|im_end|>y"), Message("assistant", "z"))
    with pytest.raises(ValueError, match=r"conversation 1: a message of 'user' contains '<\|im_end\|>'"):
        encode_conversations(CHATML, tokenizer, [bad], 64)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for m in messages %}", "fails: "),
        ("{{ messages.__class__.__mro__ }}", "fails: access to attribute '__class__'"),
        ("{{ ''.__class__.__base__.__subclasses__() }}", "fails: access to attribute '__class__'"),
        ("{% for i in range(10**9) %}{% endfor %}", "fails: Range too big"),
        ("{{ messages.append(1) }}", "fails: "),
        ("{{ raise_exception('no') }}", "fails: no"),
        ("{% for m in messages %}{{ loop.length }}{{ m.content }}{% endfor %}", "otherwise when more is said"),
    ],
)
def test_templates_that_fail_or_reach_out_are_one_line(source: str, reason: str) -> None:
    with pytest.raises(ValueError, match="the chat template of evil") as error:
        ChatTemplate("evil", source).write(SAID)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_where_a_template_comes_from(tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    assert choose_template("", tokenizer).source == BUILT_IN["chatml"]
    (tmp_path / "own.jinja").write_text("{{ messages[0].content }}")
    assert choose_template(str(tmp_path / "own.jinja"), tokenizer).prompt(SAID[1:2]) == "Réverse abc"
    with pytest.raises(ValueError, match="template = 'chatlm' is not a file; did you mean 'chatml'"):
        choose_template("chatlm", tokenizer)
    with pytest.raises(ValueError, match="has no chat template: it was not trained to answer"):
        saved_template(tmp_path, tokenizer)
    CHATML.save(tmp_path)
    assert saved_template(tmp_path, tokenizer).source == CHATML.source


# What is learned


def conversations(count: int) -> list[Conversation]:
    """Of different lengths, one or two turns each."""
    draw = np.random.RandomState(0)
    word = lambda: "abcdefgh"[: draw.randint(1, 8)]  # noqa: E731
    turn = lambda: (Message("user", word()), Message("assistant", word()))  # noqa: E731
    return [turn() + turn() * (number % 2) for number in range(count)]


def model(position: str = "learned") -> GPT:
    return awake(GPT(GPTConfig(256, context=160, core=shape(position))))


@pytest.mark.parametrize("position", ["learned", "rotary", "alibi"])
def test_the_loss_is_the_mean_by_hand_however_rows_are_made(position: str) -> None:
    network, said = model(position), conversations(7)
    encoded = encode_conversations(ChatTemplate("tags", BUILT_IN["tags"]), ByteTokenizer(), said, 160)
    by_hand, count = 0.0, 0
    for member in range(len(said)):
        ids = torch.from_numpy(encoded.ids[member].astype(np.int64))
        logs = F.log_softmax(network(ids[None, :-1])[0].double(), dim=-1)
        for place in np.flatnonzero(encoded.answered[member][1:]):
            by_hand, count = by_hand - float(logs[place, ids[place + 1]]), count + 1
    rows = pack(encoded.ids.lengths - 1, 160)
    assert len(rows) < len(said)
    single = [[member] for member in range(7)]
    for made, width in ((rows, 1), (rows, 160), (single, 1), (single, 160)):
        ids, targets, texts = encoded.batch(made, width)
        assert int((targets != IGNORED).sum()) == count
        loss = AnswerLoss(network)(ids, targets, texts)
        assert float(loss) == pytest.approx(by_hand, rel=1e-5)
    for size in (1, 3, 7):
        assert figures(answer_totals(network, encoded, size, "cpu"))["loss"] == pytest.approx(by_hand / count, rel=1e-5)


def test_packed_conversations_do_not_see_each_other() -> None:
    network = model()
    ids = torch.randint(0, 256, (1, 30))
    texts = torch.tensor([[1] * 12 + [2] * 10 + [0] * 8])
    other = ids.clone()
    other[0, :12] = (other[0, :12] + 1) % 256
    one, two = network.features(ids, texts=texts), network.features(other, texts=texts)
    assert not torch.equal(one[0, :12], two[0, :12])
    assert torch.equal(one[0, 12:], two[0, 12:])
    alone = network.features(ids[:, 12:22])
    torch.testing.assert_close(one[:, 12:22], alone, rtol=1e-5, atol=1e-5)


def test_rows_hold_every_conversation_once_and_no_more_than_fits() -> None:
    draw = np.random.RandomState(1)
    for room in (8, 64):
        lengths = draw.randint(1, room + 1, 300)
        rows = pack(lengths, room)
        assert sorted(member for row in rows for member in row) == [*range(300)]
        assert max(lengths[row].sum() for row in rows) <= room
        assert len(rows) <= 1.23 * lengths.sum() / room + 0.5 * 300 * (room == 8) / 8 + 30
    assert pack(np.array([5, 5, 5]), 5) == [[0], [1], [2]]


def test_what_is_cut_still_has_a_target() -> None:
    draw = np.random.RandomState(2)
    for _ in range(500):
        flags = draw.rand(draw.randint(5, 40)) < draw.choice([0.1, 0.5, 0.9])
        flags[0], flags[draw.randint(1, len(flags))] = False, True
        room = draw.randint(2, len(flags))
        part = kept_part(flags, room)
        assert 2 <= len(flags[part]) <= room
        assert flags[part][1:].any()
    long = (Message("user", "a" * 300), Message("assistant", "b" * 50))
    with pytest.raises(ValueError, match="conversation 1 has 38. tokens, 33 fit"):
        encode_conversations(ChatTemplate("tags", BUILT_IN["tags"]), ByteTokenizer(), [long], 32)
    encoded = encode_conversations(ChatTemplate("tags", BUILT_IN["tags"]), ByteTokenizer(), [long], 32, "truncate")
    assert len(encoded.ids[0]) <= 33
    assert encoded.answered[0][1:].any()
    assert bytes(encoded.ids[0][encoded.answered[0].astype(bool)].tolist()).startswith(b"b")


# Answering


def test_an_answer_ends_where_the_template_says() -> None:
    assert "".join(before(iter(["ab", "c</", "as", "x</a", "s", ">y"]), "</as>")) == "abc</asx"
    assert "".join(before(iter(["ab", "</a"]), "</as>")) == "ab</a"
    assert "".join(before(iter(["ab"]), "")) == "ab"


def test_what_is_remembered_fits_the_context() -> None:
    template = ChatTemplate("tags", BUILT_IN["tags"])
    answering = Answering(model(), ByteTokenizer(), template)
    system, turn = (Message("system", "s"),), (Message("user", "u" * 20), Message("assistant", "a" * 20))
    whole = bytes(answering.prompt([*system, *turn, Message("user", "q")]).tolist()).decode()
    assert whole == template.prompt([*system, *turn, Message("user", "q")])
    cut = bytes(answering.prompt([*system, *turn, *turn, *turn, Message("user", "q")]).tolist()).decode()
    assert cut.startswith("<system>s</system><user>")
    assert cut.endswith("<user>q</user><assistant>")
    assert len(cut) <= 120
    with pytest.raises(ValueError, match="tokens, of which 159 fit beside an answer"):
        answering.prompt([Message("user", "u" * 200)])
    pieces = [*answering.answer([*system, Message("user", "q")], tokens=5)]
    assert len("".join(pieces)) <= 5
