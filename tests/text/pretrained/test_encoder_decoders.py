"""T5 and MarianMT give the same logits, translations and beams here as in transformers, both ways, or are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.attention import Attention, CrossAttention
from core.config import PositionConfig
from core.decoding.beams import beam_search
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from tests.core.helpers import awake
from text.models.encoder_decoder import EncoderDecoderConfig, Seq2Seq, shape_2017, shape_modern
from text.models.gpt import GPT
from text.pretrained.encoder_decoders.t5 import UNBOUNDED
from text.pretrained.families import nearest_family
from text.pretrained.folders import export_pretrained, load_pretrained
from text.tokens.bpe import BPETokenizer

V = 61
LENGTHS = torch.tensor([13, 5, 9])
MARIAN: dict[str, Any] = {
    **{"vocab_size": V, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 48},
    **{"encoder_ffn_dim": 56, "decoder_ffn_dim": 56, "encoder_attention_heads": 4, "decoder_attention_heads": 4},
    **{"pad_token_id": 60, "decoder_start_token_id": 60, "eos_token_id": 0, "forced_eos_token_id": None},
    **{"scale_embedding": True, "activation_function": "swish"},
}
T5: dict[str, Any] = {
    **{"vocab_size": V, "d_model": 32, "d_kv": 12, "d_ff": 56, "num_layers": 2, "num_heads": 4},
    **{"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "decoder_start_token_id": 0},
}
GATED = T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "marian": ("Marian", MARIAN),
    "marian-relu": ("Marian", MARIAN | {"activation_function": "relu", "scale_embedding": False}),
    "marian-gelu-few-decoder-layers": ("Marian", MARIAN | {"activation_function": "gelu", "decoder_layers": 1}),
    "t5-1.0": ("T5", T5),
    "t5-1.1": ("T5", GATED),
    "t5-1.1-tied": ("T5", GATED | {"tie_word_embeddings": True}),
    "t5-swiglu-one-decoder-layer": ("T5", GATED | {"feed_forward_proj": "gated-silu", "num_decoder_layers": 1}),
    "t5-narrow-heads": ("T5", T5 | {"d_kv": 4, "layer_norm_epsilon": 1e-3}),
}

Reference = Callable[[str], tuple[Any, Path]]


def built(kind: str, fields: dict[str, Any]) -> Any:
    """A tiny model of transformers with random weights, its positions as they were; a T5 1.1 has a head of its own."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(**fields)
    model = getattr(transformers, {"T5": "T5ForConditionalGeneration", "Marian": "MarianMTModel"}[kind])(config)
    if kind == "T5" and fields.get("tie_word_embeddings") is False:
        model.lm_head.weight = nn.Parameter(torch.empty(V, 32))
    positions = {name: p.clone() for name, p in model.named_parameters() if "embed_positions" in name}
    awake(model)
    for name, before in positions.items():
        model.get_parameter(name).data.copy_(before)
    for name, p in model.named_parameters():
        if name.endswith("Attention.q.weight"):
            p.data /= math.sqrt(config.d_kv)  # scores are not scaled: T5's queries begin as small as that
    if kind == "Marian":
        model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(4))
    return model


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A tiny model of transformers with random weights, and the folder it was saved to."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    made: dict[str, tuple[Any, Path]] = {}

    def get(name: str) -> tuple[Any, Path]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            model = built(*THEIRS[name])
            model.save_pretrained(folder)
            made[name] = model, folder
        return made[name]

    return get


def built_here(config: EncoderDecoderConfig) -> Seq2Seq:
    """The same of ours."""
    model, width = awake(Seq2Seq(config)), config.core.n_heads * config.core.head_width
    for part in model.modules() if config.core.attention_scale == "none" else ():
        if isinstance(part, Attention):
            queries = part.q if isinstance(part, CrossAttention) else part.qkv
            queries.weight.data[:width] /= math.sqrt(config.core.head_width)
    return model


def ids(length: int = 13, seed: int = 3) -> Tensor:
    return torch.randint(1, V - 1, (3, length), generator=torch.Generator().manual_seed(seed))


def mask() -> Tensor:
    return (torch.arange(13) < LENGTHS[:, None]).long()


@torch.inference_mode()
def assert_same_logits(ours: Seq2Seq, theirs: Any, atol: float = 1e-5) -> None:
    got = ours(ids(), LENGTHS, ids(17, seed=4))
    expected = theirs(input_ids=ids(), attention_mask=mask(), decoder_input_ids=ids(17, seed=4)).logits
    assert expected.std() > 0.1, "logits that differ from token to token, so that equality says something"
    torch.testing.assert_close(got, expected, atol=atol, rtol=0)


def generated(theirs: Any, **options: Any) -> Any:
    """What transformers decodes; padding is never a token of a translation."""
    never, config = [[theirs.config.pad_token_id]], theirs.config
    return theirs.generate(
        ids(),
        attention_mask=mask(),
        max_new_tokens=12,
        do_sample=False,
        decoder_start_token_id=config.decoder_start_token_id,
        bad_words_ids=never,
        renormalize_logits=True,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )


def likely_end(theirs: Any) -> int:
    """A token to end translations with: one that the model is fond of."""
    return int(generated(theirs, eos_token_id=None).sequences[0, 4])


def ended(row: list[int], eos: int) -> list[int]:
    """A row up to its end."""
    return row[: row.index(eos) + 1] if eos in row else row


def kind_of(name: str) -> type[Any]:
    import transformers

    return getattr(transformers, "MarianMTModel" if name.startswith("marian") else "T5ForConditionalGeneration")


def edited(folder: Path, into: Path, **changes: object) -> Path:
    """A copy of a pretrained folder with some fields of its config.json changed, or taken out with `...`."""
    fields = json.loads((folder / "config.json").read_text()) | changes
    into.mkdir(exist_ok=True)
    (into / "config.json").write_text(json.dumps({name: value for name, value in fields.items() if value is not ...}))
    save_file(load_file(folder / "model.safetensors"), into / "model.safetensors")
    return into


# In


@pytest.mark.parametrize("name", THEIRS)
def test_logits_with_padding_equal_those_of_transformers(name: str, reference: Reference) -> None:
    theirs, folder = reference(name)
    assert_same_logits(load_pretrained(folder, Seq2Seq), theirs)


@pytest.mark.parametrize("name", THEIRS)
def test_greedy_tokens_equal_those_of_transformers(name: str, reference: Reference) -> None:
    theirs, folder = reference(name)
    ours, eos = load_pretrained(folder, Seq2Seq), likely_end(theirs)
    got = complete(ours.bind(ids(), LENGTHS), [[ours.config.start]] * 3, 12, Sampling(temperature=0), stop=[eos])
    assert got == [ended(row, eos) for row in generated(theirs, eos_token_id=eos).sequences[:, 1:].tolist()]
    assert got[0][-1] == eos


@pytest.mark.parametrize("name", THEIRS)
def test_beams_equal_those_of_transformers(name: str, reference: Reference) -> None:
    """Its search that stops when nothing can overtake, scores being log-probabilities."""
    theirs, folder = reference(name)
    ours, eos = load_pretrained(folder, Seq2Seq), likely_end(theirs)
    starts = [[ours.config.start]] * 3
    found = beam_search(ours.bind(ids(), LENGTHS), starts, 12, 4, eos=eos, length_penalty=0.0)
    options = {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.0, "early_stopping": False}
    expected = generated(theirs, eos_token_id=eos, **options)
    rows = [ended(row, eos) for row in expected.sequences[:, 1:].tolist()]
    assert [h.tokens for beams in found for h in beams] == rows
    assert any(row[-1] == eos for row in rows)
    scores = torch.tensor([h.score for beams in found for h in beams])
    torch.testing.assert_close(scores, expected.sequences_scores, atol=1e-4, rtol=0)


def test_a_t5_reaches_any_distance(reference: Reference) -> None:
    theirs, folder = reference("t5-1.1")
    ours, source = load_pretrained(folder, Seq2Seq), ids(700)
    assert ours.config.context == UNBOUNDED
    with torch.inference_mode():
        expected = theirs(input_ids=source, decoder_input_ids=ids()).logits
        torch.testing.assert_close(ours(source, None, ids()), expected, atol=1e-5, rtol=0)


def test_marian_s_sinusoids_agree_far_from_the_start(tmp_path: Path) -> None:
    theirs = built("Marian", MARIAN | {"max_position_embeddings": 512})
    theirs.save_pretrained(tmp_path)
    ours, source, target = load_pretrained(tmp_path, Seq2Seq), ids(500), ids(500, seed=4)
    with torch.inference_mode():
        expected = theirs(input_ids=source, decoder_input_ids=target).logits
        torch.testing.assert_close(ours(source, None, target), expected, atol=1e-5, rtol=0)


def test_older_files_load_as_well(reference: Reference, tmp_path: Path) -> None:
    """As Google and Helsinki wrote them: tied weights stored several times, positions and masks as weights."""
    theirs, folder = reference("t5-1.0")
    old = edited(
        folder,
        tmp_path / "t5",
        **{"scale_decoder_outputs": ..., "tie_word_embeddings": ..., "dense_act_fn": ..., "is_gated_act": ...},
        **{"n_positions": 512, "output_past": True, "task_specific_params": {"summarization": {"num_beams": 4}}},
    )
    weights = load_file(folder / "model.safetensors")
    copies = {name: weights["shared.weight"].clone() for name in ("encoder.embed_tokens.weight", "lm_head.weight")}
    unused = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": torch.ones(8, 4)}
    save_file(weights | copies | unused, old / "model.safetensors")
    assert_same_logits(load_pretrained(old, Seq2Seq), theirs)

    theirs, folder = reference("marian")
    said = {"normalize_before": False, "static_position_embeddings": True, "num_hidden_layers": 2, "num_beams": 6}
    old = edited(folder, tmp_path / "marian", **said, **{"bad_words_ids": [[60]], "extra_pos_embeddings": 61})
    weights = load_file(folder / "model.safetensors")
    tables = {f"model.{side}.embed_positions.weight": torch.ones(48, 32) for side in ("encoder", "decoder")}
    tied = {"model.decoder.embed_tokens.weight": weights["model.shared.weight"].clone()}
    save_file(weights | tables | tied, old / "model.safetensors")
    assert_same_logits(load_pretrained(old, Seq2Seq), theirs)


def test_a_head_that_is_left_out_is_the_embedding(reference: Reference, tmp_path: Path) -> None:
    """transformers 5 leaves it out where they are equal, also in a T5 1.1."""
    _, folder = reference("t5-1.1")
    copied = edited(folder, tmp_path / "t5")
    weights = load_file(folder / "model.safetensors")
    save_file({k: t for k, t in weights.items() if k != "lm_head.weight"}, copied / "model.safetensors")
    assert_same_logits(load_pretrained(copied, Seq2Seq), kind_of("t5").from_pretrained(copied).eval())


# Out


@pytest.mark.parametrize("name", THEIRS)
def test_an_export_is_the_file_that_transformers_would_write(name: str, reference: Reference, tmp_path: Path) -> None:
    theirs, folder = reference(name)
    ours = load_pretrained(folder, Seq2Seq)
    export_pretrained(ours, tmp_path / "out")
    original, exported = (load_file(where / "model.safetensors") for where in (folder, tmp_path / "out"))
    assert original.keys() == exported.keys()
    assert all(torch.equal(original[key], exported[key]) for key in exported)

    loaded, loading = type(theirs).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(loading.values()), "no key missing, unexpected or mismatched"
    assert_same_logits(ours, loaded.eval())
    again = load_pretrained(tmp_path / "out", Seq2Seq)
    assert again.config == ours.config
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True))


PAPER = replace(shape_2017(32, 2, 4, 56, 0.0, context=48), vocab_size=V, start=2, eos=1, pad=3)
MODERN = replace(shape_modern(32, 2, 4, 12, 56, 0.0), vocab_size=V)
OURS = {
    "marian": PAPER,
    "marian, one id for all, short decoder": replace(PAPER, start=0, eos=0, pad=0, decoder_depth=1),
    "marian, few biases": replace(PAPER, core=replace(PAPER.core, bias="qkv", feedforward="silu")),
    "t5": MODERN,
    "t5, tied": replace(MODERN, head="tied"),
    "t5, tied and scaled": replace(MODERN, head="tied", head_scale="inverse-sqrt-dim", start=2, pad=3),
    "t5, relu": replace(MODERN, core=replace(MODERN.core, feedforward="relu", head_dim=None), decoder_depth=1),
}


@pytest.mark.parametrize("name", OURS)
def test_a_model_built_here_translates_the_same_in_transformers(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM

    ours = built_here(OURS[name])
    assert nearest_family(ours.config) == name.split(",")[0]
    export_pretrained(ours, tmp_path / "out")
    theirs, loading = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(loading.values())
    assert_same_logits(ours, theirs)
    assert_same_logits(load_pretrained(tmp_path / "out", Seq2Seq), theirs)
    start, eos = ours.config.start, ours.config.eos
    got = complete(ours.bind(ids(), LENGTHS), [[start]] * 3, 12, Sampling(temperature=0), stop=[eos])
    expected = theirs.generate(ids(), attention_mask=mask(), max_new_tokens=12, do_sample=False)
    assert got == [ended(row[1:], eos) for row in expected.tolist()], "its own settings suffice"


def test_a_tokenizer_goes_with_it(tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = BPETokenizer.train(["eins zwei drei vier one two three four"] * 3, 280)
    ours = awake(Seq2Seq(replace(PAPER, vocab_size=tokenizer.vocab_size, start=0, eos=0, pad=0)))
    export_pretrained(ours, tmp_path / "out", tokenizer=tokenizer)
    theirs, reader = (kind.from_pretrained(tmp_path / "out") for kind in (AutoModelForSeq2SeqLM, AutoTokenizer))
    source = torch.from_numpy(tokenizer.encode("one two three"))[None]
    assert reader("one two three").input_ids == source[0].tolist()
    expected = theirs.generate(source, attention_mask=torch.ones_like(source), max_new_tokens=9, do_sample=False)
    [got] = complete(ours.bind(source), [[0]], 9, Sampling(temperature=0), stop=[0])
    assert ended(expected[0, 1:].tolist(), 0) == got


# Refused


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("marian", {"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings = False"),
        ("marian", {"tie_word_embeddings": False}, "tie_word_embeddings = False"),
        ("marian", {"decoder_vocab_size": 50}, "decoder_vocab_size = 50 is not supported: vocab_size = 61"),
        ("marian", {"decoder_ffn_dim": 64}, "decoder_ffn_dim = 64"),
        ("marian", {"decoder_attention_heads": 2}, "decoder_attention_heads = 2"),
        ("marian", {"num_hidden_layers": 3}, "num_hidden_layers = 3"),
        ("marian", {"normalize_before": True}, "normalize_before = True"),
        ("marian", {"static_position_embeddings": False}, "static_position_embeddings = False"),
        ("marian", {"activation_function": "quick_gelu"}, "activation_function = 'quick_gelu'"),
        ("marian", {"is_encoder_decoder": False}, "is_encoder_decoder = False"),
        ("marian", {"decoder_start_token_id": 61}, "start = 61 must be below vocab_size = 61"),
        ("marian", {"encoder_layers": ...}, "missing key 'encoder_layers'"),
        ("t5-1.0", {"feed_forward_proj": "gated-relu"}, "feed_forward_proj = 'gated-relu'"),
        ("t5-1.1", {"dense_act_fn": "silu"}, "dense_act_fn = 'silu' contradicts"),
        ("t5-1.1", {"is_gated_act": False}, "is_gated_act = False contradicts"),
        ("t5-1.0", {"relative_attention_num_buckets": 6}, "position.buckets = 6"),
    ],
)
def test_a_field_that_would_change_the_mathematics_is_refused_by_name(
    name: str, changes: dict[str, Any], message: str, reference: Reference, tmp_path: Path
) -> None:
    _, folder = reference(name)
    with pytest.raises(ValueError, match=f"config.json: .*{message}"):
        load_pretrained(edited(folder, tmp_path / "m", **changes))


def test_weights_that_do_not_fit_are_refused_by_name(reference: Reference, tmp_path: Path) -> None:
    _, folder = reference("t5-1.0")
    weights = load_file(folder / "model.safetensors")
    other = edited(folder, tmp_path / "m")
    for changed, message in (
        (weights | {"lm_head.weight": weights["shared.weight"] + 1}, "lm_head.weight is not equal to shared.weight"),
        ({k: t for k, t in weights.items() if "final" not in k}, "lack decoder.final_layer_norm.weight"),
        (weights | {"encoder.gate": torch.ones(1)}, "unknown encoder.gate"),
    ):
        save_file(changed, other / "model.safetensors")
        with pytest.raises(ValueError, match=message):
            load_pretrained(other)


def test_another_kind_of_model_is_refused(reference: Reference) -> None:
    _, folder = reference("t5-1.0")
    with pytest.raises(ValueError, match="Seq2Seq, needed is .*GPT"):
        load_pretrained(folder, GPT)


ROTARY = replace(PAPER, core=replace(PAPER.core, position=PositionConfig("rotary")))


@pytest.mark.parametrize(
    ("family", "config", "message"),
    [
        ("marian", ROTARY, "core.position.kind = 'rotary' .* marian .*: sinusoidal"),
        ("marian", replace(PAPER, core=replace(PAPER.core, position=PositionConfig("sinusoidal"))), "interleaved"),
        ("marian", replace(PAPER, core=replace(PAPER.core, norm_placement="pre")), "norm_placement = 'pre'"),
        ("marian", replace(PAPER, core=replace(PAPER.core, n_kv_heads=2)), "n_kv_heads = 2"),
        ("marian", replace(PAPER, core=replace(PAPER.core, head_dim=6)), "head_dim = 6"),
        ("marian", replace(PAPER, core=replace(PAPER.core, window=5)), "window = 5"),
        ("marian", replace(PAPER, head="untied"), "head = 'untied' .*: tied"),
        ("marian", replace(PAPER, head_scale="inverse-sqrt-dim"), "head_scale = 'inverse-sqrt-dim'"),
        ("t5", PAPER, "core.position.kind = 'sinusoidal' .* t5"),
        ("t5", replace(MODERN, embedding_scale="sqrt-dim"), "embedding_scale = 'sqrt-dim'"),
        ("t5", replace(MODERN, head_bias="learned"), "head_bias = 'learned'"),
        ("t5", replace(MODERN, head_scale="inverse-sqrt-dim"), "head = 'untied' .*: tied"),
        ("t5", replace(MODERN, core=replace(MODERN.core, feedforward="relu2")), "feedforward = 'relu2'"),
        ("t5", replace(MODERN, core=replace(MODERN.core, attention_scale="head_dim")), "attention_scale = 'head_dim'"),
    ],
)
def test_a_setting_that_a_layout_cannot_express_is_refused_by_name(
    family: str, config: EncoderDecoderConfig, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        export_pretrained(Seq2Seq(config), tmp_path / "out", family)
    assert not (tmp_path / "out").exists()
