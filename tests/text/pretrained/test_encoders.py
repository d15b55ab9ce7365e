"""Public encoders give the same scores and hidden states here as in transformers, both ways, whatever their head."""

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
from tests.core.helpers import awake
from text.models.encoder import (
    MODELS,
    Classifier,
    ClassifierConfig,
    Embedder,
    EmbedderConfig,
    EncoderConfig,
    EncoderModel,
    MaskedLM,
    MaskedLMConfig,
    Tagger,
    TaggerConfig,
)
from text.models.heads import HeadConfig
from text.pretrained.families import nearest_family
from text.pretrained.folders import export_pretrained, load_pretrained

CONTEXT = 24
LENGTHS = torch.tensor([20, 13, 4])
LABELS = {0: "no", 1: "perhaps", 2: "yes"}
BERT = {
    **{"vocab_size": 61, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "max_position_embeddings": CONTEXT, "id2label": LABELS},
}
DISTIL = {
    **{"vocab_size": 61, "dim": 32, "hidden_dim": 56, "n_layers": 2, "n_heads": 4},
    **{"max_position_embeddings": CONTEXT, "id2label": LABELS},
}
MODERN = BERT | {"num_hidden_layers": 5, "local_attention": 8, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}
ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
}
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", BERT),
    "bert-relu": ("Bert", BERT | {"hidden_act": "relu", "layer_norm_eps": 1e-3, "type_vocab_size": 3}),
    "bert-tanh-gelu": ("Bert", BERT | {"hidden_act": "gelu_new"}),
    "bert-untied": ("Bert", BERT | {"tie_word_embeddings": False}),
    "roberta": ("Roberta", BERT | {"max_position_embeddings": CONTEXT + 2, "type_vocab_size": 1}),
    "roberta-relu": ("Roberta", BERT | {"max_position_embeddings": CONTEXT + 2, "hidden_act": "relu"}),
    "roberta-far-padding": ("Roberta", BERT | {"max_position_embeddings": CONTEXT + 4, "pad_token_id": 3}),
    "distilbert": ("DistilBert", DISTIL),
    "distilbert-relu": ("DistilBert", DISTIL | {"activation": "relu"}),
    "distilbert-untied": ("DistilBert", DISTIL | {"tie_word_embeddings": False}),
    "modernbert": ("ModernBert", MODERN),
    "modernbert-biases": (
        "ModernBert",
        MODERN
        | {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True, "decoder_bias": False}
        | {"classifier_activation": "relu", "classifier_pooling": "mean", "hidden_activation": "silu"},
    ),
    "modernbert-attention-bias": (
        "ModernBert",
        MODERN | {"attention_bias": True, "norm_bias": True, "hidden_activation": "gelu_new", "norm_eps": 1e-3},
    ),
    "modernbert-full": ("ModernBert", MODERN | {"layer_types": ["full_attention"] * 5}),
    "modernbert-local": ("ModernBert", MODERN | {"layer_types": ["sliding_attention"] * 5, "local_attention": 5}),
    "modernbert-one-base": ("ModernBert", MODERN | {"global_rope_theta": 500.0, "local_rope_theta": 500.0}),
    "modernbert-ropes": ("ModernBert", MODERN | {"rope_parameters": ROPE}),
}
HEADS: dict[str, type[EncoderModel]] = {
    "ForMaskedLM": MaskedLM,
    "ForSequenceClassification": Classifier,
    "ForTokenClassification": Tagger,
    "Model": Embedder,
}
TYPED = ("bert", "bert-relu", "bert-tanh-gelu", "bert-untied", "roberta-relu", "roberta-far-padding")
EVERY = [(name, head) for name in THEIRS for head in list(HEADS)[: 2 if "-" in name else 4]]
"""Variants of a family with two of the heads, each family itself with all."""
Reference = Callable[[str, str], tuple[Any, Path]]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A tiny model of transformers with random weights, and the folder it was saved to."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    made: dict[tuple[str, str], tuple[Any, Path]] = {}

    def get(name: str, head: str) -> tuple[Any, Path]:
        if (name, head) not in made:
            stem, fields = THEIRS[name]
            config = getattr(transformers, f"{stem}Config")(**fields)
            model = without_dead_weights(awake(getattr(transformers, stem + head)(config)))
            folder = tmp_path_factory.mktemp(f"{name}-{head}")
            model.save_pretrained(folder)
            made[name, head] = model, folder
        return made[name, head]

    return get


def without_dead_weights(model: Any) -> Any:
    """The same without random numbers where no output reads them."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith("embeddings") and module.__class__.__name__ == "RobertaEmbeddings":
                module.position_embeddings.weight[: module.padding_idx + 1] = 0  # rows before the first place
            if name in ("cls.predictions", "lm_head") and not model.config.tie_word_embeddings:
                module.bias.copy_(module.decoder.bias)
    return model


def some_ids() -> Tensor:
    return torch.randint(5, 61, (3, 20), generator=torch.Generator().manual_seed(3))


def expected(theirs: Any, head: str, types: Tensor | None = None) -> Tensor:
    """The scores of transformers, or hidden states, of texts padded on the right."""
    real = torch.arange(20) < LENGTHS[:, None]  # (B, T)
    ids, pad = some_ids(), theirs.config.pad_token_id or 0
    given = {} if types is None else {"token_type_ids": types}
    with torch.inference_mode():
        answer = theirs(ids.where(real, torch.tensor(pad)), attention_mask=real.long(), **given)
    return answer.last_hidden_state if head == "Model" else answer.logits


def answer(ours: EncoderModel, types: Tensor | None = None) -> Tensor:
    with torch.inference_mode():
        if isinstance(ours, Embedder):
            return ours.features(some_ids(), LENGTHS, types)
        return ours(some_ids(), LENGTHS, types=types)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    real = torch.arange(20) < LENGTHS[:, None]
    a, b = (ours, theirs) if ours.dim() == 2 else (ours[real], theirs[real])
    assert a.std() > 0.1, "answers that differ, so that equality says something"
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def edited(folder: Path, into: Path, **changes: object) -> Path:
    """A copy of a folder with some fields of its config.json changed, or taken out with `...`."""
    fields = json.loads((folder / "config.json").read_text()) | changes
    into.mkdir(exist_ok=True)
    (into / "config.json").write_text(json.dumps({name: value for name, value in fields.items() if value is not ...}))
    save_file(load_file(folder / "model.safetensors"), into / "model.safetensors")
    return into


def reweighted(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """The same folder with other weights."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    return folder


# In and out


@pytest.mark.parametrize(("name", "head"), EVERY)
def test_answers_equal_those_of_transformers(name: str, head: str, reference: Reference) -> None:
    theirs, folder = reference(name, head)
    ours = load_pretrained(folder, HEADS[head])
    assert_same(answer(ours), expected(theirs, head))
    if name in TYPED:
        types = (torch.arange(20) > 2).long().expand(3, 20)
        assert_same(answer(ours, types), expected(theirs, head, types))
    if isinstance(ours, Classifier | Tagger):
        assert ours.config.labels == tuple(LABELS.values())


@pytest.mark.parametrize(("name", "head"), [case for case in EVERY if case[0] != "roberta-far-padding"])
def test_an_export_is_the_file_that_transformers_would_write(
    name: str, head: str, reference: Reference, tmp_path: Path
) -> None:
    theirs, folder = reference(name, head)
    ours = load_pretrained(folder)
    export_pretrained(ours, tmp_path / "out", family=theirs.config.model_type)
    original, exported = (load_file(where / "model.safetensors") for where in (folder, tmp_path / "out"))
    assert original.keys() - exported.keys() <= {"pooler.dense.weight", "pooler.dense.bias"}
    assert exported.keys() <= original.keys()
    assert all(torch.equal(original[key], exported[key]) for key in exported)

    loaded, loading = type(theirs).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert set(loading["missing_keys"]) <= {"pooler.dense.weight", "pooler.dense.bias"}
    assert not loading["unexpected_keys"]
    assert not loading["mismatched_keys"]
    assert_same(expected(loaded, head), expected(theirs, head))
    if head.endswith("Classification"):
        assert loaded.config.id2label == LABELS
        assert loaded.config.label2id == {label: number for number, label in LABELS.items()}

    again = load_pretrained(tmp_path / "out")
    assert again.config == ours.config
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True))


def test_a_public_encoder_starts_a_model_for_another_task(reference: Reference) -> None:
    origin = load_pretrained(reference("bert", "ForMaskedLM")[1], MaskedLM)
    shape = {name: getattr(origin.config, name) for name in ("vocab_size", "context", "types", "core")}
    model = Classifier(ClassifierConfig(**shape, labels=("a", "b"))).eval()
    model.start_from(origin)
    assert_same(model.features(some_ids(), LENGTHS).detach(), origin.features(some_ids(), LENGTHS).detach())


# What a file says beside its numbers


def test_names_buffers_and_heads_of_old_files_do_not_stop_them(reference: Reference, tmp_path: Path) -> None:
    """As the first public files of BERT were saved: by pre-training, with gamma and beta, and tied tensors twice."""
    theirs, folder = reference("bert", "ForMaskedLM")

    def aged(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        old = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
            for name, tensor in weights.items()
        }
        old["bert.embeddings.position_ids"] = torch.arange(CONTEXT)[None]
        old["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"].clone()
        old["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"].clone()
        for part in ("bert.pooler.dense", "cls.seq_relationship"):
            old |= {f"{part}.weight": torch.ones(2, 32), f"{part}.bias": torch.ones(2)}
        return old

    old = edited(folder, tmp_path / "old", architectures=["BertForPreTraining"], gradient_checkpointing=False)
    assert_same(answer(load_pretrained(reweighted(old, aged), MaskedLM)), expected(theirs, "ForMaskedLM"))


def test_a_folder_without_architectures_holds_the_bare_model(reference: Reference, tmp_path: Path) -> None:
    theirs, folder = reference("roberta", "Model")
    ours = load_pretrained(edited(folder, tmp_path / "m", architectures=None), Embedder)
    assert (ours.config.pooling, ours.config.length) == ("mean", "free")
    assert_same(answer(ours), expected(theirs, "Model"))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("bert", {"classifier_dropout": 0.3, "directionality": "bidi", "pooler_type": "first_token_transform"}),
        ("bert", {"position_embedding_type": "absolute", "is_decoder": False, "num_labels": 3}),
        ("bert", {"problem_type": "single_label_classification", "is_causal": False}),
        ("distilbert", {"sinusoidal_pos_embds": True, "qa_dropout": 0.1, "tie_weights_": True}),
        ("modernbert", {"reference_compile": False, "layer_norm_eps": 1e-5, "sparse_prediction": True}),
    ],
)
def test_what_says_nothing_about_the_numbers_is_passed_over_without_a_word(
    name: str, fields: dict[str, Any], reference: Reference, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, folder = reference(name, "ForSequenceClassification")
    capsys.readouterr()
    ours = load_pretrained(edited(folder, tmp_path / "m", **fields))
    assert_same(answer(ours), expected(theirs, "ForSequenceClassification"))
    assert capsys.readouterr() == ("", "")


def test_labels_that_do_not_exclude_each_other_are_told(
    reference: Reference, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = reference("bert", "ForSequenceClassification")
    load_pretrained(edited(folder, tmp_path / "m", problem_type="multi_label_classification"))
    assert "problem_type = 'multi_label_classification'" in capsys.readouterr().err


def test_labels_without_names_are_numbered(reference: Reference, tmp_path: Path) -> None:
    _, folder = reference("bert", "ForTokenClassification")
    ours = load_pretrained(edited(folder, tmp_path / "m", id2label=..., label2id=..., num_labels=3), Tagger)
    assert ours.config.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


# Refused


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "bert",
            {"architectures": ["BertForQuestionAnswering"]},
            "architectures = .*QuestionAns.*BertForMaskedLM",
        ),
        ("bert", {"architectures": ["RobertaForMaskedLM"]}, "architectures = .*RobertaForMaskedLM"),
        ("bert", {"is_decoder": True}, "is_decoder = True"),
        ("bert", {"is_causal": True}, "is_causal = True"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
        ("bert", {"hidden_act": "silu"}, "hidden_act = 'silu'"),
        ("bert", {"id2label": {"0": "no", "2": "yes"}}, "id2label = .* must name 2 labels, from 0 on"),
        ("bert", {"id2label": {"0": "no", "1": "no", "2": "yes"}}, "labels hold 'no' twice"),
        ("bert", {"num_labels": 2}, "must name 2 labels"),
        ("bert", {"num_attention_heads": 5}, "n_heads = 5 must divide dim = 32"),
        ("roberta", {"max_position_embeddings": 2}, "context = 0"),
        ("distilbert", {"activation": "tanh"}, "activation = 'tanh'"),
        ("modernbert", {"norm_bias": True}, "attention_bias = False and mlp_bias = False and norm_bias = True"),
        ("modernbert", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling = "),
        ("modernbert", {"rope_parameters": {"global": {"rope_theta": 1.0}}}, "rope_parameters.global"),
        ("modernbert", {"classifier_pooling": "max"}, "classifier_pooling = 'max'"),
        ("modernbert", {"classifier_activation": "silu"}, "classifier_activation = 'silu'"),
    ],
)
def test_a_field_that_would_change_the_mathematics_is_refused_by_name(
    name: str, changes: dict[str, Any], message: str, reference: Reference, tmp_path: Path
) -> None:
    _, folder = reference(name, "ForSequenceClassification")
    with pytest.raises(ValueError, match=f"config.json: .*{message}"):
        load_pretrained(edited(folder, tmp_path / "m", **changes))


@pytest.mark.parametrize(
    ("head", "change", "message"),
    [
        ("ForMaskedLM", lambda w: w | {"cls.predictions.decoder.bias": torch.ones(61)}, "decoder.bias is not equal to"),
        ("ForMaskedLM", lambda w: w | {"cls.predictions.gate": torch.ones(1)}, "unknown cls.predictions.gate"),
        ("ForMaskedLM", lambda w: {k: t for k, t in w.items() if "transform" not in k}, "lack cls.predictions.tran"),
        ("ForSequenceClassification", lambda w: {k: t for k, t in w.items() if "pooler" not in k}, "lack bert.pooler"),
        ("ForTokenClassification", lambda w: w | {"classifier.weight": torch.ones(4, 32)}, r"the shape \(4, 32\)"),
        ("Model", lambda w: w | {"encoder.layer.2.output.dense.bias": torch.ones(32)}, "unknown encoder.layer.2"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    head: str, change: Any, message: str, reference: Reference, tmp_path: Path
) -> None:
    _, folder = reference("bert", head)
    with pytest.raises(ValueError, match=message):
        load_pretrained(reweighted(edited(folder, tmp_path / "m"), change))


# Models built here


def bert(**changes: Any) -> TransformerConfig:
    own = {
        **{"dim": 32, "depth": 2, "n_heads": 4, "norm_placement": "post", "embedding_norm": "layernorm"},
        **{"position": PositionConfig("learned"), "norm_eps": 1e-12},
    }
    return TransformerConfig(**own | changes)


def modern(**changes: Any) -> TransformerConfig:
    own = {
        **{"dim": 32, "depth": 3, "n_heads": 4, "feedforward": "geglu", "bias": "none"},
        **{"embedding_norm": "layernorm", "first_norm": "none", "window": 4, "window_layers": (1, 2)},
    }
    return TransformerConfig(**own | changes)


GELU = HeadConfig("dense-norm", "gelu", "output")
OURS: dict[str, EncoderConfig] = {
    "bert": MaskedLMConfig(61, CONTEXT, 2, bert()),
    "bert without biases or types": MaskedLMConfig(61, CONTEXT, 0, bert(bias="none")),
    "bert untied": MaskedLMConfig(61, CONTEXT, 0, bert(), output="untied"),
    "bert classifier": ClassifierConfig(61, CONTEXT, 2, bert(norm_eps=1e-5), ("a", "b", "c")),
    "bert tagger": TaggerConfig(61, CONTEXT, 0, bert(), ("a", "b", "c")),
    "bert embedder": EmbedderConfig(61, CONTEXT, 0, bert()),
    "distilbert classifier": ClassifierConfig(
        61, CONTEXT, 0, bert(), ("a", "b", "c"), head=HeadConfig("dense", "relu")
    ),
    "modernbert": MaskedLMConfig(61, CONTEXT, 0, modern(), head=GELU),
    "modernbert tagger": TaggerConfig(61, CONTEXT, 0, modern(), ("a", "b", "c"), head=GELU),
    "modernbert of means": ClassifierConfig(61, CONTEXT, 0, modern(), ("a", "b", "c"), pooling="mean", head=GELU),
}


@pytest.mark.parametrize("name", OURS)
def test_a_model_built_here_gives_the_same_answers_in_transformers(name: str, tmp_path: Path) -> None:
    import transformers

    config = OURS[name]
    model = awake(MODELS[type(config)](config))
    assert nearest_family(config) == name.split()[0]
    export_pretrained(model, tmp_path / "out")
    [architecture] = json.loads((tmp_path / "out" / "config.json").read_text())["architectures"]
    head = next(head for head in HEADS if architecture.endswith(head))
    theirs = getattr(transformers, architecture).from_pretrained(tmp_path / "out")
    assert_same(answer(model), expected(theirs, head))
    again = load_pretrained(tmp_path / "out", type(model))
    assert_same(answer(again), answer(model))


@pytest.mark.parametrize(
    ("family", "config", "message"),
    [
        ("bert", MaskedLMConfig(61, 48, 0, modern()), "core.position.kind = 'rotary' .* bert .*: learned"),
        ("bert", MaskedLMConfig(61, 48, 0, bert(norm="rmsnorm")), "core.norm = 'rmsnorm'"),
        ("bert", MaskedLMConfig(61, 48, 0, bert(head_dim=6)), "core.head_dim = 6"),
        ("bert", MaskedLMConfig(61, 48, 0, bert(), HeadConfig()), "head.transform = 'none' .*: dense-norm"),
        ("bert", MaskedLMConfig(61, 48, 0, bert(), HeadConfig("dense-norm", bias="none")), "head.bias = 'none'"),
        ("bert", ClassifierConfig(61, 48, 0, bert(), ("a", "b"), pooling="mean"), "pooling = 'mean' .*: class"),
        ("bert", ClassifierConfig(61, 48, 0, bert(), ("a", "b"), head=HeadConfig()), "head.transform = 'none'"),
        ("roberta", MaskedLMConfig(61, 48, 0, bert(), HeadConfig("dense-norm", "relu")), "head.activation = 'relu'"),
        ("distilbert", MaskedLMConfig(61, 48, 2, bert()), "types = 2 .* distilbert .*: 0"),
        ("distilbert", MaskedLMConfig(61, 48, 0, bert(norm_eps=1e-5)), "core.norm_eps = 1e-05"),
        ("modernbert", MaskedLMConfig(61, 48, 0, modern(first_norm="kept"), GELU), "core.first_norm = 'kept'"),
        ("modernbert", MaskedLMConfig(61, 48, 0, modern(bias="qkv"), GELU), "core.bias = 'qkv'"),
        ("modernbert", MaskedLMConfig(61, 48, 0, modern(), HeadConfig("dense-norm", "tanh")), "head.activation"),
        ("modernbert", ClassifierConfig(61, 48, 0, modern(), ("a", "b"), pooling="max", head=GELU), "pooling = 'max'"),
    ],
)  # fmt: skip
def test_what_a_family_cannot_express_is_refused_by_name(
    family: str, config: EncoderConfig, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        export_pretrained(MODELS[type(config)](config), tmp_path / "out", family)
    assert not list(tmp_path.iterdir()), "nothing half-written is left"
