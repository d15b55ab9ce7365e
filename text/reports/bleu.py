"""BLEU by sacrebleu, in the two conventions that are in use; they must never be mixed."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

LENGTHS = (8, 12, 16, 20)  # words of a source, up to which it counts to a group


class Bleu(NamedTuple):
    """BLEU of a text (Papineni 2002), in percent, and how it was computed."""

    score: float
    signature: str


def cased(hypotheses: Sequence[str], references: Sequence[str]) -> Bleu:
    """Of text as it is written, tokenised by 13a: how systems are compared today (Post 2018)."""
    return _bleu(hypotheses, references)


def lower_cased(hypotheses: Sequence[str], references: Sequence[str], language: str) -> Bleu:
    """Of lower-cased text, tokenised by Moses' rules for the language: how papers score Multi30k; the higher figure."""
    sides = ([_tokenised(text, language) for text in texts] for texts in (hypotheses, references))
    found = _bleu(*sides, tokenize="none", lowercase=True)
    return found._replace(signature=found.signature.replace("tok:none", "tok:moses"))


def by_length(sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Cased BLEU of sentences whose sources have up to 8 words, 9 to 12, ...; of groups that are there."""
    groups: dict[str, list[int]] = {}
    for place, source in enumerate(sources):
        words = len(source.split())
        last = next((most for most in LENGTHS if words <= most), None)
        groups.setdefault(f"over_{LENGTHS[-1]}_words" if last is None else f"up_to_{last}_words", []).append(place)
    names = [*(f"up_to_{most}_words" for most in LENGTHS), f"over_{LENGTHS[-1]}_words"]
    return {
        name: cased([hypotheses[i] for i in groups[name]], [references[i] for i in groups[name]]).score
        for name in names
        if name in groups
    }


def _bleu(hypotheses: Sequence[str], references: Sequence[str], **settings: Any) -> Bleu:
    from sacrebleu.metrics import BLEU

    metric = BLEU(**settings, force=True)
    score = metric.corpus_score([*hypotheses], [[*references]])
    return Bleu(score.score, str(metric.get_signature()))


def _tokenised(text: str, language: str) -> str:
    tokens: str = _moses(language)(text.lower(), return_str=True, escape=False)
    return tokens


@cache
def _moses(language: str) -> Any:
    from sacremoses import MosesPunctNormalizer, MosesTokenizer

    normalise, tokenizer = MosesPunctNormalizer(language), MosesTokenizer(language or "en")
    return lambda text, **settings: tokenizer.tokenize(normalise.normalize(text), **settings)
