"""Recurrent encoder-decoders: the papers' formulas by hand, no leak, no padding seen, and decoding in a batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from core.decoding.beams import beam_search
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.files.serialize import from_dict, to_dict
from core.optim.groups import parameter_roles
from tests.core.helpers import awake
from tests.text.models import by_hand
from text.models.recurrent_seq2seq import (
    BAHDANAU_2015,
    LUONG_2015,
    SUTSKEVER_2014,
    RecurrentSeq2Seq,
    RecurrentSeq2SeqConfig,
)

V = 11
LENGTHS = torch.tensor([7, 3, 5])
SMALL = {"vocab_size": V, "context": 16, "dim": 8, "dropout": 0.0}
SHAPES = {
    "sutskever": replace(SUTSKEVER_2014, **SMALL, start=1),
    "bahdanau": replace(BAHDANAU_2015, **SMALL),
    "luong": replace(LUONG_2015, **SMALL | {"depth": 2}),
    "one vector from both ends": RecurrentSeq2SeqConfig(**SMALL, cell="gru", attention="none", depth=2),
    "additive, deep": RecurrentSeq2SeqConfig(**SMALL, attention="additive", depth=2, head="untied"),
    "additive, forward": RecurrentSeq2SeqConfig(**SMALL, attention="additive", encoder="forward"),
    "dot": RecurrentSeq2SeqConfig(**SMALL, attention="dot", encoder="forward", depth=2),
    "general": RecurrentSeq2SeqConfig(**SMALL, cell="gru", attention="general"),
    "feeding": RecurrentSeq2SeqConfig(**SMALL, cell="gru", attention="dot", input_feeding="attentional"),
}
ATTENTIVE = [name for name, shape in SHAPES.items() if shape.attention != "none"]


def model(name: str, **changes) -> RecurrentSeq2Seq:
    return awake(RecurrentSeq2Seq(replace(SHAPES[name], **changes)))


def ids(batch: int = 3, length: int = 7, seed: int = 5) -> Tensor:
    return torch.randint(0, V, (batch, length), generator=torch.Generator().manual_seed(seed))


TARGET = ids(seed=6)


# The papers


def score(m: RecurrentSeq2Seq, state: Tensor, h: Tensor) -> Tensor:
    """Bahdanau 2015, A.1.2; Luong 2015, eq. 8."""
    attention = m.decoder.attention
    if m.config.attention == "dot":
        return state @ h
    if m.config.attention == "general":
        return state @ attention.key.weight @ h
    energy = attention.query.weight @ state + attention.key.weight @ h + attention.key.bias
    return attention.score.weight[0] @ energy.tanh()


def attend(m: RecurrentSeq2Seq, state: Tensor, memory: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """A context and its weights (Bahdanau 2015, eq. 5-6)."""
    weights = by_hand.weights_of([score(m, state, h) for h in memory])
    return by_hand.mean(weights, memory), weights


def translate_by_hand(m: RecurrentSeq2Seq, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (T, V) and weights (T, N) of one sentence without padding, a token at a time, by the papers."""
    c, xs = m.config, [m.embed.weight[token] for token in source]
    memory, states = by_hand.read(m.encoder.layers, xs[::-1] if c.encoder == "reversed" else xs)
    if c.encoder == "reversed":
        memory = memory[::-1]
    vector, logits, rows = torch.zeros(c.dim), [], []
    for token in target:
        x, top, weights = m.embed.weight[token], states[-1][0], [torch.tensor(0.0)] * len(memory)
        if c.attention == "additive":
            context, weights = attend(m, top, memory)
            top, states = by_hand.step(m.decoder.rnn.layers, torch.cat((x, context)), states)
        else:
            fed = torch.cat((x, vector)) if c.input_feeding == "attentional" else x
            top, states = by_hand.step(m.decoder.rnn.layers, fed, states)
            if c.attention != "none":
                context, weights = attend(m, top, memory)
        vector = (m.decoder.combine.weight @ torch.cat((context, top))).tanh() if c.attention != "none" else top
        logits.append(m.head.weight @ vector)
        rows.append(torch.stack(weights))
    return torch.stack(logits), torch.stack(rows)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_it_computes_what_the_papers_say_whatever_the_padding(name):
    m, source = model(name), ids()
    logits = m(source, LENGTHS, TARGET)
    for row, length in enumerate(LENGTHS.tolist()):
        expected, weights = translate_by_hand(m, source[row, :length], TARGET[row])
        torch.testing.assert_close(logits[row], expected, atol=2e-6, rtol=1e-5)
        if name in ATTENTIVE:
            got = m.alignments(source, LENGTHS, TARGET)[row, :, :length]
            torch.testing.assert_close(got, weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("paper", [SUTSKEVER_2014, BAHDANAU_2015, LUONG_2015])
def test_the_papers_shapes_can_be_built(paper):
    with torch.device("meta"):
        m = RecurrentSeq2Seq(replace(paper, vocab_size=100))
    assert m.embed.weight.shape == (100, 1000)
    assert m.decoder.rnn.layers.num_layers == m.encoder.layers.num_layers == paper.depth


# What is seen


@pytest.mark.parametrize("name", SHAPES)
def test_a_target_token_never_sees_its_successors(name):
    m, changed = model(name), TARGET.clone()
    before = m(ids(), LENGTHS, TARGET)
    assert before.shape == (3, 7, V)
    changed[:, 4:] = (changed[:, 4:] + 3) % V
    after = m(ids(), LENGTHS, changed)
    assert torch.equal(after[:, :4], before[:, :4])
    assert not torch.isclose(after[:, 4:], before[:, 4:]).all(-1).any()


@pytest.mark.parametrize("name", SHAPES)
def test_padding_of_the_source_changes_nothing(name):
    m, source = model(name), ids()
    together = m(source, LENGTHS, TARGET)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = m(source[row : row + 1, :length], None, TARGET[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=1e-6)
    wider = F.pad(source, (0, 6), value=3)
    torch.testing.assert_close(m(wider, LENGTHS, TARGET), together, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_the_first_and_the_last_token_of_a_source_are_seen(name):
    m, before = model(name), model(name)(ids(), LENGTHS, TARGET)
    for places in (torch.zeros(3, dtype=torch.long), LENGTHS - 1):
        source = ids()
        source[range(3), places] = (source[range(3), places] + 1) % V
        assert not torch.isclose(m(source, LENGTHS, TARGET), before).all(-1).any()


@pytest.mark.parametrize("name", ATTENTIVE)
def test_weights_of_attention_sum_to_one_and_are_zero_at_padding(name):
    weights = model(name).alignments(ids(), LENGTHS, TARGET)
    assert weights.shape == (3, 7, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 7))
    padding = torch.arange(7) >= LENGTHS.unsqueeze(-1)
    assert not weights.transpose(1, 2)[padding].any()
    assert (weights.transpose(1, 2)[~padding] > 0).all()


def test_without_attention_there_are_no_alignments():
    with pytest.raises(ValueError, match="attention = 'none': there are no alignments"):
        model("sutskever").alignments(ids(), LENGTHS, TARGET)


# Decoding


@pytest.mark.parametrize("name", SHAPES)
@torch.inference_mode()
def test_step_by_step_is_the_whole_sequence(name):
    m, source = model(name), ids()
    whole, bound = m(source, LENGTHS, TARGET), m.bind(source, LENGTHS)
    state = bound.new_state(3, 7)
    steps = [bound.step(TARGET[:, :3], state), *(bound.step(TARGET[:, t : t + 1], state) for t in range(3, 7))]
    torch.testing.assert_close(torch.stack(steps, 1), whole[:, 2:], atol=1e-6, rtol=1e-5)
    state.reset()
    torch.testing.assert_close(bound.step(TARGET, state), whole[:, -1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
@torch.inference_mode()
def test_pads_on_the_left_of_a_target_change_nothing(name):
    m, source, pads = model(name), ids(), torch.tensor([0, 4, 6])
    bound, expected = m.bind(source, LENGTHS), m(source, LENGTHS, TARGET)[:, -1].clone()
    for row, pad in enumerate(pads.tolist()):
        expected[row] = m(source[row : row + 1, : LENGTHS[row]], None, TARGET[row : row + 1, pad:])[0, -1]
    state = bound.new_state(3, 7)
    for t in range(7):
        got = bound.step(TARGET[:, t : t + 1], state, pads)
    for logits in (got, bound.step(TARGET, bound.new_state(3, 7), pads)):
        torch.testing.assert_close(logits, expected, atol=1e-6, rtol=1e-5)


@torch.inference_mode()
def best_continuation(m: RecurrentSeq2Seq, source: Tensor, tokens: int, eos: int) -> tuple[list[int], float]:
    """The most probable of all continuations of at most `tokens` tokens, each computed whole."""
    found, v = {}, m.config.vocab_size
    for new in torch.cartesian_prod(*[torch.arange(v)] * tokens).tolist():
        new = new[: new.index(eos) + 1] if eos in new else new
        target = torch.tensor([[m.config.start, *new]])
        log_p = m(source, None, target[:, :-1]).log_softmax(-1)
        found[tuple(new)] = log_p.gather(-1, target[:, 1:, None]).sum().item()
    best = max(found, key=lambda new: found[new])
    return list(best), found[best]


@pytest.mark.parametrize("name", SHAPES)
def test_wide_beams_find_the_best_translation_of_every_sentence(name):
    m = model(name, vocab_size=4)
    source = ids() % 4
    found = beam_search(m.bind(source, LENGTHS), [[m.config.start]] * 3, 3, beams=64, eos=2, length_penalty=0.0)
    for row, length in enumerate(LENGTHS.tolist()):
        tokens, score = best_continuation(m, source[row : row + 1, :length], 3, eos=2)
        assert (found[row][0].tokens, found[row][0].score) == (tokens, pytest.approx(score, abs=1e-4))


@pytest.mark.parametrize("name", SHAPES)
def test_a_batch_is_decoded_as_each_sentence_alone(name):
    m, source, prompt = model(name), ids(), [SHAPES[name].start]
    together = m.bind(source, LENGTHS)
    beams = beam_search(together, [prompt] * 3, 9, beams=4, eos=2)
    greedy = complete(together, [prompt] * 3, 9, Sampling(temperature=0), stop=[2])
    for row, length in enumerate(LENGTHS.tolist()):
        alone = m.bind(source[row : row + 1, :length])
        (expected,) = beam_search(alone, [prompt], 9, beams=4, eos=2)
        assert [h.tokens for h in beams[row]] == [h.tokens for h in expected]
        torch.testing.assert_close([h.score for h in beams[row]], [h.score for h in expected], atol=1e-5, rtol=1e-5)
        assert greedy[row] == complete(alone, [prompt], 9, Sampling(temperature=0), stop=[2])[0]


@pytest.mark.parametrize("name", SHAPES)
@torch.inference_mode()
def test_rows_may_branch_into_beams_and_finished_sentences_may_be_dropped(name):
    m, source, target = model(name), ids(), ids(3, 5, seed=7)
    whole, bound = m(source, LENGTHS, target), m.bind(source, LENGTHS)
    state, left = bound.new_state(3, 5), torch.arange(3)
    bound.step(target[:, :3], state)
    for n, rows, sources in ((3, [0, 0, 1, 1, 2, 2], 3), (4, [4, 5, 0, 1], 2)):
        state.keep(torch.tensor(rows))
        left = left[rows]
        assert len(state.memory.values) == sources
        got = bound.step(target[left, n : n + 1], state)
        torch.testing.assert_close(got, whole[left, n], atol=1e-6, rtol=1e-5)
    state.reset()
    torch.testing.assert_close(bound.step(target[left], state), whole[left, -1], atol=1e-6, rtol=1e-5)


def test_a_source_is_encoded_once_and_shared_by_all_its_beams():
    m, encoded, shared = model("bahdanau"), [], []
    m.decoder.attention.key.register_forward_hook(lambda _, inputs, __: encoded.append(inputs[0].shape))
    m.decoder.attention.register_forward_hook(
        lambda _, inputs, __: shared.append((len(inputs[0]), len(inputs[1].values)))
    )
    beam_search(m.bind(ids(), LENGTHS), [[0]] * 3, 6, beams=5)
    assert encoded == [(3, 7, 8)]
    assert shared == [(3, 3)] + [(15, 3)] * 5


# Training


def test_features_and_head_make_the_logits():
    m = model("bahdanau")
    features = m.features(ids(), LENGTHS, TARGET)
    assert features.shape == (3, 7, 8)
    assert torch.equal(m.head(features), m(ids(), LENGTHS, TARGET))


@pytest.mark.parametrize("name", SHAPES)
def test_every_parameter_is_trained_and_dropout_is_drawn(name):
    m = model(name, dropout=0.5).train()
    assert not torch.allclose(m(ids(), LENGTHS, TARGET), m(ids(), LENGTHS, TARGET))
    m(ids(), LENGTHS, TARGET).square().sum().backward()
    assert [n for n, p in m.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert torch.equal(m.eval()(ids(), LENGTHS, TARGET), model(name)(ids(), LENGTHS, TARGET))


def test_every_parameter_has_its_role():
    roles = parameter_roles(model("bahdanau"))
    assert {name.split(".")[0]: role.layer for name, role in roles.items()} == {"embed": 0, "encoder": 1, "decoder": 2}


def test_a_model_comes_back_from_its_configuration_and_weights():
    m = model("luong")
    again = RecurrentSeq2Seq(from_dict(RecurrentSeq2SeqConfig, to_dict(m.config))).eval()
    again.load_state_dict(m.state_dict())
    assert torch.equal(again(ids(), LENGTHS, TARGET), m(ids(), LENGTHS, TARGET))


@pytest.mark.parametrize("name", ["sutskever", "bahdanau", "luong", "dot"])
def test_logits_are_nearly_the_same_in_bfloat16(name):
    m = model(name)
    with torch.autocast("cpu", torch.bfloat16):
        logits = m(ids(), LENGTHS, TARGET)
    torch.testing.assert_close(logits.float(), m(ids(), LENGTHS, TARGET), atol=0.05, rtol=0.05)


def reversals(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sequences of 8 out of 9 symbols, and the same backwards after the start token 0."""
    source = torch.randint(1, 10, (count, 8), generator=torch.Generator().manual_seed(seed))
    return source, F.pad(source.flip(1), (1, 0))


@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [  # of new sequences reversed without a fault, over three seeds:
        ({"attention": "additive"}, 0.95, 1.0),  # 0.995 to 1.000
        ({"attention": "general"}, 0.95, 1.0),  # 0.985 to 0.995
        ({"attention": "none", "encoder": "reversed"}, 0.1, 0.5),  # 0.27 to 0.30
    ],
    ids=lambda value: value["attention"] if isinstance(value, dict) else None,
)
def test_attention_learns_to_reverse_what_one_vector_does_not_hold_yet(changes, low, high):
    torch.manual_seed(0)
    m = RecurrentSeq2Seq(RecurrentSeq2SeqConfig(vocab_size=10, dim=48, **changes))
    optimizer = torch.optim.Adam(m.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (250 - step) / 125))
    for step in range(250):
        source, target = reversals(32, step)
        optimizer.zero_grad()
        F.cross_entropy(m(source, None, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    source, target = reversals(200, 10_000)
    new = complete(m.eval().bind(source), [[0]] * 200, 8, Sampling(temperature=0))
    assert low < (torch.tensor(new) == target[:, 1:]).all(-1).float().mean().item() <= high


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: RecurrentSeq2SeqConfig(attention="relu"), "attention = 'relu' is not one of: none, additive, dot"),
        (lambda: RecurrentSeq2SeqConfig(encoder="both"), "encoder = 'both' is not one of: forward, reversed"),
        (lambda: RecurrentSeq2SeqConfig(dim=7), "dim = 7 must be even with encoder = 'bidirectional'"),
        (lambda: RecurrentSeq2SeqConfig(vocab_size=5, eos=5), "eos = 5 must be below vocab_size = 5"),
        (lambda: RecurrentSeq2SeqConfig(start=-1), "start = -1 must be at least 0"),
        (
            lambda: RecurrentSeq2SeqConfig(input_feeding="attentional"),
            "input_feeding = 'attentional' has no effect: with attention = 'additive' each step reads the context",
        ),
        (
            lambda: RecurrentSeq2SeqConfig(attention="none", input_feeding="attentional"),
            "input_feeding = 'attentional' has no effect: with attention = 'none' there is no attention",
        ),
        (lambda: RecurrentSeq2Seq(RecurrentSeq2SeqConfig()), "vocab_size = 0"),
        (lambda: model("dot")(ids(3, 17), None, TARGET), "a source of 17 tokens is longer than the context of 16"),
        (lambda: model("dot")(ids(), None, ids(3, 17)), "a target of 17 tokens is longer than the context of 16"),
        (lambda: model("dot").encode(ids(), torch.tensor([1, 0, 7])), r"lengths = \[1, 0, 7\] must be from 1 to the 7"),
        (lambda: model("dot").encode(ids(), torch.tensor([1, 8, 7])), r"lengths = \[1, 8, 7\] must be from 1 to the 7"),
        (lambda: model("dot").bind(ids()).new_state(4, 5), "memory of 3 sources must divide the 4 rows"),
    ],
)
def test_what_cannot_be_built_or_read_is_refused(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()
