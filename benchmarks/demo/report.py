"""A run as one page: data, time, figures, curve and the thing itself, in a file that needs nothing else.

Everything is embedded, so the page can be mailed, kept, or read on a phone without a network. Whatever was
generated or read from a file is escaped here and nowhere else.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from benchmarks.demo.chart import Chart, Curve, draw
from core.files.atomic import write_text

IDEA = "One Transformer, three panels: text, images and trajectories become tokens, and one core reads them."
STYLE = Path(__file__).with_name("report.css")
MARK = (
    '<svg class="mark" viewBox="0 0 72 48" aria-hidden="true">'
    '<rect x="0" y="8" width="18" height="40" fill="var(--text)"/>'
    '<rect x="22" y="0" width="28" height="48" fill="var(--vision)"/>'
    '<rect x="54" y="8" width="18" height="40" fill="var(--decision)"/></svg>'
)
FOOTER = "<footer>Written by <code>make demo</code>. Every figure was measured in this run.</footer>"
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


# ---------------------------------------------------------------------------------------------- what is shown


@dataclass(frozen=True)
class Text:
    """A passage, set with its white space. `prompt` is what a generated passage was given to go on from."""

    caption: str
    body: str
    prompt: str = ""
    kind: Literal["source", "written"] = "source"
    face: Literal["prose", "code"] = "prose"

    def html(self) -> str:
        lead = f'<span class="prompt">{visible(self.prompt)}</span>' if self.prompt else ""
        passage = f'<blockquote tabindex="0">{lead}{visible(self.body)}</blockquote>'
        return _specimen(f"{self.kind} {self.face}", self.caption, passage)


@dataclass(frozen=True)
class Picture:
    """An image, embedded. `kind` is its media type after "image/": png, gif, webp, jpeg."""

    caption: str
    data: bytes
    alt: str
    kind: Literal["png", "gif", "webp", "jpeg"] = "png"

    def html(self) -> str:
        source = f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode()}"
        return _specimen("picture", self.caption, f'<img src="{source}" alt="{visible(self.alt)}">')


@dataclass(frozen=True)
class Gallery:
    """Small images, each a PNG with a line of text below it, over the whole width; few pixels stay squares."""

    caption: str
    items: Sequence[tuple[bytes, str]]

    def html(self) -> str:
        tiles = [
            f'<li><img src="data:image/png;base64,{base64.b64encode(data).decode()}" alt="">{visible(text)}</li>'
            for data, text in self.items
        ]
        return _specimen("gallery", self.caption, f"<ul>{''.join(tiles)}</ul>")


@dataclass(frozen=True)
class Matrix:
    """Counts by two kinds of the same names: rows are what is so, columns what was said; shaded by share of a row."""

    caption: str
    names: Sequence[str]
    counts: Sequence[Sequence[int]]

    def html(self) -> str:
        heads = "".join(f"<th><span>{visible(name)}</span></th>" for name in self.names)
        rows = zip(self.names, self.counts, strict=True)
        body = "".join(f"<tr><th>{visible(name)}</th>{_shaded(counts)}</tr>" for name, counts in rows)
        return _specimen("matrix", self.caption, f"<table><tr><th></th>{heads}</tr>{body}</table>")


def _shaded(counts: Sequence[int]) -> str:
    shares = [(count, count / max(1, sum(counts))) for count in counts]
    return "".join(
        f'<td{" class=much" if share > 0.5 else ""} style="--shade:{100 * share**0.5:.0f}%">{count or ""}</td>'
        for count, share in shares
    )


def _specimen(look: str, caption: str, inner: str) -> str:
    return f'<div class="specimen {look}"><h3>{visible(caption)}</h3>{inner}</div>'


@dataclass(frozen=True)
class Panel:
    """One panel's part of the page.

    name: "text", "vision" or "decision"; picks the accent colour. summary: one or two sentences.
    figures: (what, value) with the most telling one first. facts: (what, value): data, size, model, time.
    specimens: the thing itself, beside what it learned from. commands: how to go on from here.
    seconds: wall time of the whole panel, training and evaluation.
    """

    name: Literal["text", "vision", "decision"]
    title: str
    summary: str
    figures: Sequence[tuple[str, str]]
    facts: Sequence[tuple[str, str]]
    chart: Chart
    specimens: Sequence[Text | Picture | Gallery | Matrix]
    commands: Sequence[str]
    seconds: float


# ---------------------------------------------------------------------------------------------- the page


def write(panels: Sequence[Panel], provenance: Mapping[str, Any], path: Path) -> Path:
    """Write the page to `path` in one move: an older page stays until the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page(panels, provenance))
    return path


def page(panels: Sequence[Panel], provenance: Mapping[str, Any]) -> str:
    """The whole page as one string of HTML."""
    body = "".join(section(panel) for panel in panels)
    seconds = sum(panel.seconds for panel in panels)
    style = STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Triptych: demo report</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{_header(provenance, seconds)}\n<main>{body}</main>\n{FOOTER}\n</body>\n</html>\n"
    )


def section(panel: Panel) -> str:
    """The part of one panel."""
    rows = "".join(f"<tr><th>{visible(a)}</th><td>{visible(b)}</td></tr>" for a, b in panel.facts)
    commands = visible("\n".join(panel.commands))
    shown = "".join(specimen.html() for specimen in panel.specimens)
    return (
        f'<section class="panel {panel.name}"><h2>{visible(panel.title)}</h2>'
        f'<p class="summary">{visible(panel.summary)}</p>{_figures(panel.figures)}'
        f'<div class="pair measured">{draw(panel.chart)}<div><table>{rows}</table></div></div>'
        f'<div class="pair shown">{shown}</div>'
        f'<div class="commands"><h3>Go on from here</h3><pre>{commands}</pre></div>'
        "</section>"
    )


def _figures(figures: Sequence[tuple[str, str]]) -> str:
    items = [
        f"<div{' class=first' if index == 0 else ''}><dt>{visible(what)}</dt><dd>{visible(value)}</dd></div>"
        for index, (what, value) in enumerate(figures)
    ]
    return f'<dl class="figures">{"".join(items)}</dl>'


def _header(provenance: Mapping[str, Any], seconds: float) -> str:
    machine, versions = provenance["machine"], provenance["versions"]
    memory = f"{machine['memory_bytes'] / 2**30:.0f}\N{NO-BREAK SPACE}GiB"
    where = f"{machine['cpu']}, {machine['cores']} cores, {memory}"
    record = {
        "Time in all": duration(seconds),
        "Machine": ", ".join([where, *machine["gpus"]]),
        "Versions": f"Python {versions['python']}, PyTorch {versions.get('torch', 'unknown')}",
        "Commit": provenance["commit"] or "unknown",
        "Date": provenance["date"].replace("T", " ").replace("+00:00", " UTC"),
    }
    items = "".join(f"<div><dt>{a}</dt><dd>{visible(b)}</dd></div>" for a, b in record.items())
    head = f'{MARK}<h1>Triptych</h1><p class="idea">{IDEA}</p>'
    return f'<header>{head}<dl class="record">{items}</dl></header>'


# ---------------------------------------------------------------------------------------------- small parts


def visible(text: str) -> str:
    """Escaped for HTML; what HTML cannot hold (control characters, lone surrogates) becomes U+FFFD."""
    return escape(UNPRINTABLE.sub("\ufffd", text))


def duration(seconds: float) -> str:
    """4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float, unit: str) -> str:
    """A count with its unit, in powers of a thousand: 804 thousand parameters, 1.12 million characters."""
    for scale in ("", "thousand ", "million "):
        if abs(count) < 999.5:
            return f"{count:.3g} {scale}{unit}"
        count /= 1000
    return f"{count:.3g} billion {unit}"


def curve(
    records: Sequence[Mapping[str, Any]], metric: str, name: str, style: Literal["main", "faint"] = "main"
) -> Curve:
    """A metric over steps, from the records that hold it."""
    points = [(record["step"], record[metric]) for record in records if record.get(metric) is not None]
    return Curve(name, tuple(points), style)
