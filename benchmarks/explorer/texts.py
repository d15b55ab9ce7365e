"""Text models for the page: a GPT, an encoder with a head, an encoder-decoder."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from benchmarks.explorer.described import SEED, TRIES, Described, weights_of
from benchmarks.explorer.stacks import describe_stack
from benchmarks.explorer.vocabularies import describe_tokenizer
from text.models.encoder import Classifier, EncoderModel, MaskedLM, Tagger
from text.models.encoder_decoder import Seq2Seq
from text.models.gpt import GPT
from text.tokens.base import Tokenizer, UnknownCharacterError
from text.trained import Trained

PROMPTS = ("ROMEO:\nBut soft, what light", "A man in a red shirt is", "The cat sat on the mat because it was")
SENTENCE = "A man in a red shirt is riding a bicycle down the street."
LENGTH = 24  # tokens of a random input


def describe_text(trained: Trained, prompt: str = "") -> Described:
    """A text model for the page, which begins with a prompt. Raises ValueError naming what the page does not know."""
    model, tokenizer = trained.model, trained.tokenizer
    if isinstance(model, GPT):
        said = describe_gpt(model)
    elif isinstance(model, Seq2Seq):
        return describe_seq2seq(model, tokenizer, prompt)
    elif isinstance(model, MaskedLM | Classifier | Tagger):
        return describe_encoder(model, tokenizer, prompt)
    else:
        raise ValueError(
            f"a {type(model).__name__} is not known to the page, which shows: GPT, MaskedLM, Classifier, Tagger, "
            "Seq2Seq, ViT, DecisionTransformer"
        )
    said |= {"tokenizer": describe_tokenizer(tokenizer), "prompt": prompt or fitting_prompt(tokenizer)}
    return Described("gpt", "text", said, weights_of(model), model, lambda: model(random_ids(model)))


def describe_gpt(model: GPT) -> dict[str, Any]:
    """The shape of a GPT."""
    config = model.config
    return {
        "shape": {"context": config.context, "logit_softcap": config.logit_softcap},
        "stacks": {"core": describe_stack(model.core, config.context, "causal")},
    }


def describe_encoder(model: MaskedLM | Classifier | Tagger, tokenizer: Tokenizer, prompt: str) -> Described:
    """An encoder that fills in, classifies or tags."""
    config = model.config
    if isinstance(model, Tagger) and model.config.words == "early-mean":
        raise ValueError("words = 'early-mean' is not known to the page: it reads a tagger of tokens, words = 'first'")
    said = {
        "shape": {
            "context": config.context,
            "neighbours": config.neighbours,
            "head": asdict(config.head),
            "pooling": model.config.pooling if isinstance(model, Classifier) else None,
            "labels": list(getattr(config, "labels", ())),
            "answers": "tokens" if isinstance(model, MaskedLM) else "labels",
        },
        "stacks": {"core": describe_stack(model.encoder.core, config.context, "full", "encoder")},
        "tokenizer": describe_tokenizer(tokenizer),
        "prompt": prompt or fitting_prompt(tokenizer, SENTENCE),
    }
    return Described("encoder", "text", said, weights_of(model), model, lambda: model(random_ids(model)))


def describe_seq2seq(model: Seq2Seq, tokenizer: Tokenizer, prompt: str) -> Described:
    """An encoder-decoder; the page writes its target token by token, the most probable one each time."""
    config = model.config
    said = {
        "shape": {
            "context": config.context,
            "start": config.start,
            "eos": config.eos,
            "undecoded": sorted(model.undecoded),
            "embeddingScale": model.embedding_scale,
            "headScale": model.head.scale,
        },
        "stacks": {
            "encoder": describe_stack(model.encoder, config.context, "full", "encoder"),
            "decoder": describe_stack(model.decoder, config.context, "causal"),
        },
        "tokenizer": describe_tokenizer(tokenizer),
        "prompt": prompt or fitting_prompt(tokenizer, SENTENCE),
    }
    source = random_ids(model)
    return Described("seq2seq", "text", said, weights_of(model), model, lambda: model(source, None, source.flip(0)))


def random_ids(model: GPT | EncoderModel | Seq2Seq, rows: int = TRIES, seed: int = SEED) -> Tensor:
    """Random inputs, int64 (rows, T)."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (rows, min(LENGTH, config.context)), generator=generator)


def fitting_prompt(tokenizer: Tokenizer, *first: str) -> str:
    """A prompt that a vocabulary can express: a usual one, or the first pieces of the vocabulary."""
    for prompt in (*first, *PROMPTS):
        try:
            tokenizer.encode(prompt)
        except UnknownCharacterError:
            continue
        return prompt
    return tokenizer.decode(range(min(12, tokenizer.vocab_size)))
