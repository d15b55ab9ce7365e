"""Encoders: what is asked of a text depends on neither padding nor the rest of its batch, whatever the head."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.files.serialize import from_dict, to_dict
from core.optim.groups import parameter_roles
from tests.core.helpers import POSITIONS, awake, shape
from text.models.encoder import (
    MODELS,
    Classifier,
    ClassifierConfig,
    Embedder,
    EmbedderConfig,
    Encoder,
    EncoderConfig,
    EncoderModel,
    MaskedLM,
    MaskedLMConfig,
    Tagger,
    TaggerConfig,
)
from text.models.heads import HeadConfig, embed_words, pool, pool_words

LABELS = ("no", "perhaps", "yes")
LENGTHS = torch.tensor([9, 4, 1])
OWN: dict[type[EncoderConfig], dict[str, Any]] = {
    MaskedLMConfig: {},
    ClassifierConfig: {"labels": LABELS, "pooling": "mean"},
    TaggerConfig: {"labels": LABELS, "head": HeadConfig("dense-norm", "gelu", "output")},
    EmbedderConfig: {"length": "unit"},
}
KINDS = pytest.mark.parametrize("kind", OWN, ids=lambda kind: MODELS[kind].__name__)


def build(kind: type[EncoderConfig], position: str = "learned", types: int = 2, **changes: Any) -> EncoderModel:
    core = shape(position, direction="both", **changes)
    return awake(MODELS[kind](kind(vocab_size=11, context=12, types=types, core=core, **OWN[kind])))


def ids(batch: int = 3, length: int = 9) -> Tensor:
    return torch.randint(0, 11, (batch, length), generator=torch.Generator().manual_seed(5))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def exact(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def of_tokens(answer: Tensor, length: int) -> Tensor:
    """Of a row of answers those of its real tokens, if it has one for each."""
    return answer if answer.dim() == 1 else answer[:length]


# Padding and batches


@KINDS
@pytest.mark.parametrize("position", POSITIONS)
def test_no_answer_depends_on_padding_or_on_the_batch(kind: type[EncoderConfig], position: str) -> None:
    model, texts = build(kind, position).double(), ids()
    together = model(texts, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        exact(of_tokens(together[row], length), model(texts[row : row + 1, :length])[0])
    order = torch.tensor([2, 0, 1])
    exact(model(texts[order], LENGTHS[order]), together[order])
    exact(of_tokens(model(F.pad(texts, (0, 3), value=7), LENGTHS)[0], 9), together[0])


@KINDS
def test_the_same_holds_within_windows_and_for_both_types_of_tokens(kind: type[EncoderConfig]) -> None:
    model, texts = build(kind, "rotary", window=3, window_layers=(1,)).double(), ids()
    types = (torch.arange(9) > 2).long().expand(3, 9)
    together = model(texts, LENGTHS, types=types)
    exact(of_tokens(together[1], 4), model(texts[1:2, :4], types=types[1:2, :4])[0])
    assert not torch.allclose(model(texts, LENGTHS), together)


@pytest.mark.parametrize("position", ["learned", "rotary"])
def test_vectors_of_texts_are_the_same_to_a_millionth_in_single_precision(position: str) -> None:
    core = shape(position, direction="both", dim=128, depth=4, n_heads=4)
    model = awake(Embedder(EmbedderConfig(11, 64, core=core, length="unit")))
    texts, lengths = ids(16, 64), torch.arange(4, 65, 4)
    together = model(texts, lengths)
    for row, length in enumerate(lengths.tolist()):
        close(together[row], model(texts[row : row + 1, :length])[0])


def test_every_token_informs_every_other() -> None:
    encoder, texts = build(EmbedderConfig).encoder, ids(1)
    before = encoder(texts)
    for place in range(9):
        changed = texts.clone()
        changed[0, place] = (changed[0, place] + 1) % 11
        assert not torch.isclose(encoder(changed), before).all(-1).any(), place


# Heads


def test_only_the_places_asked_for_are_compared_with_the_vocabulary() -> None:
    model, texts, places = build(MaskedLMConfig), ids(), torch.tensor([1, 9 + 3, 18, 5])
    assert isinstance(model, MaskedLM)
    seen: list[torch.Size] = []
    model.head.register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    everywhere, some = model(texts, LENGTHS), model(texts, LENGTHS, places)
    assert seen == [(3, 9, 32), (4, 32)]
    close(some, everywhere.flatten(0, 1)[places])


def test_a_tied_output_is_the_embedding_with_a_bias() -> None:
    model = build(MaskedLMConfig)
    assert isinstance(model, MaskedLM)
    assert model.head.out.weight is model.encoder.embed.weight
    assert model.head.out.bias.shape == (11,)
    twin = copy.deepcopy(model)
    assert twin.head.out.weight is twin.encoder.embed.weight
    untied = MaskedLM(MaskedLMConfig(11, 12, 2, shape("learned"), output="untied"))
    assert sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in model.parameters()) == 11 * 32


@pytest.mark.parametrize("transform", ["none", "dense", "dense-norm"])
@pytest.mark.parametrize("bias", ["all", "output", "transform", "none"])
def test_a_head_is_what_its_configuration_says(transform: Any, bias: Any) -> None:
    head = HeadConfig(transform, "gelu" if transform == "none" else "tanh", bias)
    model = awake(Classifier(ClassifierConfig(11, 12, core=shape("learned"), labels=LABELS, head=head)))
    parts = dict(model.head.named_parameters())
    x = expected = torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
    if transform != "none":
        expected = torch.tanh(F.linear(x, parts["transform.dense.weight"], parts.get("transform.dense.bias")))
    if transform == "dense-norm":
        expected = F.layer_norm(expected, (32,), parts["transform.norm.weight"], parts["transform.norm.bias"])
    torch.testing.assert_close(model.head(x), F.linear(expected, parts["out.weight"], parts.get("out.bias")))
    assert ("out.bias" in parts) == (bias in ("all", "output"))
    assert ("transform.dense.bias" in parts) == (transform != "none" and bias in ("all", "transform"))


@pytest.mark.parametrize("pooling", ["class", "mean", "max"])
def test_pooling_sees_real_tokens_alone(pooling: Any) -> None:
    features = torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(2))
    poisoned = features.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        poisoned[row, length:] = torch.nan
    reduce = {"class": lambda x: x[0], "mean": lambda x: x.mean(0), "max": lambda x: x.amax(0)}[pooling]
    expected = torch.stack([reduce(row[:n]) for row, n in zip(features, LENGTHS.tolist(), strict=True)])
    close(pool(poisoned, LENGTHS, pooling), expected)
    close(pool(features[:1], None, pooling), expected[:1])
    if pooling != "class":
        assert not pool(features, torch.tensor([9, 0, 1]), pooling)[1].any(), "a text of nothing"


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_words_are_pooled_from_their_own_tokens(pooling: Any) -> None:
    features = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(3))
    words = torch.tensor([[-1, 0, 0, 1, 2, -1], [-1, 0, 1, 1, 1, -1]])
    pooled = pool_words(features, words, pooling)
    spans = [[(1, 3), (3, 4), (4, 5)], [(1, 2), (2, 5)]]
    for row, of_row in enumerate(spans):
        for word, (start, stop) in enumerate(of_row):
            own = features[row, start:stop]
            close(pooled[row, word], own[0] if pooling == "first" else own.mean(0))
    assert pooled.shape == (2, 3, 5)
    assert not pooled[1, 2].any()
    close(pool_words(features, words, pooling, count=4)[:, :3], pooled)


@pytest.mark.parametrize("count", [None, 2, 5])
def test_embeddings_of_words_are_those_of_their_tokens_pooled(count: int | None) -> None:
    table, words = nn.Embedding(11, 5), torch.tensor([[-1, 0, 0, 1, 3, -1], [2, 0, -1, 1, 1, -1], [-1] * 6])
    texts = ids(3, 6)
    found, expected = embed_words(table, texts, words, count), pool_words(table(texts), words, "mean", count)
    close(found, expected)
    g = torch.randn(found.shape, generator=torch.Generator().manual_seed(4))
    close(*(torch.autograd.grad(x, table.weight, g)[0] for x in (found, expected)))


def test_a_tagger_labels_words_as_the_tokens_that_stand_for_them() -> None:
    model, texts = build(TaggerConfig), ids(2)
    words = torch.tensor([[0, 0, 1, 2, 2, 2, 3, 4, 4], [0, 1, 2, 2, 2, -1, -1, -1, -1]])
    lengths = torch.tensor([9, 5])
    tokens, of_words = model(texts, lengths), model(texts, lengths, words)
    close(of_words[0], tokens[0, [0, 2, 3, 6, 7]])
    close(of_words[1, :3], tokens[1, [0, 1, 2]])


def test_words_that_enter_the_core_of_a_classifier_do_not_depend_on_padding_or_on_the_batch() -> None:
    shape_of_words = ClassifierConfig(11, 12, core=shape("rotary", direction="both"), labels=LABELS, words="early-mean")
    model = awake(Classifier(replace(shape_of_words, pooling="mean"))).double()
    texts, lengths = ids(), torch.tensor([9, 5, 1])
    words = torch.tensor([[0, 0, 1, 2, 2, 2, 3, 4, 4], [0, 1, 2, 2, 2, -1, -1, -1, -1], [0] + [-1] * 8])
    together = model(texts, lengths, words)
    for row, length in enumerate(lengths.tolist()):
        exact(model(texts[row : row + 1, :length], None, words[row : row + 1, :length])[0], together[row])
    turned = texts.clone()
    turned[0, 3:6] = texts[0, [5, 3, 4]]
    exact(model(turned, lengths, words), together)  # the order of a word's tokens says nothing
    with pytest.raises(ValueError, match="needs the word of each token"):
        model(texts, lengths)
    with pytest.raises(ValueError, match="have no types = 2"):
        replace(shape_of_words, types=2)


def test_vectors_have_unit_length_where_asked() -> None:
    unit, free = build(EmbedderConfig), awake(Embedder(EmbedderConfig(11, 12, 2, shape("learned"))))
    close(unit(ids()).norm(dim=-1), torch.ones(3))
    free.load_state_dict(unit.state_dict())
    close(F.normalize(free(ids()), dim=-1), unit(ids()))


# From one task to another


@KINDS
def test_a_model_starts_from_the_encoder_of_another_task(kind: type[EncoderConfig]) -> None:
    origin = build(MaskedLMConfig)
    model = awake(MODELS[kind](kind(11, 7, 2, shape("learned"), **OWN[kind])), seed=9)
    model.start_from(origin)
    close(model.features(ids()[:, :7]), origin.features(ids()[:, :7]))
    if isinstance(model, MaskedLM):
        assert model.head.out.weight is model.encoder.embed.weight


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EmbedderConfig(12, 12, 2, shape("learned")), r"embed.weight has the shape \(11, 32\).*\(12, 32\)"),
        (EmbedderConfig(11, 13, 2, shape("learned")), r"tables.0.weight has the shape \(12, 32\).*\(13, 32\)"),
        (EmbedderConfig(11, 12, 0, shape("learned")), "unknown types.weight"),
        (EmbedderConfig(11, 12, 2, shape("learned", depth=3)), "lack core.blocks.2"),
    ],
)
def test_an_encoder_of_another_shape_is_refused_by_name(config: EmbedderConfig, message: str) -> None:
    with pytest.raises(ValueError, match=f"to start from another model: .*{message}"):
        Embedder(config).start_from(build(MaskedLMConfig))


# What all models promise


@KINDS
def test_a_model_comes_back_from_its_configuration_and_weights(kind: type[EncoderConfig]) -> None:
    model = build(kind, "t5")
    again = MODELS[kind](from_dict(kind, to_dict(model.config))).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(ids(), LENGTHS), model(ids(), LENGTHS))


@KINDS
def test_every_parameter_has_its_place_by_depth(kind: type[EncoderConfig]) -> None:
    roles = parameter_roles(build(kind))
    layer = {name: role.layer for name, role in roles.items()}
    assert layer["encoder.types.weight"] == layer["encoder.core.position.tables.0.weight"] == 0
    assert layer["encoder.core.blocks.1.feedforward.branch.up.weight"] == 2
    assert {layer[name] for name in layer if name.startswith("head")} <= {3}
    matrices = {name for name, role in roles.items() if role.matrices}
    assert matrices == {name for name in roles if ".branch." in name and name.endswith("weight")}


@pytest.mark.parametrize("kind", [MaskedLMConfig, EmbedderConfig])
def test_the_whole_compiles_as_one_graph(kind: type[EncoderConfig]) -> None:
    model = build(kind, "rotary", depth=1)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    close(compiled(ids(), LENGTHS), model(ids(), LENGTHS))


def test_a_masked_model_learns_what_was_there() -> None:
    model = MaskedLM(MaskedLMConfig(11, 12, core=shape("learned")))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    texts, places = ids(4), torch.tensor([3, 9 + 1, 18 + 7, 27 + 4])
    truth, masked = texts.flatten()[places], texts.flatten().index_fill(0, places, 10).view(4, 9)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(masked, None, places), truth)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2  # 0.01 over seeds 0-2; 2.4 untrained


# Refused


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: EncoderConfig(context=0), "context = 0 must be above 0"),
        (lambda: EncoderConfig(types=-1), "types = -1 must be at least 0"),
        (lambda: MaskedLM(MaskedLMConfig()), "vocab_size = 0"),
        (lambda: MaskedLMConfig(output="shared"), "output = 'shared' is not one of: tied, untied"),
        (lambda: Classifier(ClassifierConfig(11)), r"labels = \(\)"),
        (lambda: ClassifierConfig(11, pooling="last"), "pooling = 'last'"),
        (lambda: TaggerConfig(11, labels=("a", "b", "a")), "labels hold 'a' twice"),
        (lambda: EmbedderConfig(11, 12, max_tokens=13), "max_tokens = 13 must be at most the context of 12"),
        (lambda: HeadConfig(activation="tanh"), "activation = 'tanh' has no effect"),
        (lambda: HeadConfig("dense-norm", "silu"), "activation = 'silu'"),
        (lambda: build(EmbedderConfig)(ids(1, 13)), "13 tokens are more than the context of 12"),
        (lambda: build(EmbedderConfig, types=0)(ids(), None, ids()), "types = 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_an_encoder_and_a_tagger_are_what_their_names_say() -> None:
    model = build(TaggerConfig)
    assert isinstance(model, Tagger)
    assert isinstance(model.encoder, Encoder)
    assert {name for name, _ in model.named_children()} == {"encoder", "head"}
