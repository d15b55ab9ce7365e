"""The text commands on a tiny model and a small text."""

from __future__ import annotations

from tests.processes import Command

TINY = (
    *("char-cpu", "--model.core.dim", "32", "--model.core.depth", "1", "--model.core.n_heads", "2"),
    *("--model.context", "16", "--batch-size", "4", "--precision", "fp32", "--device", "cpu"),
    *("--optimizer.kind", "muon", "--optimizer.muon-precision", "fp32", "--log-every", "1", "--sample", "0"),
)
"""`text.train` on a model of 20 thousand parameters; a step takes some milliseconds."""


def written(command: Command, *arguments: object) -> str:
    """What `text.sample` writes."""
    code, out, err = command("sample", *arguments)
    assert (code, err) == (0, [])
    return out


def prose(sentences: int = 400) -> str:
    """A text that is the same everywhere: sentences made by a rule, easy to get better at."""
    things, does = ("king", "sea", "child", "lamp", "winter"), ("sees", "holds", "keeps", "fears")
    return "".join(
        f"The {things[n * n % 5]} {does[n * 7 % 4]} the {things[n // 3 % 5]}, and {n % 10} went by.\n"
        for n in range(sentences)
    )
