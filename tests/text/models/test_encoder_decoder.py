"""The encoder-decoder: no target token sees its successors, no padding is seen, and it decodes what it computes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.decoding.beams import beam_search
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.files.serialize import from_dict, to_dict
from core.optim.groups import parameter_roles
from tests.core.helpers import POSITIONS, awake, shape
from tests.core.test_transformer import torch_transformer
from text.models.encoder_decoder import EncoderDecoderConfig, Seq2Seq, pad_rows, shape_2017, shape_modern

V = 11
LENGTHS = torch.tensor([7, 3, 5])
SCALED: dict[str, Any] = {"embedding_scale": "sqrt-dim", "head_scale": "inverse-sqrt-dim", "head_bias": "learned"}
PAPER = replace(shape_2017(32, 2, 4, 48, dropout=0.0, context=16), vocab_size=V)
MODERN = replace(shape_modern(32, 2, 4, 12, 40, dropout=0.0, context=16), vocab_size=V)
SHAPES = {"paper": PAPER, "modern": MODERN, "modern-tied": replace(MODERN, head="tied", eos=0)}


def config(position: str = "rotary", core: dict[str, Any] | None = None, **changes: Any) -> EncoderDecoderConfig:
    own = shape(position, **{"direction": "both"} | (core or {}))
    return EncoderDecoderConfig(**{"vocab_size": V, "context": 16, "core": own} | changes)


def model(own: EncoderDecoderConfig | None = None) -> Seq2Seq:
    return awake(Seq2Seq(own or config()))


def ids(batch: int = 3, length: int = 7, seed: int = 5) -> Tensor:
    return torch.randint(0, V, (batch, length), generator=torch.Generator().manual_seed(seed))


EVERY = {position: config(position) for position in POSITIONS} | SHAPES
EVERY["deep decoder"] = config(decoder_depth=3)
EVERY["scaled"] = config("learned", core={"n_kv_heads": 2}, **SCALED)
EVERY["windows"] = config(core={"window": 3, "window_layers": (0,)})


@pytest.mark.parametrize("name", EVERY)
def test_a_target_token_never_sees_its_successors(name):
    m, target = model(EVERY[name]), ids(seed=6)
    before = m(ids(), LENGTHS, target)
    assert before.shape == (3, 7, V)
    changed = target.clone()
    changed[:, 4:] = (changed[:, 4:] + 3) % V
    after = m(ids(), LENGTHS, changed)
    assert torch.equal(after[:, :4], before[:, :4])
    assert not torch.isclose(after[:, 4:], before[:, 4:]).all(-1).any()


@pytest.mark.parametrize("name", EVERY)
def test_padding_of_the_source_changes_nothing(name):
    m, source, target = model(EVERY[name]), ids(), ids(seed=6)
    together = m(source, LENGTHS, target)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = m(source[row : row + 1, :length], None, target[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6 * alone.abs().max().item(), rtol=1e-6)
    wider = F.pad(source, (0, 6), value=3)
    torch.testing.assert_close(m(wider, LENGTHS, target), together, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_every_real_token_of_the_source_is_seen(name):
    m, source, target = model(EVERY[name]), ids(), ids(seed=6)
    before, last = m(source, LENGTHS, target), source.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        last[row, length - 1] = (last[row, length - 1] + 1) % V
    assert not torch.isclose(m(last, LENGTHS, target), before).all(-1).any()


@pytest.mark.parametrize("name", EVERY)
@torch.inference_mode()
def test_cached_steps_give_what_the_whole_gives(name):
    m, source, target = model(EVERY[name]), ids(), ids(length=9, seed=6)
    expected, bound, pads = m(source, LENGTHS, target), m.bind(source, LENGTHS), torch.tensor([0, 2, 0])
    expected[:, :, sorted(m.undecoded)] = -math.inf
    state = bound.new_state(3, 9)
    got = [bound.step(target[:, :3], state)] + [bound.step(target[:, n : n + 1], state) for n in range(3, 9)]
    torch.testing.assert_close(torch.stack(got, 1), expected[:, 2:], atol=1e-5, rtol=1e-4)
    padded = bound.step(target, bound.new_state(3, 9), pads)
    kept = [token for token in range(V) if token not in m.undecoded]
    shorter = m(source[1:2, :3], None, target[1:2, 2:])[:, -1]
    torch.testing.assert_close(padded[1:2, kept], shorter[:, kept], atol=1e-5, rtol=1e-4)


def greedy(m: Seq2Seq, source: Tensor, tokens: int) -> list[int]:
    """Without a cache, one sentence."""
    target = [m.config.start]
    for _ in range(tokens):
        logits = m(source[None], None, torch.tensor([target]))[0, -1]
        target.append(max(set(range(V)) - m.undecoded, key=lambda token: float(logits[token])))
    return target[1:]


@pytest.mark.parametrize("name", SHAPES)
@torch.inference_mode()
def test_a_batch_is_decoded_as_each_sentence_alone(name):
    m, source = model(replace(SHAPES[name], head="untied")), ids()
    bound, starts = m.bind(source, LENGTHS), [[m.config.start]] * 3
    rows = complete(bound, starts, 10, Sampling(temperature=0))
    found = beam_search(bound, starts, 10, 4, eos=3)
    for row, length in enumerate(LENGTHS.tolist()):
        assert rows[row] == greedy(m, source[row, :length], 10)
        [alone] = beam_search(m.bind(source[row : row + 1, :length]), starts[:1], 10, 4, eos=3)
        assert [h.tokens for h in found[row]] == [h.tokens for h in alone]
        torch.testing.assert_close([h.score for h in found[row]], [h.score for h in alone], atol=1e-5, rtol=1e-5)
    assert len({round(beams[0].score, 4) for beams in found}) == 3


@pytest.mark.parametrize(("start", "eos", "pad", "never"), [(0, 0, 0, set()), (1, 2, 1, {1}), (1, 2, 3, {1, 3})])
@torch.inference_mode()
def test_the_start_token_and_padding_are_never_decoded(start, eos, pad, never):
    m = model(config(start=start, eos=eos, pad=pad))
    bound = m.bind(ids())
    logits = bound.step(ids(), bound.new_state(3, 7))
    assert {token for token in range(V) if (logits[:, token] == -math.inf).any()} == never
    found = beam_search(m.bind(ids()), [[start]] * 3, 12, 5)
    assert not never & {token for beams in found for h in beams for token in h.tokens}


@torch.inference_mode()
def test_the_keys_of_a_source_are_computed_once_for_all_its_beams():
    m, seen = model(), []
    for block in m.decoder.blocks:
        block.cross_attention.branch.kv.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    beam_search(m.bind(ids(), LENGTHS), [[0]] * 3, 10, 4)
    assert seen == [(3, 7, 32)] * 2


@pytest.mark.parametrize("bias", ["none", "learned"])
def test_the_paper_s_model_is_pytorch_s(bias):
    core = shape("sinusoidal", feedforward="relu", norm_placement="post")
    m = model(EncoderDecoderConfig(V, 16, embedding_scale="sqrt-dim", head_bias=bias, core=core))
    theirs = torch_transformer(m, "post", "relu")
    source, target = ids(), ids(length=5, seed=6)
    hidden = torch.arange(7).expand(3, 7) >= LENGTHS[:, None]  # (B, N)

    def embedded(tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1])[:, None] / 10000 ** (torch.arange(0, 32, 2) / 32)  # (T, 16)
        waves = torch.stack((places.sin(), places.cos()), -1).flatten(-2)
        return m.embed.weight[tokens] * math.sqrt(32) + waves

    future = nn.Transformer.generate_square_subsequent_mask(5)
    features = theirs(
        embedded(source),
        embedded(target),
        tgt_mask=future,
        src_key_padding_mask=hidden,
        memory_key_padding_mask=hidden,
    )
    expected = F.linear(features, m.embed.weight, m.head.bias)
    torch.testing.assert_close(m(source, LENGTHS, target), expected, atol=1e-5, rtol=1e-5)


def test_t5_positions_tell_the_past_from_the_future_in_the_encoder_alone():
    m = model(MODERN)
    assert (m.encoder.config.position.direction, m.decoder.config.position.direction) == ("both", "past")
    assert m.encoder.position is not m.decoder.position


def test_features_and_head_make_the_logits():
    for own in SHAPES.values():
        m = model(own)
        features = m.features(ids(), LENGTHS, ids(seed=6))
        assert features.shape == (3, 7, 32)
        assert torch.equal(m.head(features), m(ids(), LENGTHS, ids(seed=6)))


@pytest.mark.parametrize("name", SHAPES)
def test_an_untrained_model_guesses(name):
    big = replace(SHAPES[name], vocab_size=500, core=replace(SHAPES[name].core, dim=128))
    logits = Seq2Seq(big)(ids() * 40, LENGTHS, ids(seed=6) * 40)
    loss = F.cross_entropy(logits.flatten(0, 1), (ids(seed=7) * 40).flatten())
    assert loss.item() == pytest.approx(math.log(500), abs=0.3)  # 6.19-6.34 over seeds 0-9


def test_the_public_shapes_have_their_number_of_parameters():
    with torch.device("meta"):
        base, small = (
            Seq2Seq(replace(shape_2017(), vocab_size=37000)),
            Seq2Seq(replace(shape_modern(), vocab_size=32128)),
        )
    count = [sum(p.numel() for p in m.parameters()) for m in (base, small)]
    # 65e6 in table 3 of the paper, whose vocabulary holds about 37,000; T5 1.1 small as transformers counts it
    assert count == [63_082_496, 76_961_152]


def test_every_parameter_has_its_role():
    m = model(MODERN)
    roles = parameter_roles(m)
    assert {roles[name].layer for name in roles if name.startswith("encoder.blocks.1.")} == {2}
    assert {roles[name].layer for name in roles if name.startswith("decoder.blocks.0.")} == {3}
    assert roles["encoder.norm.weight"].layer == 2
    assert roles["decoder.norm.weight"].layer == roles["head.weight"].layer == 5
    assert roles["embed.weight"].layer == roles["decoder.position.tables.0.weight"].layer == 0
    assert roles["decoder.blocks.0.cross_attention.branch.kv.weight"].matrices == (48, 48)


def test_a_model_comes_back_from_its_configuration_and_weights():
    m = model(EVERY["scaled"])
    again = Seq2Seq(from_dict(EncoderDecoderConfig, to_dict(m.config))).eval()
    again.load_state_dict(m.state_dict())
    assert torch.equal(again(ids(), LENGTHS, ids()), m(ids(), LENGTHS, ids()))


@pytest.mark.parametrize("name", SHAPES)
def test_it_learns_to_reverse(name):
    torch.manual_seed(0)
    m, source = Seq2Seq(SHAPES[name]), ids(4, 5) % 9 + 2
    target = torch.cat((torch.zeros(4, 1, dtype=torch.int64), source.flip(1)), 1)
    optimizer = torch.optim.AdamW(m.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = F.cross_entropy(m(source, None, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten())
        loss.backward()
        optimizer.step()
    assert complete(m.eval().bind(source), [[0]] * 4, 5, Sampling(temperature=0)) == source.flip(1).tolist()


def test_it_compiles_as_one_graph():
    m, given = model(MODERN), (ids(), LENGTHS, ids(seed=6))
    compiled = torch.compile(m, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*given), m(*given), atol=1e-5, rtol=1e-4)


def test_rows_are_filled_up_on_the_right():
    source, lengths = pad_rows([[1, 2, 3], [4]], pad=9)
    assert source.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert lengths.tolist() == [3, 1]
    assert (source.dtype, lengths.dtype) == (torch.int64, torch.int64)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: EncoderDecoderConfig(context=0), "context = 0 must be above 0"),
        (lambda: EncoderDecoderConfig(decoder_depth=0), "decoder_depth = 0 must be above 0"),
        (lambda: EncoderDecoderConfig(head="shared"), "head = 'shared' is not one of: tied, untied"),
        (lambda: EncoderDecoderConfig(pad=-1), "pad = -1 must be at least 0"),
        (lambda: EncoderDecoderConfig(vocab_size=8, start=8), "start = 8 must be below vocab_size = 8"),
        (lambda: config("t5", core={"direction": "past"}), "core.position.direction = 'past' .* both"),
        (lambda: config(core={"modulation": "adaln"}), "core.modulation = 'adaln'"),
        (lambda: config(core={"window": 3, "window_layers": (1,)}, decoder_depth=1), "window_layers"),
        (lambda: Seq2Seq(EncoderDecoderConfig()), "vocab_size = 0"),
        (lambda: model()(ids(length=17), None, ids()), "a source of 17 tokens .* 16"),
        (lambda: model()(ids(), None, ids(length=17)), "a target of 17 tokens .* 16"),
        (lambda: pad_rows([[1], []], 0), "source 1 is empty"),
        (lambda: pad_rows([], 0), "at least one source"),
    ],
)
def test_what_cannot_be_built_or_read_is_refused(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()
