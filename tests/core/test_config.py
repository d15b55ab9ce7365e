"""A configuration refuses what cannot be, by name, and survives a trip through JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from core.config import PositionConfig, RotaryScaling, TransformerConfig
from core.files.serialize import from_dict, to_dict

IMPOSSIBLE_SHAPES: list[tuple[dict[str, Any], list[str]]] = [
    ({"dim": 0}, ["dim = 0", "above 0"]),
    ({"depth": -1}, ["depth = -1", "above 0"]),
    ({"n_heads": 0}, ["n_heads = 0", "above 0"]),
    ({"n_kv_heads": 0}, ["n_kv_heads = 0", "above 0"]),
    ({"head_dim": 0}, ["head_dim = 0", "above 0"]),
    ({"ffn_dim": 0}, ["ffn_dim = 0", "above 0"]),
    ({"norm_eps": 0.0}, ["norm_eps = 0.0", "above 0"]),
    ({"norm_eps": float("nan")}, ["norm_eps = nan", "above 0"]),
    ({"dim": 30, "n_heads": 4}, ["n_heads = 4", "dim = 30", "head_dim"]),
    ({"n_heads": 6, "n_kv_heads": 4}, ["n_kv_heads = 4", "n_heads = 6"]),
    ({"n_heads": 6, "n_kv_heads": 12}, ["n_kv_heads = 12", "n_heads = 6"]),
    ({"head_dim": 7}, ["head_dim = 7", "even"]),
    ({"dim": 18, "n_heads": 6}, ["head_dim = 3", "even"]),
    ({"dropout": 1.0}, ["dropout = 1.0", "below 1"]),
    ({"attention_dropout": -0.1}, ["attention_dropout = -0.1", "at least 0"]),
    ({"drop_path": 1.5}, ["drop_path = 1.5", "below 1"]),
    (
        {"feedforward": "swish"},
        ["feedforward = 'swish'", "relu, gelu, gelu-tanh, silu, relu2, swiglu, geglu, geglu-tanh"],
    ),
    ({"norm": "batchnorm"}, ["norm = 'batchnorm'", "layernorm"]),
    ({"norm": "none"}, ["norm = 'none'", "layernorm"]),
    ({"norm_placement": "both"}, ["norm_placement = 'both'", "pre, post, branch"]),
    ({"norm_placement": "branch", "modulation": "adaln"}, ["modulation = 'adaln'", "norm_placement"]),
    ({"first_norm": "none"}, ["first_norm = 'none'", "embedding_norm"]),
    ({"first_norm": "none", "embedding_norm": "rms", "norm_placement": "post"}, ["first_norm = 'none'", "'post'"]),
    ({"qk_norm_over": "all-heads"}, ["qk_norm_over = 'all-heads'", "qk_norm = 'none'"]),
    ({"window": 0}, ["window = 0", "above 0"]),
    ({"window_layers": (1,)}, ["window_layers = (1,)", "window = None"]),
    ({"window": 4, "window_layers": (0, 6)}, ["window_layers = (0, 6)", "0 to 5"]),
    ({"unpositioned_layers": (2, 1)}, ["unpositioned_layers = (2, 1)", "ascending"]),
    ({"unpositioned_layers": (1,), "position": PositionConfig("learned")}, ["unpositioned_layers", "'learned'"]),
    ({"window": 4, "window_position": PositionConfig("learned")}, ["window_position.kind = 'learned'", "rotary"]),
    ({"qk_norm": "l2"}, ["qk_norm = 'l2'", "rmsnorm"]),
    ({"bias": True}, ["bias = True", "all, attention, qkv, feedforward, none"]),
    ({"init": "xavier"}, ["init = 'xavier'", "gpt2, zero-residual"]),
]
IMPOSSIBLE_SCALINGS: list[tuple[dict[str, Any], list[str]]] = [
    ({"kind": "longrope"}, ["kind = 'longrope'", "none, linear, dynamic, yarn, llama3"]),
    ({"kind": "linear", "factor": 0.5}, ["factor = 0.5", "at least 1"]),
    ({"factor": 2.0}, ["factor = 2.0", "kind = 'none'"]),
    ({"kind": "linear", "original_context": 4096}, ["original_context = 4096", "'linear'"]),
    ({"kind": "llama3", "low_freq_factor": 4.0}, ["low_freq_factor = 4.0", "high_freq_factor = 4.0"]),
    ({"kind": "yarn", "beta_fast": 0.5}, ["beta_slow = 1.0", "beta_fast = 0.5"]),
    ({"kind": "yarn", "attention_factor": 0.0}, ["attention_factor = 0.0", "above 0"]),
]
IMPOSSIBLE_POSITIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"kind": "absolute"}, ["kind = 'absolute'", "none, learned, sinusoidal, rotary, alibi, t5"]),
    ({"base": 0.0}, ["base = 0.0", "above 0"]),
    ({"pairing": "neox"}, ["pairing = 'neox'", "interleaved, halves"]),
    ({"kind": "t5", "direction": "future"}, ["direction = 'future'", "past, both"]),
    ({"kind": "t5", "buckets": 0}, ["buckets = 0"]),
    ({"kind": "t5", "buckets": 6}, ["buckets = 6", "multiple of 4"]),
    ({"kind": "t5", "max_distance": 32}, ["buckets = 32", "max_distance = 32"]),
]
SETTINGS: dict[str, Any] = {
    "base": 500.0,
    "amplitude": 0.1,
    "pairing": "halves",
    "scaling": RotaryScaling("linear", 2.0),
    "buckets": 16,
    "max_distance": 64,
    "direction": "both",
}
READ = {
    "sinusoidal": {"base", "amplitude", "pairing"},
    "rotary": {"base", "pairing", "scaling"},
    "t5": {"buckets", "max_distance", "direction"},
}


@pytest.mark.parametrize(("changes", "named"), IMPOSSIBLE_SHAPES, ids=str)
def test_an_impossible_shape_is_refused_by_field_value_and_what_is_accepted(changes, named):
    with pytest.raises(ValueError, match="=") as refusal:
        TransformerConfig(**changes)
    assert all(word in str(refusal.value) for word in named), refusal.value
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("changes", "named"), IMPOSSIBLE_SCALINGS, ids=str)
def test_an_impossible_scaling_is_refused(changes, named):
    with pytest.raises(ValueError, match="=") as refusal:
        RotaryScaling(**changes)
    assert all(word in str(refusal.value) for word in named), refusal.value


@pytest.mark.parametrize(("changes", "named"), IMPOSSIBLE_POSITIONS, ids=str)
def test_an_impossible_position_is_refused(changes, named):
    with pytest.raises(ValueError, match="=") as refusal:
        PositionConfig(**changes)
    assert all(word in str(refusal.value) for word in named), refusal.value


@pytest.mark.parametrize("kind", ["none", "learned", "sinusoidal", "rotary", "alibi", "t5"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_position_setting_is_read_or_refused(kind, setting):
    changes = {"kind": kind, setting: SETTINGS[setting]}
    if setting in READ.get(kind, ()):
        assert getattr(PositionConfig(**changes), setting) == SETTINGS[setting]
    else:
        with pytest.raises(ValueError, match=f"{setting} = .* no effect: .*kind = '{kind}'"):
            PositionConfig(**changes)


def test_drop_path_of_one_block_is_refused_because_the_first_block_is_never_dropped():
    with pytest.raises(ValueError, match=r"drop_path = 0\.1 has no effect: depth = 1"):
        TransformerConfig(depth=1, drop_path=0.1)


def test_a_configuration_is_frozen_and_hashable():
    config = TransformerConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dim = 3
    assert hash(config) == hash(TransformerConfig())


@pytest.mark.parametrize(
    ("changes", "resolved"),
    [
        ({}, (6, 64, 1536)),
        ({"n_kv_heads": 2}, (2, 64, 1536)),
        ({"head_dim": 32, "ffn_dim": 100}, (6, 32, 100)),
        ({"dim": 100, "n_heads": 3, "head_dim": 16}, (3, 16, 400)),
        ({"feedforward": "swiglu"}, (6, 64, 1024)),  # 8/3 x 384 = 1024
        ({"dim": 4096, "n_heads": 32, "feedforward": "swiglu"}, (32, 128, 10944)),  # 10922.67, up to 64 x 171
        ({"feedforward": "geglu", "ffn_dim": 7}, (6, 64, 7)),
    ],
)
def test_defaults_are_resolved(changes, resolved):
    config = TransformerConfig(**changes)
    assert (config.key_heads, config.head_width, config.ffn_width) == resolved


@pytest.mark.parametrize(
    "config",
    [
        TransformerConfig(),
        TransformerConfig(n_kv_heads=3, ffn_dim=100, norm="rms", bias="none", drop_path=0.25, norm_eps=1e-6),
        TransformerConfig(position=PositionConfig("t5", buckets=16, max_distance=99, direction="both")),
        TransformerConfig(position=PositionConfig("rotary", base=5e5, pairing="halves"), head_dim=10),
    ],
)
def test_json_round_trip(config):
    data = json.loads(json.dumps(to_dict(config)))
    assert from_dict(TransformerConfig, data) == config


def test_json_refuses_an_unknown_key_and_keeps_the_checks():
    with pytest.raises(ValueError, match="position.bass.*did you mean 'base'"):
        from_dict(TransformerConfig, {"position": {"bass": 3.0}})
    with pytest.raises(ValueError, match="n_kv_heads = 5"):
        from_dict(TransformerConfig, {"n_kv_heads": 5})
