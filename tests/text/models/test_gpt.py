"""The GPT: its size, its loss, its limits, and that no token attends to the future."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from core.config import PositionConfig, TransformerConfig
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.files.serialize import from_dict, to_dict
from tests.core.helpers import POSITIONS, awake, padded_coords, shape
from text.corpus.windows import IGNORED
from text.models.gpt import GPT, GPTConfig
from text.tasks.language_modelling import NextTokenLoss

LEARNED = PositionConfig("learned")
NANOGPT = GPTConfig(65, 256, "tied", TransformerConfig(dim=384, depth=6, n_heads=6, bias="none", position=LEARNED))
NANOGPT_CPU = GPTConfig(65, 64, "tied", TransformerConfig(dim=128, depth=4, n_heads=4, bias="none", position=LEARNED))
GPT2 = GPTConfig(50257, 1024, "tied", TransformerConfig(dim=768, depth=12, n_heads=12, position=LEARNED))


def gpt(position: str = "rotary", head: str = "untied", context: int = 12, **changes) -> GPT:
    return awake(GPT(GPTConfig(11, context, head, shape(position, **changes))))


def ids(batch: int = 2, length: int = 9) -> torch.Tensor:
    return torch.randint(0, 11, (batch, length), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("config", "all_parameters", "without_positions"),
    [
        (NANOGPT, 10_745_088, 10_646_784),  # nanoGPT prints 10.65M: it leaves out the table of positions
        (NANOGPT_CPU, 804_096, 795_904),  # and 0.80M
        (GPT2, 124_439_808, 123_653_376),
    ],
    ids=["nanogpt-gpu", "nanogpt-cpu", "gpt2-124m"],
)
def test_the_public_shapes_have_their_number_of_parameters(config, all_parameters, without_positions):
    with torch.device("meta"):
        model = GPT(config)
    count = sum(p.numel() for p in model.parameters())
    assert count == all_parameters
    assert count - sum(p.numel() for p in model.core.position.parameters()) == without_positions


@pytest.mark.parametrize("head", ["tied", "untied"])
@pytest.mark.parametrize("position", POSITIONS)
def test_a_future_token_changes_no_past_logits(position, head):
    model, line = gpt(position, head), ids()
    before = model(line)
    assert before.shape == (2, 9, 11)
    changed = line.clone()
    changed[:, 5:] = (changed[:, 5:] + 3) % 11
    after = model(changed)
    assert torch.equal(after[:, :5], before[:, :5])
    assert not torch.isclose(after[:, 5:], before[:, 5:]).all(-1).any()


def test_a_tied_head_is_the_embedding():
    tied, untied = gpt(head="tied"), gpt()
    assert tied.head.weight is tied.embed.weight
    assert untied.head.weight is not untied.embed.weight
    assert sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters()) == 11 * 32
    twin = copy.deepcopy(tied)
    assert twin.head.weight is twin.embed.weight
    assert twin.head.weight is not tied.head.weight


@pytest.mark.parametrize(("head", "init"), [("untied", "zero-residual"), ("tied", "gpt2"), ("untied", "gpt2")])
def test_an_untrained_model_guesses(head, init):
    """Its loss is that of guessing: exactly with a zero head, nearly with a small one."""
    model = GPT(GPTConfig(11, 12, head, shape(init=init)))
    loss = NextTokenLoss(model)(ids(), (ids() + 1) % 11) / ids().numel()
    near = 1e-6 if init == "zero-residual" else 0.3  # 0.08 +- 0.04 over it (tied), seeds 0-4
    assert loss.item() == pytest.approx(math.log(11), abs=near)


def test_loss_is_the_sum_over_targets_that_count():
    model, line = gpt(), ids(3, 8)
    targets = ids(3, 8).roll(1, 0)
    targets[0, 3:] = IGNORED
    targets[2] = IGNORED
    loss = NextTokenLoss(model)(line, targets)
    assert (loss.shape, loss.dtype) == ((), torch.float32)
    log_probabilities = model(line).detach().double().log_softmax(-1)
    expected = -sum(
        log_probabilities[b, t, targets[b, t]] for b in range(3) for t in range(8) if targets[b, t] != IGNORED
    )
    assert loss.item() == pytest.approx(float(expected), rel=1e-5)


def test_loss_of_nothing_is_zero_and_its_gradient_too():
    model = gpt()
    loss = NextTokenLoss(model)(ids(), torch.full_like(ids(), IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_loss_is_in_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        loss = NextTokenLoss(gpt())(ids(), ids())
    assert loss.dtype == torch.float32
    exact = NextTokenLoss(gpt())(ids(), ids())
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize("position", POSITIONS)
def test_pads_on_the_left_change_nothing(position):
    model, line, pads = gpt(position), ids(3), torch.tensor([0, 4, 8])
    logits = model(line, pads=pads)
    for row, pad in enumerate(pads.tolist()):
        alone = model(line[row : row + 1, pad:])
        torch.testing.assert_close(logits[row : row + 1, pad:], alone, atol=1e-5, rtol=1e-4)
    step = model.step(line, model.new_state(3, 12), pads)
    torch.testing.assert_close(step, logits[:, -1], atol=1e-5, rtol=1e-4)


def test_more_tokens_than_the_context_are_refused():
    model = gpt(context=12)
    with pytest.raises(ValueError, match="13 .* 12"):
        model(ids(1, 13))
    cache = model.new_state(1, 20)
    model.step(ids(1, 9), cache)
    with pytest.raises(ValueError, match="14 .* 12"):
        model.step(ids(1, 5), cache)


def test_embedding_core_and_head_are_three_modules_that_make_the_whole():
    model, line = gpt("learned"), ids()
    from core.graph import causal

    hidden = model.core(model.embed(line), padded_coords(9, torch.tensor([0, 0])), causal())
    torch.testing.assert_close(model.head(hidden), model(line))
    assert {name for name, _ in model.named_children()} == {"embed", "core", "head"}


def test_a_deep_copy_shares_nothing():
    model = gpt()
    twin, before = copy.deepcopy(model), model(ids())
    for p in twin.parameters():
        p.data.mul_(0.5)
    assert torch.equal(model(ids()), before)
    assert not torch.allclose(twin(ids()), before)


def test_a_model_comes_back_from_its_configuration_and_weights():
    model = gpt("t5", n_kv_heads=1)
    again = GPT(from_dict(GPTConfig, to_dict(model.config))).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(ids()), model(ids()))


def test_it_memorises_a_sequence():
    model, line = GPT(GPTConfig(11, 12, "untied", shape(init="zero-residual"))), ids(1, 12)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    objective = NextTokenLoss(model)
    for _ in range(60):
        optimizer.zero_grad()
        objective(line[:, :-1], line[:, 1:]).backward()
        optimizer.step()
    assert objective(line[:, :-1], line[:, 1:]).item() / 11 < 0.05  # 0.004 +- 0.002 over seeds 0-4; 2.4 untrained
    assert complete(model.eval(), [line[0, :1].tolist()], 11, Sampling(temperature=0)) == [line[0, 1:].tolist()]


@pytest.mark.parametrize(
    "changes",
    [
        {"position": "rotary", "norm": "rmsnorm", "qk_norm": "rms", "feedforward": "relu2"},
        {"position": "t5", "feedforward": "swiglu", "n_kv_heads": 2},
        {"position": "learned"},
    ],
    ids=lambda changes: changes["position"],
)
def test_the_loss_compiles_as_one_graph(changes):
    objective = NextTokenLoss(gpt(**changes))
    compiled = torch.compile(objective, backend="aot_eager", fullgraph=True)
    losses = [f(ids(), ids()) for f in (objective, compiled)]
    torch.testing.assert_close(*losses)
    eager, traced = (torch.autograd.grad(loss, list(objective.parameters())) for loss in losses)
    torch.testing.assert_close(traced, eager, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: GPTConfig(vocab_size=-1), "vocab_size = -1"),
        (lambda: GPTConfig(context=0), "context = 0 must be above 0"),
        (lambda: GPTConfig(head="shared"), "head = 'shared' is not one of: tied, untied"),
        (lambda: GPT(GPTConfig()), "vocab_size = 0"),
    ],
)
def test_what_cannot_be_built_is_refused(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()


def test_ignored_is_what_torch_ignores():
    logits = torch.randn(3, 5)
    targets = torch.tensor([1, IGNORED, 2])
    torch.testing.assert_close(F.cross_entropy(logits, targets), F.cross_entropy(logits[[0, 2]], targets[[0, 2]]))
