"""Public weights give the same logits and tokens here as in transformers, both ways, or are refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.config import PositionConfig, TransformerConfig
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from tests.core.helpers import awake
from text.models.gpt import GPT, GPTConfig
from text.pretrained.causal.llama import Llama
from text.pretrained.families import FAMILIES, nearest_family
from text.pretrained.folders import export_pretrained, load_pretrained, pretrained_folder
from text.tokens.base import ByteTokenizer
from text.tokens.bpe import BPETokenizer
from text.tokens.load import load_tokenizer

GPT2_SHAPE = {"vocab_size": 61, "n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 4}
SHAPE = {
    **{"vocab_size": 61, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 48},
}
ROPE = {"rope_theta": 500.0}
LLAMA3 = {"factor": 8.0, "original_max_position_embeddings": 12, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"factor": 4.0, "original_max_position_embeddings": 12}
NO_ENDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}

THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", GPT2_SHAPE),
    "gpt2-untied": ("GPT2", GPT2_SHAPE | {"tie_word_embeddings": False, "n_inner": 40}),
    "gpt2-exact-gelu": ("GPT2", GPT2_SHAPE | {"activation_function": "gelu", "layer_norm_epsilon": 1e-3}),
    "gpt2-relu": ("GPT2", GPT2_SHAPE | {"activation_function": "relu"}),
    "gpt2-tanh-gelu": ("GPT2", GPT2_SHAPE | {"activation_function": "gelu_pytorch_tanh"}),
    "llama": ("Llama", SHAPE),
    "llama-multi-query": ("Llama", SHAPE | {"num_key_value_heads": 1, "rms_norm_eps": 1e-3}),
    "llama-multi-head": ("Llama", SHAPE | {"num_key_value_heads": None}),
    "llama-tied": ("Llama", SHAPE | {"tie_word_embeddings": True, "rope_theta": 500.0}),
    "llama-wide-heads": ("Llama", SHAPE | {"head_dim": 12}),
    "llama-biases": ("Llama", SHAPE | {"attention_bias": True, "mlp_bias": True}),
    "llama-geglu": ("Llama", SHAPE | {"hidden_act": "gelu"}),
    "llama-attention-bias": ("Llama", SHAPE | {"attention_bias": True}),
    "llama-mlp-bias": ("Llama", SHAPE | {"mlp_bias": True}),
    "llama3": ("Llama", SHAPE | {"rope_parameters": ROPE | {"rope_type": "llama3"} | LLAMA3}),
    "llama-linear": ("Llama", SHAPE | {"rope_parameters": ROPE | {"rope_type": "linear", "factor": 3.0}}),
    "llama-dynamic": (
        "Llama",
        SHAPE | {"max_position_embeddings": 12, "rope_parameters": ROPE | {"rope_type": "dynamic", "factor": 4.0}},
    ),
    "llama-yarn": (
        "Llama",
        SHAPE | {"max_position_embeddings": 12, "rope_parameters": ROPE | {"rope_type": "yarn"} | YARN},
    ),
    "llama-yarn-exact": (
        "Llama",
        SHAPE | {"rope_parameters": ROPE | {"rope_type": "yarn", "truncate": False, "attention_factor": 0.9} | YARN},
    ),
    "llama-yarn-mscale": (
        "Llama",
        SHAPE | {"rope_parameters": ROPE | {"rope_type": "yarn", "mscale": 0.7, "mscale_all_dim": 1.3} | YARN},
    ),
    "mistral": ("Mistral", SHAPE | {"sliding_window": None}),
    "mistral-window": ("Mistral", SHAPE | {"sliding_window": 7}),
    "mistral-window-beyond-context": ("Mistral", SHAPE | {"sliding_window": 48}),
    "qwen2": ("Qwen2", SHAPE | {"tie_word_embeddings": True}),
    "qwen2-window": (
        "Qwen2",
        SHAPE | {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1, "num_hidden_layers": 3},
    ),
    "qwen3": ("Qwen3", SHAPE | {"head_dim": 12}),
    "qwen3-bias": ("Qwen3", SHAPE | {"head_dim": 8, "attention_bias": True}),
    "smollm3": ("SmolLM3", SHAPE | {"num_hidden_layers": 5}),
    "smollm3-window": (
        "SmolLM3",
        SHAPE | {"no_rope_layers": [0, 1, 1], "num_hidden_layers": 3, "use_sliding_window": True, "sliding_window": 5},
    ),
    "olmo2": ("Olmo2", SHAPE),
    "olmo3": ("Olmo3", SHAPE | {"num_hidden_layers": 4, "sliding_window": 5}),
    "olmo3-yarn": (
        "Olmo3",
        SHAPE
        | {
            "num_hidden_layers": 4,
            "sliding_window": 5,
            "rope_parameters": {
                "full_attention": ROPE | {"rope_type": "yarn"} | YARN,
                "sliding_attention": {"rope_theta": 500.0, "rope_type": "default"},
            },
        },
    ),
    "nanochat": ("NanoChat", SHAPE),
    "nanochat-uncapped": ("NanoChat", SHAPE | {"final_logit_softcapping": None, "tie_word_embeddings": True}),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """A tiny model of transformers with random weights, and the folder it was saved to."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    made: dict[str, tuple[Any, Path]] = {}

    def get(name: str) -> tuple[Any, Path]:
        if name not in made:
            kind, fields = THEIRS[name]
            config = getattr(transformers, f"{kind}Config")(**fields, **NO_ENDS)
            head = "LMHeadModel" if kind == "GPT2" else "ForCausalLM"
            model = awake(getattr(transformers, kind + head)(config))
            folder = tmp_path_factory.mktemp(name)
            model.save_pretrained(folder)
            made[name] = model, folder
        return made[name]

    return get


Reference = Callable[[str], tuple[Any, Path]]


def some_ids(length: int = 48) -> Tensor:
    return torch.randint(0, 61, (2, length), generator=torch.Generator().manual_seed(3))


def assert_same_logits(a: Tensor, b: Tensor) -> None:
    assert a.std() > 0.3, "logits that differ from token to token, so that equality says something"
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def edited(folder: Path, into: Path, **changes: object) -> Path:
    """A copy of a pretrained folder with some fields of its config.json changed, or taken out with `...`."""
    fields = json.loads((folder / "config.json").read_text()) | changes
    kept = {name: value for name, value in fields.items() if value is not ...}
    into.mkdir(exist_ok=True)
    (into / "config.json").write_text(json.dumps(kept))
    save_file(load_file(folder / "model.safetensors"), into / "model.safetensors")
    return into


def reweighted(folder: Path, into: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """A copy of a pretrained folder with other weights."""
    edited(folder, into)
    save_file(change(load_file(folder / "model.safetensors")), into / "model.safetensors")
    return into


# In


@pytest.mark.parametrize("name", THEIRS)
def test_logits_and_greedy_tokens_equal_those_of_transformers(name: str, reference: Reference) -> None:
    theirs, folder = reference(name)
    ours, ids = load_pretrained(folder), some_ids()
    with torch.inference_mode():
        assert_same_logits(ours(ids), theirs(ids).logits)
        expected = theirs.generate(ids[:, :8], do_sample=False, max_new_tokens=40)[:, 8:]
    assert complete(ours, ids[:, :8].tolist(), 40, Sampling(temperature=0)) == expected.tolist()


def test_rotary_weights_agree_far_from_the_start() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from core.files.weights import import_weights

    long = SHAPE | {"max_position_embeddings": 2048, "hidden_size": 128, "num_attention_heads": 2}
    theirs = awake(LlamaForCausalLM(LlamaConfig(**long, **NO_ENDS)))
    ours = GPT(Llama(**long).to_config()).eval()
    import_weights(ours, theirs.state_dict(), Llama(**long).rules(ours.config))
    ids = some_ids(2048)[:1]
    with torch.inference_mode():
        assert_same_logits(ours(ids)[:, -512:], theirs(ids).logits[:, -512:])


def test_a_model_saved_without_its_head_loads_the_same(reference: Reference, tmp_path: Path) -> None:
    for name, inner in (("gpt2", "transformer"), ("llama-tied", "model")):
        theirs, _ = reference(name)
        getattr(theirs, inner).save_pretrained(tmp_path / name)
        fields = json.loads((tmp_path / name / "config.json").read_text())
        assert fields["architectures"] != [type(theirs).__name__]
        with torch.inference_mode():
            assert_same_logits(load_pretrained(tmp_path / name)(some_ids()), theirs(some_ids()).logits)


def test_shards_load_as_one_file_does(reference: Reference, tmp_path: Path) -> None:
    theirs, folder = reference("llama")
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    shards, whole = load_pretrained(tmp_path).state_dict(), load_pretrained(folder).state_dict()
    assert all(torch.equal(shards[name], whole[name]) for name in whole)


def test_half_precision_becomes_float32_exactly(reference: Reference, tmp_path: Path) -> None:
    _, folder = reference("qwen2")
    halved = reweighted(folder, tmp_path / "half", lambda w: {name: t.bfloat16() for name, t in w.items()})
    rounded = reweighted(folder, tmp_path / "r", lambda w: {name: t.bfloat16().float() for name, t in w.items()})
    a, b = load_pretrained(halved), load_pretrained(rounded)
    assert all(p.dtype == torch.float32 for p in a.parameters())
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_old_files_with_buffers_and_bookkeeping_load(reference: Reference, tmp_path: Path) -> None:
    """What the first GPT-2 files hold beside the weights and the fields that matter."""
    _, folder = reference("gpt2")
    old = {
        **{"n_ctx": 1024, "n_special": 0, "predict_special_tokens": True, "summary_type": "cls_index"},
        **{"task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "output_past": True},
        **{"_num_labels": 1, "id2label": {"0": "LABEL_0"}, "initializer_range": 0.02, "torch_dtype": "float32"},
    }
    edited(folder, tmp_path / "old", **old)

    def with_buffers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        buffers = {f"h.{n}.attn.bias": torch.ones(1, 1, 48, 48).tril().byte() for n in range(2)}
        buffers |= {f"h.{n}.attn.masked_bias": torch.tensor(-1e4) for n in range(2)}
        bare = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
        return bare | buffers | {"lm_head.weight": bare["wte.weight"].clone()}

    save_file(with_buffers(load_file(folder / "model.safetensors")), tmp_path / "old" / "model.safetensors")
    assert torch.equal(load_pretrained(tmp_path / "old")(some_ids()), load_pretrained(folder)(some_ids()))


def test_bookkeeping_of_models_like_llama_is_ignored(reference: Reference, tmp_path: Path) -> None:
    spare = {"is_llama_config": True, "rope_interleaved": False, "pretraining_tp": 1, "transformers.js_config": {}}
    load_pretrained(edited(reference("llama")[1], tmp_path / "llama", **spare))
    spare = {"use_mrope": False, "sliding_window": 32, "use_sliding_window": False, "max_window_layers": 1}
    load_pretrained(edited(reference("qwen2")[1], tmp_path / "qwen2", **spare))


@pytest.mark.parametrize(
    "where",
    [
        {"rope_parameters": ..., "rope_theta": 500.0},
        {"rope_parameters": {"rope_theta": 500.0}},
        {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}, "rope_theta": 500},
        {"rope_parameters": ..., "rope_theta": 500.0, "rope_scaling": None},
        {"rope_parameters": ..., "rope_theta": 500.0, "rope_scaling": {"type": "default"}},
    ],
)
def test_the_rotary_base_is_read_wherever_it_is(where: dict[str, Any], reference: Reference, tmp_path: Path) -> None:
    _, folder = reference("llama-tied")
    assert load_pretrained(edited(folder, tmp_path / "m", **where)).config.core.position.base == 500.0


# Refused


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights = False"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention = True"),
        ("gpt2", {"activation_function": "quick_gelu"}, "activation_function = 'quick_gelu' is not one of"),
        ("gpt2", {"n_layer": ...}, "missing key 'n_layer'"),
        ("gpt2", {"n_layer": "2"}, "n_layer = '2' is not of type int"),
        ("gpt2", {"n_head": 5}, "n_heads = 5 must divide dim = 32"),
        ("gpt2", {"model_type": "gpt3"}, "model_type = 'gpt3' is not a supported family; did you mean 'gpt2'"),
        ("gpt2", {"model_type": ...}, "model_type = None"),
        ("llama", {"hidden_act": "relu"}, "hidden_act = 'relu' is not one of"),
        ("llama", {"rope_scaling": {"type": "longrope", "factor": 2.0}}, "rope_scaling.rope_type = 'longrope'"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "rope_scaling.factor is missing"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": "2"}}, "rope_scaling.factor = '2'"),
        ("llama", {"rope_scaling": {"type": "yarn", "factor": 2.0, "short_factor": [1]}}, "rope_scaling.short_factor"),
        ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary"),
        ("llama", {"rope_parameters": {"rope_theta": [1e4]}}, r"rope_theta = \[10000.0\]"),
        ("llama", {"num_attention_heads": 0}, "n_heads = 0 must be above 0"),
        ("llama", {"rope_theta": 5e5}, "rope_theta .* 10000.0 and 500000.0"),
        ("mistral", {"sliding_window": 0}, "window = 0"),
        ("qwen3", {"layer_types": ["full_attention", "linear_attention"]}, "linear_attention"),
        ("olmo3", {"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters.rope_theta = 10000.0"),
    ],
)  # fmt: skip
def test_a_field_that_would_change_the_mathematics_is_refused_by_name(
    name: str, changes: dict[str, Any], message: str, reference: Reference, tmp_path: Path
) -> None:
    _, folder = reference(name)
    with pytest.raises(ValueError, match=f"config.json: .*{message}"):
        load_pretrained(edited(folder, tmp_path / "m", **changes))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gpt2", lambda w: w | {"transformer.h.0.attn.gate": torch.ones(1)}, "unknown transformer.h.0.attn.gate"),
        ("gpt2", lambda w: w | {"wte.weight": w["transformer.wte.weight"].clone()}, "unknown wte.weight"),
        ("gpt2", lambda w: w | {"lm_head.weight": w["transformer.wte.weight"] + 1}, "lm_head.weight is not equal"),
        ("gpt2", lambda w: w | {"transformer.h.2.ln_1.bias": torch.ones(32)}, "unknown transformer.h.2.ln_1.bias"),
        ("gpt2-untied", lambda w: {k: t for k, t in w.items() if "lm_head" not in k}, "lack lm_head.weight"),
        ("llama", lambda w: {k: t for k, t in w.items() if "1.mlp.up" not in k}, "lack model.layers.1.mlp.up_proj"),
        ("llama", lambda w: w | {"model.norm.weight": torch.ones(31)}, r"model.norm.weight has the shape \(31,\)"),
        ("llama", lambda w: w | {"model.norm.weight": torch.ones(32).to(torch.int8)}, "model.norm.weight is of type"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_by_name(
    name: str, change: Any, message: str, reference: Reference, tmp_path: Path
) -> None:
    _, folder = reference(name)
    with pytest.raises(ValueError, match=message):
        load_pretrained(reweighted(folder, tmp_path / "m", change))


def test_a_folder_with_only_a_pickle_is_refused(reference: Reference, tmp_path: Path) -> None:
    _, folder = reference("gpt2")
    edited(folder, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pytorch_model.bin is a pickle"):
        load_pretrained(tmp_path / "m")


def test_names_that_are_neither_folder_nor_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in (tmp_path / "none", tmp_path / "file", "../none", "a/b/c"):
        with pytest.raises(ValueError, match=f"{name} is not a folder"):
            pretrained_folder(name)
    with pytest.raises(ValueError, match="nobody/nothing is not a folder.*the hub"):
        load_pretrained("nobody/nothing")


def test_a_downloaded_model_loads_by_name_without_a_network(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    _, folder = reference("gpt2")
    kept = tmp_path / "models--somebody--tiny"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    (kept / "snapshots").mkdir()
    edited(folder, kept / "snapshots" / ("0" * 40))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert torch.equal(load_pretrained("somebody/tiny")(some_ids()), load_pretrained(folder)(some_ids()))


# Out


@pytest.mark.parametrize("name", THEIRS)
def test_an_export_is_the_file_that_transformers_would_write(name: str, reference: Reference, tmp_path: Path) -> None:
    theirs, folder = reference(name)
    ours = load_pretrained(folder)
    export_pretrained(ours, tmp_path / "out", family=theirs.config.model_type)
    original, exported = (load_file(where / "model.safetensors") for where in (folder, tmp_path / "out"))
    assert original.keys() == exported.keys()
    assert all(torch.equal(original[key], exported[key]) for key in original)

    loaded, loading = type(theirs).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(loading.values()), "no key missing, unexpected or mismatched"
    with torch.inference_mode():
        assert_same_logits(loaded(some_ids()).logits, theirs(some_ids()).logits)

    again = load_pretrained(tmp_path / "out")
    assert again.config == ours.config
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True))


def core(**changes: Any) -> TransformerConfig:
    modern = {"feedforward": "swiglu", "norm": "rmsnorm", "bias": "none", "n_kv_heads": 2}
    return TransformerConfig(**{"dim": 32, "depth": 2, "n_heads": 4} | modern | changes)


GPT2_CORE = TransformerConfig(dim=32, depth=2, n_heads=4, position=PositionConfig("learned"))
WIDE = PositionConfig("rotary", base=500.0)

OURS = {
    "gpt2": GPTConfig(61, 48, "tied", GPT2_CORE),
    "llama": GPTConfig(61, 48, "tied", core()),
    "llama untied with biases": GPTConfig(61, 48, "untied", core(bias="all", ffn_dim=40, position=WIDE)),
    "qwen2": GPTConfig(61, 48, "untied", core(bias="qkv", feedforward="geglu")),
    "qwen3": GPTConfig(61, 48, "tied", core(qk_norm="rmsnorm", head_dim=12)),
}


@pytest.mark.parametrize("name", OURS)
def test_a_model_built_here_gives_the_same_logits_in_transformers(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = awake(GPT(OURS[name]))
    assert nearest_family(model.config) == name.split()[0]
    export_pretrained(model, tmp_path / "out")
    theirs, loading = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(loading.values())
    with torch.inference_mode():
        assert_same_logits(model(some_ids()), theirs(some_ids()).logits)
        assert_same_logits(load_pretrained(tmp_path / "out")(some_ids()), model(some_ids()))


@pytest.mark.parametrize(
    ("family", "core", "message"),
    [
        ("gpt2", core(norm="layernorm"), "core.position.kind = 'rotary' .* gpt2 .*: learned"),
        ("gpt2", TransformerConfig(32, 2, 4, position=PositionConfig("alibi")), "core.position.kind = 'alibi'"),
        ("gpt2", core(position=PositionConfig("learned"), feedforward="relu2"), "core.feedforward = 'relu2'"),
        ("gpt2", core(position=PositionConfig("learned"), feedforward="gelu"), "core.norm = 'rmsnorm'"),
        ("gpt2", TransformerConfig(32, 2, 4, 2, position=PositionConfig("learned")), "core.n_kv_heads = 2"),
        ("gpt2", TransformerConfig(32, 2, 4, head_dim=6, position=PositionConfig("learned")), "core.head_dim = 6"),
        ("llama", core(feedforward="relu2"), "core.feedforward = 'relu2' .*: swiglu, geglu"),
        ("llama", core(norm="rms"), "core.norm = 'rms'"),
        ("llama", core(norm_placement="post"), "core.norm_placement = 'post'"),
        ("llama", core(bias="qkv"), "core.bias = 'qkv' .*: none, attention, feedforward, all"),
        ("llama", core(qk_norm="rmsnorm"), "core.qk_norm = 'rmsnorm'"),
        ("llama", core(n_heads=5, n_kv_heads=5, head_dim=8), "core.n_heads = 5 must divide core.dim = 32"),
        ("mistral", core(bias="all"), "core.bias = 'all'"),
        ("qwen2", core(), "core.bias = 'none' .*: qkv"),
        ("qwen3", core(qk_norm="rms"), "core.qk_norm = 'rms'"),
        ("llama", core(window=8), "core.window = 8"),
        ("llama", core(embedding_norm="rms"), "core.embedding_norm = 'rms'"),
        ("llama", core(attention_scale="none"), "core.attention_scale = 'none'"),
        ("mistral", core(window=8, window_layers=(0,)), "core.window_layers = "),
        ("qwen3", core(qk_norm="rmsnorm", unpositioned_layers=(1,)), "core.unpositioned_layers = "),
        ("qwen9", core(), "model_type = 'qwen9' .* did you mean 'qwen"),
    ],
)  # fmt: skip
def test_what_a_family_cannot_express_is_refused_by_name(
    family: str, core: TransformerConfig, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        export_pretrained(GPT(GPTConfig(61, 48, "tied", core)), tmp_path / "out", family)
    assert not list(tmp_path.iterdir()), "nothing half-written is left"


def test_what_no_family_can_express_is_refused_by_name_too(tmp_path: Path) -> None:
    modern = TransformerConfig(32, 2, 4, norm="rms", qk_norm="rms", feedforward="relu2", bias="none")
    with pytest.raises(ValueError, match="core.embedding_norm = 'none'"):
        export_pretrained(GPT(GPTConfig(61, 48, "tied", modern)), tmp_path / "out")


def test_an_export_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    with pytest.raises(ValueError, match="out already exists"):
        export_pretrained(GPT(OURS["gpt2"]), tmp_path / "out")
    assert [file.name for file in tmp_path.rglob("*")] == ["out", "mine"]


def test_an_export_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        export_pretrained(GPT(OURS["gpt2"]), tmp_path / "file" / "out")
    assert [file.name for file in tmp_path.rglob("*")] == ["file"]


def test_a_tokenizer_is_exported_with_the_model_and_transformers_reads_it(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    text = "the cat sat on the mat, the rat sat on the cat"
    tokenizer = BPETokenizer.train([text], 270)
    config = GPTConfig(300, 48, "tied", GPT2_CORE)
    export_pretrained(GPT(config), tmp_path / "out", tokenizer=tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs(text)["input_ids"] == tokenizer.encode(text).tolist()
    assert theirs.eos_token_id == tokenizer.eos == AutoConfig.from_pretrained(tmp_path / "out").eos_token_id
    assert load_tokenizer(pretrained_folder(tmp_path / "out")) == tokenizer


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = GPT(OURS["gpt2"])
    with pytest.raises(ValueError, match="256 .* 61"):
        export_pretrained(model, tmp_path / "out", tokenizer=ByteTokenizer())
    with pytest.raises(ValueError, match="257 .* 61"):
        export_pretrained(model, tmp_path / "out", tokenizer=BPETokenizer.train([""], 257))
    assert not list(tmp_path.iterdir())


def test_every_family_is_known_by_the_name_that_its_config_carries() -> None:
    import transformers

    for name, family in FAMILIES.items():
        assert transformers.AutoConfig.for_model(name).model_type == name
        assert hasattr(transformers, family.architecture)
