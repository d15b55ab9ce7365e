"""Stacks: messages travel along the edges and nowhere else, and the paper's model equals PyTorch's."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from core.attention import LayerContext
from core.config import FeedForwardKind
from core.graph import Route, arbitrary, causal, full, padding, window
from core.positions import index
from core.transformer import EncoderDecoder, Transformer
from tests.core.helpers import GRAPHS, NOT_CAUSAL, POSITIONS, padded_coords, shape, stack, tokens

CASES = [*product(POSITIONS, ["pre", "post"], get_args(FeedForwardKind))]
VARIETY = [  # of what the three named choices leave open, one per decoder in turn
    {},
    {"norm": "rmsnorm", "n_kv_heads": 2, "bias": "none"},
    {"norm": "rms", "qk_norm": "rms", "head_dim": 6},
    {"qk_norm": "layernorm", "n_kv_heads": 1, "bias": "qkv"},
    {"norm": "rmsnorm", "qk_norm": "rmsnorm", "ffn_dim": 20},
]
DECODERS = {
    f"{position}, {placement}, {feedforward}, {i % len(VARIETY)}": shape(
        position, norm_placement=placement, feedforward=feedforward, **VARIETY[i % len(VARIETY)]
    )
    for i, (position, placement, feedforward) in enumerate(CASES)
}


# No leak from the future


@pytest.mark.parametrize("name", DECODERS)
def test_a_future_token_changes_no_past_output(name):
    model, x, coords = stack(DECODERS[name]), tokens(2, 9), index(9)
    before = model(x, coords, causal())
    for cut in (1, 4, 8):
        changed = torch.cat((x[:, :cut], 3 * tokens(2, 9, seed=7)[:, cut:]), dim=1)
        after = model(changed, coords, causal())
        assert torch.equal(after[:, :cut], before[:, :cut])
        assert not torch.isclose(after[:, cut:], before[:, cut:]).all(-1).any()


@pytest.mark.parametrize("read", [slice(-1, None), slice(1, None, 3), slice(0, 1)])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_tokens_that_are_read_come_out_as_if_all_were(placement, read):
    model, x, coords = stack(shape("rotary", norm_placement=placement)), tokens(2, 9), index(9)
    every = model(x, coords, causal())
    torch.testing.assert_close(model(x, coords, causal(), read=read), every[:, read], atol=1e-6, rtol=0)
    cache = model.new_state(2, 9)
    first = model(x[:, :4], coords[:4], causal(), cache=cache, read=slice(-1, None))
    then = model(x[:, 4:], coords[4:], causal(), cache=cache, read=slice(-1, None))
    torch.testing.assert_close(torch.cat((first, then), 1), every[:, [3, 8]], atol=1e-5, rtol=0)


def reach(model: Transformer, coords: Tensor, graph, x: Tensor, **more) -> Tensor:
    """Which token's output depends on which token: bool (B, T, B, T), from gradients."""
    x = x.clone().requires_grad_()
    y = model(x, coords, graph, **more)
    pay = torch.randn(y.shape[-1], generator=torch.Generator().manual_seed(4))
    rows = [torch.autograd.grad(out, x, retain_graph=True)[0] for out in (y @ pay).flatten()]
    return torch.stack(rows).any(-1).view(*x.shape[:2], *x.shape[:2])


@pytest.mark.parametrize("training", [False, True], ids=["evaluating", "training"])
@pytest.mark.parametrize("graph", [*GRAPHS, *NOT_CAUSAL])
@pytest.mark.parametrize("position", POSITIONS)
def test_messages_travel_along_the_edges_and_nowhere_else(position, graph, training):
    """Two blocks reach exactly the tokens that two steps along the graph reach, in the same row."""
    drops = {"dropout": 0.1, "attention_dropout": 0.1, "drop_path": 0.1} if training else {}
    model, batch, length = stack(shape(position, **drops)).train(training), 3, 10
    edges = (GRAPHS | NOT_CAUSAL)[graph]()
    steps = edges.mask(batch, length, length).expand(batch, -1, -1) | torch.eye(length, dtype=torch.bool)
    twice = (steps.float() @ steps.float()) > 0
    got = reach(model, index(length), edges, tokens(batch, length))
    for row in range(batch):
        assert not got[row, :, [r for r in range(batch) if r != row]].any()
        if training:  # a dropped branch may close an edge, nothing may open one
            assert not (got[row, :, row] & ~twice[row]).any()
        else:
            assert torch.equal(got[row, :, row], twice[row])


# Order


@pytest.mark.parametrize("direction", ["past", "both"])
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("position", POSITIONS)
def test_tokens_permuted_together_with_their_coordinates_permute_the_outputs(position, axes, direction):
    model = stack(shape(position, direction=direction), (16,) * axes).double()
    x, coords = tokens(2, 10).double(), torch.randint(0, 16, (2, 10, axes))
    order = torch.randperm(10)
    table = torch.rand(10, 10) < 0.5
    for graph, permuted in (
        (full(), full()),
        (arbitrary(table), arbitrary(table[order][:, order])),
    ):
        y = model(x, coords, graph)
        torch.testing.assert_close(model(x[:, order], coords[:, order], permuted), y[:, order])
        assert not torch.allclose(y[:, order], y)


@pytest.mark.parametrize("position", POSITIONS)
def test_only_positions_tell_the_order(position):
    model, x, coords = stack(shape(position, direction="both")).double(), tokens(2, 10).double(), index(10)
    order = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    same = torch.allclose(model(x[:, order], coords, full()), model(x, coords, full())[:, order])
    assert same == (position == "none")


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("position", POSITIONS)
def test_relative_positions_depend_on_differences_and_absolute_ones_do_not(position, axes):
    model = stack(shape(position), (32,) * axes)
    x, coords = tokens(2, 10), torch.randint(0, 16, (2, 10, axes))
    coords[:, 0] = 0
    here, there, stretched = (model(x, places, full()) for places in (coords, coords + 7, 2 * coords))
    relative = position in ("none", "rotary", "alibi", "t5")
    assert torch.allclose(here, there, atol=1e-4) == relative
    assert torch.allclose(here, stretched, atol=1e-4) == (position == "none")


# Padding


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("graph", ["full", "causal"])
@pytest.mark.parametrize("position", POSITIONS)
def test_padding_changes_nothing_for_real_tokens(position, graph, side):
    model, length, lengths = stack(shape(position, n_kv_heads=2)), 9, torch.tensor([9, 4, 1, 0])
    base = {"full": full, "causal": causal}[graph]()
    pads = torch.zeros(4, dtype=torch.int64) if side == "right" else length - lengths
    coords = padded_coords(length, pads)
    places = torch.arange(length).expand(4, length)
    real = (places >= pads[:, None]) & (places < (pads + lengths)[:, None])  # (B, T)
    clean = tokens(4, length)
    outputs = []
    for content in (0.0, 1e4):
        x = torch.where(real[..., None], clean, content * tokens(4, length, seed=8)).requires_grad_()
        y = model(x, coords, base & padding(lengths, side, length if side == "left" else None))
        gradient = torch.autograd.grad(y[real].square().sum(), x)[0]
        assert y.isfinite().all()
        assert gradient.isfinite().all()
        assert not gradient[~real].any()
        outputs.append(y[real])
        for row in range(3):
            alone = model(clean[row : row + 1, real[row]], index(int(lengths[row])), base)
            torch.testing.assert_close(y[row : row + 1, real[row]], alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(*outputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_a_row_of_padding_alone_gives_finite_outputs_and_gradients(placement, dtype):
    model = stack(shape(norm_placement=placement)).to(dtype)
    x = tokens(2, 5).to(dtype)
    y = model(x, index(5), causal() & padding(torch.tensor([0, 5])))
    assert y.isfinite().all()
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


# A memory


@pytest.mark.parametrize("position", POSITIONS)
def test_a_decoder_with_a_memory_does_not_leak_and_attends_to_all_of_the_memory(position):
    model = stack(shape(position, n_kv_heads=2), role="cross")
    x, memory, coords = tokens(2, 6), tokens(2, 4, seed=5), index(6)
    got = reach(model, coords, causal(), x, memory=memory)
    for row in range(2):
        assert torch.equal(got[row, :, row], torch.ones(6, 6, dtype=torch.bool).tril())
    memory.requires_grad_()
    y = model(x, coords, causal(), memory=memory)
    assert torch.autograd.grad(y[0, 0].sum(), memory)[0].any(-1).tolist() == [[True] * 4, [False] * 4]


def test_a_padded_memory_is_its_real_part():
    model = stack(shape(), role="cross")
    x, coords, lengths = tokens(3, 6), index(6), torch.tensor([5, 2, 0])
    memory = tokens(3, 5, seed=5).requires_grad_()
    y = model(x, coords, causal(), memory=memory, memory_graph=padding(lengths))
    for row in range(2):
        alone = model(x[row : row + 1], coords, causal(), memory=memory[row : row + 1, : lengths[row]])
        torch.testing.assert_close(y[row : row + 1], alone, atol=1e-5, rtol=1e-5)
    gradient = torch.autograd.grad(y.square().sum(), memory)[0]
    assert gradient.any(-1).tolist() == [[i < n for i in range(5)] for n in lengths]


@pytest.mark.parametrize(("role", "memory"), [("self", tokens(1, 3)), ("cross", None)])
def test_a_memory_is_given_exactly_to_blocks_that_attend_to_one(role, memory):
    with pytest.raises(ValueError, match="memory"):
        stack(shape(), role=role)(tokens(1, 4), index(4), causal(), memory=memory)


# Parity with PyTorch's Transformer


def copy_attention(ours: nn.Module, theirs: nn.MultiheadAttention) -> None:
    parts = [ours.qkv] if hasattr(ours, "qkv") else [ours.q, ours.kv]
    theirs.in_proj_weight.data = torch.cat([p.weight for p in parts]).detach()
    theirs.in_proj_bias.data = torch.cat([p.bias for p in parts]).detach()
    theirs.out_proj.load_state_dict(ours.out.state_dict())


def copy_block(ours: nn.Module, theirs: nn.Module) -> None:
    sublayers = [ours.attention, *([ours.cross_attention] if ours.cross_attention else []), ours.feedforward]
    copy_attention(ours.attention.branch, theirs.self_attn)
    if ours.cross_attention:
        copy_attention(ours.cross_attention.branch, theirs.multihead_attn)
    theirs.linear1.load_state_dict(ours.feedforward.branch.up.state_dict())
    theirs.linear2.load_state_dict(ours.feedforward.branch.out.state_dict())
    for i, sublayer in enumerate(sublayers, start=1):
        getattr(theirs, f"norm{i}").load_state_dict(sublayer.norm.state_dict())


def torch_transformer(ours: EncoderDecoder, placement: str, activation: str) -> nn.Transformer:
    """The same encoder-decoder, made of PyTorch's layers."""
    width = {"d_model": 32, "nhead": 4, "dim_feedforward": 128, "dropout": 0.0, "activation": activation}
    options = {**width, "norm_first": placement == "pre", "batch_first": True}
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**options), 2, nn.LayerNorm(32), enable_nested_tensor=False
    )
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**options), 2, nn.LayerNorm(32))
    whole = nn.Transformer(custom_encoder=encoder, custom_decoder=decoder, **options)  # draws weights anew
    for mine, theirs in ((ours.encoder, encoder), (ours.decoder, decoder)):
        if placement == "pre":
            theirs.norm.load_state_dict(mine.norm.state_dict())
        else:
            theirs.norm = None  # the paper's stacks end with their last block
        for one, other in zip(mine.blocks, theirs.layers, strict=True):
            copy_block(one, other)
    return whole.eval()


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("placement", ["post", "pre"])
def test_the_encoder_decoder_of_the_paper_is_that_of_pytorch(placement, activation):
    config = shape("none", feedforward=activation, norm_placement=placement)
    ours = EncoderDecoder(stack(config), stack(config, role="cross"))
    theirs = torch_transformer(ours, placement, activation)
    source, target, lengths = tokens(3, 7), tokens(3, 5, seed=6), torch.tensor([7, 4, 6])
    hidden = torch.arange(7).expand(3, 7) >= lengths[:, None]  # (B, S)
    expected = theirs(
        source,
        target,
        tgt_mask=~causal().mask(1, 5, 5)[0],
        src_key_padding_mask=hidden,
        memory_key_padding_mask=hidden,
    )
    real = padding(lengths)
    got = ours((source, index(7), real), (target, index(5), causal()), memory_graph=real)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)

    whole = theirs(source, target, tgt_mask=~causal().mask(1, 5, 5)[0])
    together = ours((source, index(7), full()), (target, index(5), causal()))
    torch.testing.assert_close(together, whole, atol=1e-5, rtol=1e-5)


def test_sinusoidal_positions_are_added_once_at_the_foot_of_the_stack():
    bare, model = stack(shape("none")), stack(shape("sinusoidal"))
    x, coords = tokens(2, 6), index(6)
    torch.testing.assert_close(model(x, coords, full()), bare(x + model.position.embed(coords), coords, full()))


# Dropping


@pytest.mark.parametrize("kind", ["dropout", "attention_dropout", "drop_path"])
def test_dropping_happens_in_training_only_and_follows_the_seed(kind):
    plain, dropping = stack(shape()), stack(shape(**{kind: 0.4}))
    x, coords = tokens(8, 6), index(6)
    expected = plain(x, coords, causal())
    assert torch.equal(dropping(x, coords, causal()), expected)
    dropping.train()
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(dropping(x, coords, causal()))
    assert torch.equal(draws[0], draws[1])
    assert not torch.allclose(draws[0], draws[2])
    assert not torch.allclose(draws[0], expected)


def test_stochastic_depth_rises_from_nothing_and_drops_whole_rows():
    from timm.layers import DropPath

    model = stack(shape(depth=5, drop_path=0.4)).train()
    rates = [[m.drop_prob for m in block.modules() if isinstance(m, DropPath)] for block in model.blocks]
    assert rates == [[], *([pytest.approx(0.1 * i)] * 2 for i in range(1, 5))]
    last = model.blocks[4].attention
    x = tokens(500, 3)
    moved = (last(x, LayerContext(Route(causal=True))) - x).flatten(1).any(-1)
    assert moved.float().mean().item() == pytest.approx(0.6, abs=0.1)


# Precision


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("graph", ["causal", "left padding, window"])
def test_bfloat16_autocast_and_weights_stay_near_float32(position, graph):
    model, x, edges = stack(shape(position, n_kv_heads=2)), tokens(3, 12), GRAPHS[graph]()
    exact = model(x, index(12), edges)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(x, index(12), edges)
    rounded = model.bfloat16()(x.bfloat16(), index(12), edges)
    for y in (mixed.float(), rounded.float()):
        assert (y - exact).abs().mean() < 0.05


def test_windows_are_measured_in_places_not_coordinates():
    """Three tokens of one time step share a coordinate, but not a place in the sequence."""
    model, x = stack(shape("learned")), tokens(1, 9)
    steps = index(9) // 3
    got = reach(model, steps, causal() & window(2), x)[0, :, 0]
    assert got[8].tolist() == [False] * 6 + [True] * 3


def test_layer_scale_multiplies_each_branch_by_a_learned_gain():
    """A gain of 1 is no LayerScale at all; folded into the branches' last maps, any gain is."""
    plain, scaled = stack(shape()), stack(shape(layer_scale=0.3))
    names = {name for name, _ in scaled.named_parameters()} - {name for name, _ in plain.named_parameters()}
    assert names == {f"blocks.{n}.{part}.scale.gain" for n in range(2) for part in ("attention", "feedforward")}
    assert all(p.eq(0.3).all() for n, p in Transformer(shape(layer_scale=0.3), (16,)).named_parameters() if "gain" in n)
    scaled.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        for block, twin in zip(plain.blocks, scaled.blocks, strict=True):
            for part, other in ((block.attention, twin.attention), (block.feedforward, twin.feedforward)):
                part.branch.out.weight.mul_(other.scale.gain.unsqueeze(1))
                part.branch.out.bias.mul_(other.scale.gain)
    x = tokens(2, 5)
    torch.testing.assert_close(scaled(x, index(5), full()), plain(x, index(5), full()))


# What may be given from outside


@pytest.mark.parametrize("position", POSITIONS)
def test_a_position_from_outside_takes_the_place_of_the_stacks_own(position):
    """One stack without positions serves a line and a grid, by the same blocks as stacks that have them."""
    trunk = stack(shape("none"))
    for extent in ((16,), (4, 4)):
        own = stack(shape(position, direction="both"), extent)
        own.load_state_dict(trunk.state_dict(), strict=False)
        coords = index(9) if len(extent) == 1 else torch.cartesian_prod(torch.arange(3), torch.arange(3))
        x = tokens(2, 9)
        assert torch.equal(trunk(x, coords, causal(), position=own.position), own(x, coords, causal()))


def modulated(role="self", **changes) -> Transformer:
    return stack(shape(modulation="adaln", **changes), role=role)


@pytest.mark.parametrize("role", ["self", "cross"])
@pytest.mark.parametrize("each", ["row", "token"])
def test_a_modulated_block_is_its_formula(each, role):
    """Peebles & Xie 2023: x + gate branch((1 + scale) norm(x) + shift), for every branch."""
    model, x = modulated(role, depth=1), tokens(2, 6)
    memory = tokens(2, 4, seed=5) if role == "cross" else None
    condition = tokens(2, 6 if each == "token" else 1, seed=6)
    given = condition if each == "token" else condition[:, 0]
    context = LayerContext(Route(causal=True), model.position.rotation(index(6)), memory)
    y, block = x, model.blocks[0]
    for part in (block.attention, block.cross_attention, block.feedforward):
        if part is not None:
            shift, scale, gate = (
                nn.functional.silu(condition) @ part.modulation.weight.T + part.modulation.bias
            ).chunk(3, -1)
            y = y + gate * part.branch((1 + scale) * part.norm(y) + shift, context)
    got = model(x, index(6), causal(), condition=given, memory=memory)
    torch.testing.assert_close(got, model.norm(y))
    last = model(x, index(6), causal(), condition=given, memory=memory, read=slice(1, None, 2))
    torch.testing.assert_close(last, got[:, 1::2])


def test_modulation_starts_as_the_identity_and_learns():
    config = shape(modulation="adaln")
    model, x, condition = Transformer(config, (8,)), tokens(2, 6), tokens(2, 1, seed=6)[:, 0]
    y = model(x, index(6), causal(), condition=condition)
    assert torch.equal(y, model.norm(x))
    y.square().sum().backward()
    assert all(block.attention.modulation.weight.grad.any() for block in model.blocks)


def test_a_gate_of_one_without_shift_and_scale_is_the_plain_block():
    plain, model, x = stack(shape()), modulated(), tokens(2, 6)
    model.load_state_dict(plain.state_dict(), strict=False)
    for name, p in model.named_parameters():
        if "modulation" in name:
            p.data = torch.tensor([0.0, 0.0, 1.0]).repeat_interleave(32) if p.dim() == 1 else torch.zeros_like(p)
    y = model(x, index(6), causal(), condition=tokens(2, 6, seed=6))
    torch.testing.assert_close(y, plain(x, index(6), causal()))


def test_a_condition_is_given_exactly_to_blocks_that_are_modulated():
    for model, condition in ((stack(shape()), tokens(1, 1)[0]), (modulated(), None)):
        with pytest.raises(ValueError, match="condition"):
            model(tokens(1, 4), index(4), causal(), condition=condition)


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm", "rms"])
@pytest.mark.parametrize("position", ["learned", "rotary"])
def test_a_norm_of_embeddings_comes_after_the_positions_and_before_the_first_block(position, norm):
    model, x = stack(shape(position, embedding_norm=norm)), tokens(2, 6)
    plain = stack(shape("none" if position == "learned" else position))
    plain.load_state_dict(model.state_dict(), strict=False)
    embedded = model.position.embed(index(6))
    expected = plain(model.embedding_norm(x if embedded is None else x + embedded), index(6), causal())
    assert torch.equal(model(x, index(6), causal()), expected)


@pytest.mark.parametrize("graph", ["full", "right padding", "table"])
def test_rows_may_share_a_memory(graph):
    model, x, memory = stack(shape(), role="cross"), tokens(6, 5), tokens(3, 7, seed=5)
    edges = (GRAPHS | NOT_CAUSAL)[graph]() if graph != "table" else arbitrary(torch.rand(3, 5, 7) < 0.5)
    together = model(x, index(5), causal(), memory=memory, memory_graph=edges)
    for copy in range(2):  # rows 0, 2, 4 and 1, 3, 5 of three sources with two rows each
        alone = model(x[copy::2], index(5), causal(), memory=memory, memory_graph=edges)
        torch.testing.assert_close(together[copy::2], alone)
    with pytest.raises(ValueError, match="memory of 3 rows .* 5 rows"):
        model(x[:5], index(5), causal(), memory=memory)
