"""The recurrent language model: the recurrence by hand, and everything that a GPT promises the task and decoding."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from core.decoding.beams import beam_search
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.files.serialize import from_dict, to_dict
from core.optim.groups import parameter_roles
from tests.core.helpers import awake
from tests.text.models import by_hand
from text.models.recurrent import RecurrentConfig, RecurrentLM
from text.tasks.language_modelling import NextTokenLoss, default_rows

V = 11
CONFIG = RecurrentConfig(vocab_size=V, context=12, dim=8, depth=2)
SHAPES = {
    "lstm": CONFIG,
    "gru": replace(CONFIG, cell="gru"),
    "one layer": replace(CONFIG, depth=1, head="untied"),
}


def lm(name: str = "lstm", **changes) -> RecurrentLM:
    return awake(RecurrentLM(replace(SHAPES[name], **changes)))


def ids(batch: int = 3, length: int = 9, seed: int = 5) -> torch.Tensor:
    return torch.randint(0, V, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SHAPES)
def test_it_is_the_recurrence_by_hand(name):
    model, line = lm(name), ids()
    for row, logits in zip(line, model(line), strict=True):
        states, _ = by_hand.read(model.rnn.layers, [model.embed.weight[token] for token in row])
        expected = torch.stack([model.head.weight @ h for h in states])
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_a_future_token_changes_no_past_logits(name):
    model, line = lm(name), ids()
    before, changed = model(line), line.clone()
    assert before.shape == (3, 9, V)
    changed[:, 5:] = (changed[:, 5:] + 3) % V
    after = model(changed)
    assert torch.equal(after[:, :5], before[:, :5])
    assert not torch.isclose(after[:, 5:], before[:, 5:]).all(-1).any()


@pytest.mark.parametrize("name", SHAPES)
@torch.inference_mode()
def test_step_by_step_is_the_whole_sequence(name):
    model, line = lm(name), ids()
    whole, state = model(line), model.new_state(3, 9)
    assert (state.capacity, state.length) == (9, 0)
    steps = [model.step(line[:, :4], state), *(model.step(line[:, t : t + 1], state) for t in range(4, 9))]
    torch.testing.assert_close(torch.stack(steps, 1), whole[:, 3:], atol=1e-6, rtol=1e-5)
    assert state.length == 9
    state.reset()
    torch.testing.assert_close(model.step(line, state), whole[:, -1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
@torch.inference_mode()
def test_pads_on_the_left_change_nothing(name):
    model, line, pads = lm(name), ids(), torch.tensor([0, 4, 8])
    logits = model(line, pads)
    for row, pad in enumerate(pads.tolist()):
        alone = model(line[row : row + 1, pad:])
        torch.testing.assert_close(logits[row : row + 1, pad:], alone, atol=1e-6, rtol=1e-5)
    state = model.new_state(3, 9)
    steps = [model.step(line[:, :3], state, pads), *(model.step(line[:, t : t + 1], state, pads) for t in range(3, 9))]
    torch.testing.assert_close(steps[-1], logits[:, -1], atol=1e-6, rtol=1e-5)


@torch.inference_mode()
def greedy(model: RecurrentLM, line: list[int], count: int) -> list[int]:
    """The most probable token, over and over, all of the line read anew each time."""
    new: list[int] = []
    for _ in range(count):
        new.append(int(model(torch.tensor([line + new]))[0, -1].argmax()))
    return new


@pytest.mark.parametrize("name", SHAPES)
def test_prompts_of_any_length_go_on_as_each_alone_far_beyond_the_window_of_training(name):
    model, prompts = lm(name), [[1, 2, 3, 4, 5, 6], [7], [8, 9, 10]]
    assert model.config.context < 30
    assert complete(model, prompts, 30, Sampling(temperature=0)) == [greedy(model, p, 30) for p in prompts]


@pytest.mark.parametrize("name", SHAPES)
def test_beams_of_a_batch_are_those_of_each_prompt_alone_and_wide_ones_find_the_best(name):
    model, prompts = lm(name, vocab_size=4), [[1, 2, 3], [0], [3, 1]]
    together = beam_search(model, prompts, 4, beams=3, eos=2)
    for prompt, found in zip(prompts, together, strict=True):
        (alone,) = beam_search(model, [prompt], 4, beams=3, eos=2)
        assert [h.tokens for h in found] == [h.tokens for h in alone]
        torch.testing.assert_close([h.score for h in found], [h.score for h in alone])
    (best, *_), *_ = beam_search(model, [[0]], 3, beams=64, length_penalty=0.0)
    new = torch.cartesian_prod(*[torch.arange(4)] * 3)  # (64, 3): all there are
    log_p = model(torch.cat((torch.zeros(64, 1, dtype=torch.long), new), 1)[:, :-1]).log_softmax(-1)
    totals = log_p.gather(-1, new.unsqueeze(-1)).sum((1, 2))
    assert (best.tokens, best.score) == (new[totals.argmax()].tolist(), pytest.approx(totals.max().item(), abs=1e-5))


@pytest.mark.parametrize("name", SHAPES)
@torch.inference_mode()
def test_rows_may_be_reordered_and_dropped(name):
    model, line = lm(name), ids()
    state = model.new_state(3, 9)
    model.step(line[:, :5], state)
    state.reorder(torch.tensor([2, 0, 0]))
    state.keep(torch.tensor([0, 2]))
    expected = model(torch.cat((line[[2, 0], :5], line[:2, 5:6]), 1))[:, -1]
    torch.testing.assert_close(model.step(line[:2, 5:6], state), expected, atol=1e-6, rtol=1e-5)
    state.reset()
    torch.testing.assert_close(model.step(line[:2], state), model(line[:2])[:, -1], atol=1e-6, rtol=1e-5)


def test_a_state_takes_no_more_tokens_than_it_was_made_for():
    model = lm()
    state = model.new_state(3, 5)
    model.step(ids(3, 4), state)
    with pytest.raises(ValueError, match="5 places holds 4: no room for 2 more"):
        model.step(ids(3, 2), state)


def test_features_and_head_make_the_logits():
    model = lm()
    features = model.features(ids())
    assert features.shape == (3, 9, 8)
    assert torch.equal(model.head(features), model(ids()))
    assert torch.equal(model.features(ids(), read=slice(-2, None)), features[:, -2:])


def test_a_tied_head_is_the_embedding():
    tied, untied = lm(), lm(head="untied")
    assert tied.head.weight is tied.embed.weight
    assert untied.head.weight is not untied.embed.weight
    assert sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters()) == V * 8


@pytest.mark.parametrize("name", SHAPES)
def test_weights_start_as_the_table_says(name):
    paper = RecurrentLM(replace(SHAPES[name], dim=32, init="uniform"))
    drawn = torch.cat([p.detach().flatten() for p in paper.parameters()])
    assert 0.079 < drawn.abs().max() <= 0.08
    assert drawn.std().item() == pytest.approx(0.08 / math.sqrt(3), rel=0.05)
    model, width = RecurrentLM(replace(SHAPES[name], dim=32, vocab_size=200, head="untied")), 32
    for matrix in (model.embed.weight, model.head.weight):
        assert matrix.std().item() == pytest.approx(0.2, rel=0.05)
    layers = model.rnn.layers
    for gate in layers.weight_hh_l0.split(width):
        torch.testing.assert_close(gate @ gate.T, torch.eye(width), atol=1e-5, rtol=0)
    assert layers.weight_ih_l0.abs().max() <= math.sqrt(6 / (32 + 32))
    biases = (layers.bias_ih_l0 + layers.bias_hh_l0).split(width)
    open_ = [1] if isinstance(layers, torch.nn.LSTM) else []  # input, forget, cell, output
    assert [bias.unique().tolist() for bias in biases] == [[float(gate in open_)] for gate in range(len(biases))]


@pytest.mark.parametrize("init", ["orthogonal", "uniform"])
def test_an_untrained_model_guesses(init):
    torch.manual_seed(0)
    model = RecurrentLM(replace(CONFIG, dim=64, init=init))
    loss = NextTokenLoss(model)(ids(), ids(seed=6)) / ids().numel()
    assert loss.item() == pytest.approx(math.log(V), abs=0.1)


def test_dropout_is_drawn_in_training_alone():
    model = lm(dropout=0.5)
    assert torch.equal(model(ids()), lm()(ids()))
    model.train()
    assert not torch.allclose(model(ids()), model(ids()))


def test_a_model_comes_back_from_its_configuration_and_weights():
    model = lm("gru")
    again = RecurrentLM(from_dict(RecurrentConfig, to_dict(model.config))).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(ids()), model(ids()))
    with torch.device("meta"):
        assert RecurrentLM(CONFIG).rnn.layers.weight_hh_l0.shape == (32, 8)


def test_every_parameter_has_its_role():
    roles = parameter_roles(lm())
    assert {(name, role.layer, role.decay) for name, role in roles.items() if not name.startswith("rnn.")} == {
        ("embed.weight", 0, True)
    }
    assert {role.layer for name, role in roles.items() if name.startswith("rnn.")} == {1}
    assert {role.decay for name, role in roles.items() if ".bias" in name} == {False}


def test_the_loss_is_nearly_the_same_in_bfloat16():
    model = lm()
    exact = NextTokenLoss(model)(ids(), ids())
    with torch.autocast("cpu", torch.bfloat16):
        loss = NextTokenLoss(model)(ids(), ids())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize("name", SHAPES)
def test_it_learns_a_text_as_the_task_trains_it(name):
    torch.manual_seed(0)
    model, line = RecurrentLM(replace(SHAPES[name], dim=32)), ids(1, 13)
    assert default_rows(model.config) == 64
    objective, optimizer = NextTokenLoss(model), torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        objective(line[:, :-1], line[:, 1:]).backward()
        optimizer.step()
    assert objective(line[:, :-1], line[:, 1:]).item() / 12 < 0.1
    assert complete(model.eval(), [line[0, :1].tolist()], 12, Sampling(temperature=0)) == [line[0, 1:].tolist()]


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: RecurrentConfig(cell="rnn"), "cell = 'rnn' is not one of: lstm, gru"),
        (lambda: RecurrentConfig(dim=0), "dim = 0 must be above 0"),
        (lambda: RecurrentConfig(depth=0), "depth = 0 must be above 0"),
        (lambda: RecurrentConfig(context=0), "context = 0 must be above 0"),
        (lambda: RecurrentConfig(vocab_size=-1), "vocab_size = -1"),
        (lambda: RecurrentConfig(dropout=1.0), "dropout = 1.0 must be at least 0 and below 1"),
        (lambda: RecurrentConfig(head="shared"), "head = 'shared' is not one of: tied, untied"),
        (lambda: RecurrentConfig(init="gpt2"), "init = 'gpt2' is not one of: orthogonal, uniform"),
        (lambda: RecurrentLM(RecurrentConfig()), "vocab_size = 0"),
    ],
)
def test_what_cannot_be_built_is_refused(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()
