"""Every kind of position against its formula, its paper's numbers, or the reference implementation."""

from __future__ import annotations

import math

import pytest
import torch

from core.config import PositionConfig, RotaryScaling, TransformerConfig
from core.positions import (
    T5,
    UNSCALED,
    ALiBi,
    Learned,
    Position,
    Rotary,
    Sinusoidal,
    alibi_slopes,
    build_position,
    frequencies,
    index,
    t5_bucket,
)
from tests.core.helpers import POSITIONS, shape

PLANE = torch.cartesian_prod(torch.arange(5), torch.arange(7))  # (35, 2): rows and columns of a grid


def test_index_is_one_column_that_starts_where_told():
    assert index(3).tolist() == [[0], [1], [2]]
    assert index(2, start=5).tolist() == [[5], [6]]
    assert index(0).shape == (0, 1)


@pytest.mark.parametrize("kind", POSITIONS)
def test_each_kind_answers_its_own_question_only(kind):
    position = build_position(shape(kind), extent=(16,))
    coords = index(6)
    embedded, rotation, bias = position.embed(coords), position.rotation(coords), position.bias(coords, coords)
    assert (embedded is not None) == (kind in ("learned", "sinusoidal"))
    assert (rotation is not None) == (kind == "rotary")
    assert (bias is not None) == (kind in ("alibi", "t5"))
    assert embedded is None or embedded.shape == (6, 32)
    assert bias is None or bias.shape == (4, 6, 6)


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize("axes", [1, 2])
def test_rows_of_a_batch_may_stand_at_places_of_their_own(kind, axes):
    position = build_position(shape(kind), extent=(16,) * axes)
    coords = torch.randint(0, 16, (3, 6, axes))
    q = torch.randn(3, 6, 4, 8)
    for row in range(3):
        for together, alone in (
            (position.embed(coords), position.embed(coords[row])),
            (position.bias(coords, coords), position.bias(coords[row], coords[row])),
            (position.rotation(coords), position.rotation(coords[row])),
        ):
            if kind == "rotary" and together is not None:
                together, alone = together.rotate(q), alone.rotate(q[row : row + 1])[0]
            assert (together is None) == (alone is None)
            if together is not None:
                torch.testing.assert_close(together[row], alone)


def test_learned_is_the_sum_of_a_row_of_each_axis_table():
    position = Learned(8, extent=(5, 7))
    rows, columns = (table.weight for table in position.tables)
    assert (rows.shape, columns.shape) == ((5, 8), (7, 8))
    torch.testing.assert_close(position.embed(PLANE), rows[PLANE[:, 0]] + columns[PLANE[:, 1]])


def sinusoid(place: int, dim: int, base: float = 10000.0) -> list[float]:
    """Vaswani 2017, section 3.5, in float64."""
    angles = [place / base ** (2 * (channel // 2) / dim) for channel in range(dim)]
    return [math.cos(a) if channel % 2 else math.sin(a) for channel, a in enumerate(angles)]


@pytest.mark.parametrize("base", [10000.0, 100.0])
def test_sinusoidal_is_the_formula_of_the_paper(base):
    places = [0, 1, 2, 17, 511]
    expected = torch.tensor([sinusoid(place, 12, base) for place in places])
    got = Sinusoidal(12, 1, base).embed(torch.tensor(places).unsqueeze(-1))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    small = Sinusoidal(12, 1, base, amplitude=0.1).embed(torch.tensor(places).unsqueeze(-1))
    torch.testing.assert_close(small, 0.1 * expected, atol=1e-4, rtol=0)


def test_sinusoidal_of_two_axes_gives_each_half_of_the_channels():
    expected = torch.tensor([sinusoid(row, 8) + sinusoid(column, 8) for row, column in PLANE.tolist()])
    torch.testing.assert_close(Sinusoidal(16, 2, 10000.0).embed(PLANE), expected, atol=1e-5, rtol=0)


def test_halves_are_the_positions_of_marian():
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

    expected = MarianSinusoidalPositionalEmbedding(512, 12).create_weight()
    got = build_position(shape("sinusoidal", pairing="halves", dim=12), (512,)).embed(index(512))
    torch.testing.assert_close(got, expected, atol=5e-5, rtol=0)  # ours are rounded at angles of up to 511


@pytest.mark.parametrize(("coords", "dim"), [(index(9), 8), (PLANE, 16)], ids=["1-D", "2-D"])
def test_the_two_orders_of_sines_and_cosines_are_one_of_permuted_channels(coords, dim):
    interleaved, halves = (Sinusoidal(dim, coords.shape[1], 100.0, p).embed(coords) for p in ("interleaved", "halves"))
    assert torch.equal(halves, torch.cat((interleaved[:, 0::2], interleaved[:, 1::2]), dim=-1))
    assert not torch.allclose(halves, interleaved)


def scores(position: Position, q: torch.Tensor, k: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:
    """Scores (T, T) of one query and one key vector, put at every place."""
    turn = position.rotation(coords)
    assert turn is not None
    wide = (1, len(coords), 1, len(q))
    return (turn.rotate(q.expand(wide)) @ turn.rotate(k.expand(wide)).transpose(-1, -2).transpose(1, -1))[0, :, 0, :]


@pytest.mark.parametrize("pairing", ["interleaved", "halves"])
@pytest.mark.parametrize("coords", [index(30), PLANE], ids=["1-D", "2-D"])
def test_rotary_scores_depend_on_the_difference_alone(pairing, coords):
    position = Rotary(16, coords.shape[1], 10000.0, pairing)
    q, k = torch.randn(2, 16, dtype=torch.float64)
    here = scores(position, q, k, coords)
    there = scores(position, q, k, coords + torch.tensor([900, 31])[: coords.shape[1]])
    torch.testing.assert_close(here, there, atol=1e-3, rtol=0)  # angles of up to 900 in float32
    assert here.std() > 0.1
    assert here[0, 0] == pytest.approx(float(q @ k))


def test_rotary_of_two_axes_depends_on_each_axis():
    position = Rotary(16, 2, 100.0, "interleaved")
    q, k = torch.randn(2, 16, dtype=torch.float64)
    table = scores(position, q, k, PLANE).view(5, 7, 5, 7)
    assert not torch.allclose(table[0, 0, 0], table[0, 0, 0].flip(0))  # along a row
    assert not torch.allclose(table[0, 0, :, 0], table[0, 0, :, 0].flip(0))  # along a column


@pytest.mark.parametrize("axes", [1, 2])
def test_the_two_pairings_are_one_rotation_of_permuted_channels(axes):
    coords = torch.randint(0, 50, (9, axes))
    x = torch.randn(2, 9, 3, 16)
    interleaved, halves = (Rotary(16, axes, 10000.0, p).rotation(coords) for p in ("interleaved", "halves"))
    order = torch.arange(16).view(2, 8).T.flatten()  # channel pairs (i, i + 8) side by side
    torch.testing.assert_close(interleaved.rotate(x[..., order]), halves.rotate(x)[..., order])


def test_halves_are_the_rotation_of_llama():
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k = torch.randn(2, 2, 3, 10, 16)  # 2 x (B, H, T, Dh)
    angles = torch.outer(torch.arange(10.0), 10000.0 ** (-torch.arange(0, 16, 2) / 16)).repeat(1, 2)
    expected = apply_rotary_pos_emb(q, k, angles.cos()[None], angles.sin()[None])
    turn = Rotary(16, 1, 10000.0, "halves").rotation(index(10))
    for x, y in zip((q, k), expected, strict=True):
        torch.testing.assert_close(turn.rotate(x.transpose(1, 2)).transpose(1, 2), y)


def test_interleaved_is_the_rotation_of_gpt_j():
    from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb, create_sinusoidal_positions

    x = torch.randn(2, 10, 3, 16)  # (B, T, H, Dh)
    sin, cos = create_sinusoidal_positions(10, 16)[None].chunk(2, dim=-1)
    turn = Rotary(16, 1, 10000.0, "interleaved").rotation(index(10))
    torch.testing.assert_close(turn.rotate(x), apply_rotary_pos_emb(x, sin, cos))


PUBLISHED = {  # of config.json: rope_theta, head_dim, rope_scaling
    "Llama-3.1-8B": (5e5, 128, RotaryScaling("llama3", 8.0, 8192)),
    "Llama-3.2-1B": (5e5, 64, RotaryScaling("llama3", 32.0, 8192)),
    "Qwen2.5, long": (1e6, 128, RotaryScaling("yarn", 4.0, 32768)),
    "gpt-oss-20b": (1.5e5, 64, RotaryScaling("yarn", 32.0, 4096, ramp_ends="exact")),
    "deepseek-coder-6.7b": (1e5, 128, RotaryScaling("linear", 4.0)),
    "dynamic": (1e4, 128, RotaryScaling("dynamic", 2.0, 4096)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_scaled_frequencies_are_those_of_public_models(name):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    base, width, scaling = PUBLISHED[name]
    fields = {"factor": scaling.factor, "rope_theta": base, "rope_type": scaling.kind}
    if scaling.kind in ("llama3", "yarn"):
        fields |= {"original_max_position_embeddings": scaling.original_context}
    if scaling.kind == "llama3":
        fields |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if scaling.ramp_ends == "exact":
        fields["truncate"] = False
    theirs = LlamaConfig(head_dim=width, rope_parameters=fields, max_position_embeddings=scaling.original_context)
    expected, gain = ROPE_INIT_FUNCTIONS[scaling.kind](theirs, "cpu", seq_len=20_000)
    coords = index(20_000)
    torch.testing.assert_close(frequencies(width, base, scaling, coords), expected, rtol=3e-7, atol=0)
    if scaling.kind != "dynamic":
        turn = Rotary(width, 1, base, "halves", scaling).rotation(coords)
        angles = coords * expected
        torch.testing.assert_close(turn.cos[:, 0], angles.cos() * gain, atol=2e-3, rtol=0)
        torch.testing.assert_close(turn.sin[:, 0], angles.sin() * gain, atol=2e-3, rtol=0)


def test_dynamic_scaling_changes_nothing_within_the_original_context():
    plain, dynamic = (Rotary(16, 1, 100.0, "halves", s) for s in (UNSCALED, RotaryScaling("dynamic", 2.0, 12)))
    for length, same in ((12, True), (13, False)):
        assert torch.equal(plain.rotation(index(length)).cos, dynamic.rotation(index(length)).cos) == same


@pytest.mark.parametrize("pairing", ["interleaved", "halves"])
def test_rotation_is_differentiable_and_keeps_the_dtype(pairing):
    turn = Rotary(8, 1, 100.0, pairing).rotation(index(5))
    x = torch.randn(2, 5, 3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(turn.rotate, (x,))
    exact = turn.rotate(x.detach())
    for dtype in (torch.float32, torch.bfloat16):
        got = turn.rotate(x.detach().to(dtype))
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), exact, atol=float(8 * torch.finfo(dtype).eps), rtol=0)


def test_the_form_for_the_compiler_is_the_same_rotation(monkeypatch):
    x, turn = torch.randn(2, 5, 3, 8), Rotary(8, 1, 100.0, "interleaved").rotation(index(5))
    eager = turn.rotate(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(turn.rotate(x), eager)


def test_alibi_slopes_are_those_of_the_paper():
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(1).tolist() == [2.0**-8]
    twelve = [2.0**-i for i in range(1, 9)] + [2.0 ** -(i - 0.5) for i in range(1, 5)]
    torch.testing.assert_close(alibi_slopes(12), torch.tensor(twelve))


@pytest.mark.parametrize("n_heads", [3, 5, 6, 12, 20, 25, 64])
def test_alibi_slopes_are_those_of_bloom(n_heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    reference = build_alibi_tensor(torch.ones(1, 2), n_heads, torch.float32)  # (H, 1, 2): slope x place
    torch.testing.assert_close(alibi_slopes(n_heads), reference[:, 0, 1])


def test_alibi_falls_off_with_distance_on_both_sides_and_in_the_plane():
    alibi = ALiBi(2)
    line = alibi.bias(index(2, start=7), index(10))  # (H, 2, 10)
    assert line.shape == (2, 2, 10)
    assert line[0, 0].tolist() == [-abs(7 - k) / 16 for k in range(10)]
    plane = alibi.bias(torch.tensor([[1, 1]]), torch.tensor([[1, 1], [4, 5], [1, 0]]))
    assert plane[1, 0].tolist() == [0.0, -5 / 256, -1 / 256]


@pytest.mark.parametrize("direction", ["past", "both"])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (16, 20), (8, 1000), (64, 128), (4, 6)])
def test_t5_buckets_are_those_of_t5(direction, buckets, max_distance):
    from transformers.models.t5.modeling_t5 import T5Attention

    config = PositionConfig("t5", buckets=buckets, max_distance=max_distance, direction=direction)
    offset = torch.arange(-1200, 1201)
    reference = T5Attention._relative_position_bucket(
        offset, bidirectional=direction == "both", num_buckets=buckets, max_distance=max_distance
    )
    got = t5_bucket(offset, config)
    assert got.dtype == torch.int64
    assert torch.equal(got, reference)
    assert set(got.tolist()) <= set(range(buckets))


def test_t5_scores_are_a_row_of_the_table_per_axis():
    config = PositionConfig("t5", buckets=8, max_distance=16, direction="both")
    position = T5(3, 2, config)
    bias = position.bias(PLANE, PLANE)  # (H, 35, 35)
    rows, columns = (table.weight for table in position.tables)
    for i, j in ((0, 0), (3, 30), (34, 5)):
        row, column = (t5_bucket(PLANE[j] - PLANE[i], config)).tolist()
        torch.testing.assert_close(bias[:, i, j], rows[row] + columns[column])


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("rotary", "head_dim = 6 must be a multiple of 4"), ("sinusoidal", "dim = 18 must be a multiple of 4")],
)
def test_channels_that_cannot_be_shared_among_the_axes_are_refused(kind, sentence):
    config = TransformerConfig(dim=18, n_heads=3, position=PositionConfig(kind))
    with pytest.raises(ValueError, match=sentence):
        build_position(config, extent=(4, 4))


@pytest.mark.parametrize("kind", ["sinusoidal", "rotary", "alibi"])
def test_half_precision_weights_keep_exact_places(kind):
    """bfloat16 holds no integer above 256 exactly: angles and distances have to stay in float32."""
    exact = build_position(shape(kind, n_heads=12, dim=96), (1,))
    rounded = build_position(shape(kind, n_heads=12, dim=96), (1,)).bfloat16()
    coords = torch.tensor([[1], [257], [5001]])
    if kind == "rotary":
        got, expected = rounded.rotation(coords).cos, exact.rotation(coords).cos
    elif kind == "alibi":
        got, expected = rounded.bias(coords, coords), exact.bias(coords, coords)
    else:
        got, expected = rounded.embed(coords), exact.embed(coords)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kind", POSITIONS)
def test_a_module_built_without_memory_is_filled_by_a_state_dict(kind):
    """Large models are built on `meta`; what the state dict does not hold must not be garbage afterwards."""
    real = build_position(shape(kind), (16,))
    with torch.device("meta"):
        hollow = build_position(shape(kind), (16,))
    hollow = hollow.to_empty(device="cpu")
    hollow.load_state_dict(real.state_dict())
    coords = index(16)
    for got, expected in (
        (hollow.embed(coords), real.embed(coords)),
        (hollow.bias(coords, coords), real.bias(coords, coords)),
        (hollow.rotation(coords), real.rotation(coords)),
    ):
        assert (got is None) == (expected is None)
        if isinstance(got, torch.Tensor):
            torch.testing.assert_close(got, expected)
        elif got is not None:
            torch.testing.assert_close(got.cos, expected.cos)


@pytest.mark.parametrize("kind", ["sinusoidal", "rotary", "alibi"])
def test_continuous_kinds_take_fractions(kind):
    """Half of the coordinates at twice the frequency is the same place; ALiBi halves its penalty."""
    module = build_position(shape(kind), (16,))
    whole, half = index(7), index(7) / 2
    if kind == "alibi":
        torch.testing.assert_close(2 * module.bias(half, half), module.bias(whole, whole))
        return
    answer = module.embed if kind == "sinusoidal" else lambda coords: module.rotation(coords).cos
    torch.testing.assert_close(answer(half)[::2], answer(index(4)))
