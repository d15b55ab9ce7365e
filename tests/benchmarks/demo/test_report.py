"""The page stands alone, escapes whatever was generated, and draws what was measured where it belongs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.demo.chart import Chart, Curve, draw, finite
from benchmarks.demo.report import Gallery, Matrix, Panel, Picture, Text, curve, duration, page, size, visible, write
from benchmarks.measure.record import provenance
from core.training.metrics import read_metrics

HOSTILE = '<script>alert("x")</script> & </blockquote><img src=x onerror=y> \x00\x1b[31m\ud800'
VOID = {"meta", "img"}
RECORDS = [
    {"step": 0, "seconds": 0.0, "train/loss": 4.2, "val/loss": 4.1},
    {"step": 10, "seconds": 1.0, "train/loss": 3.0},
    {"step": 20, "seconds": 2.0, "train/loss": 2.5, "val/loss": 2.6},
    {"step": 30, "seconds": 3.0, "train/loss": None, "val/loss": 2.0},
]


class Tags(HTMLParser):
    """Every element with its attributes, refusing one that is closed out of turn or never."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small run folder, its last line cut off as by a crash."""
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS)
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 40, "tra')
    return tmp_path


def panel(folder: Path) -> Panel:
    records = read_metrics(folder)
    curves = (
        curve(records, "train/loss", "training", "faint"),
        curve(records, "val/loss", "validation"),
    )
    return Panel(
        name="text",
        title="Text & more",
        summary="It reads.",
        figures=[("validation loss", "2.000")],
        facts=[("Data", "a <small> corpus")],
        chart=Chart("step", "loss, nats", curves, "log", ((1.9, "a <level>"),)),
        specimens=[Text("source", "To be"), Text("written", HOSTILE, prompt="A <b>:", kind="written")],
        commands=['python -m text.sample DIR --prompt "A"'],
        seconds=3.25,
    )


def test_the_page_is_well_formed_and_needs_nothing_from_outside(folder: Path) -> None:
    html = page([panel(folder), replace(panel(folder), name="vision")], provenance())
    tags = Tags(html)
    names = {tag for tag, _ in tags.elements}
    assert not names & {"script", "link", "iframe", "object"}
    loaded = [a[key] for _, a in tags.elements for key in ("src", "href", "srcset") if key in a]
    assert all(value and value.startswith("data:") for value in loaded)
    assert not re.search(r"url\((?!#)|@import|https?://", html)


def test_the_page_fits_a_phone_and_the_dark(folder: Path) -> None:
    html = page([panel(folder)], provenance())
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "prefers-color-scheme: dark" in html


def test_generated_text_is_shown_and_never_interpreted(folder: Path) -> None:
    tags = Tags(page([panel(folder)], provenance()))
    assert not {"script", "img"} & {tag for tag, _ in tags.elements}
    shown = "".join(tags.text)
    assert '<script>alert("x")</script> & </blockquote><img src=x onerror=y>' in shown
    for literal in ("A <b>:", "a <small> corpus", "a <level>", "Text & more", '--prompt "A"'):
        assert literal in shown


def test_what_html_cannot_hold_is_replaced_and_the_rest_kept() -> None:
    assert visible("\x00\x1b\r\x85\ud800") == "\ufffd" * 5
    assert visible("tab\t, line\n, é, 中, 😀") == "tab\t, line\n, é, 中, 😀"


def test_an_older_page_is_replaced_by_a_whole_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "deeper" / "report.html"
    write([panel(folder)], provenance(), path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write([replace(panel(folder), title="new")], provenance(), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_pictures_are_embedded() -> None:
    ((_, attributes),) = [e for e in Tags(Picture("a", b"\x89PNG", 'b"c').html()).elements if e[0] == "img"]
    assert attributes == {"src": "data:image/png;base64,iVBORw==", "alt": 'b"c'}


def test_a_gallery_embeds_every_image_with_its_line_of_text() -> None:
    tags = Tags(Gallery("mistakes", [(b"\x89PNG", "cat → <dog> 98%"), (b"\x89PNG2", "b")]).html())
    assert [a["src"] for tag, a in tags.elements if tag == "img"] == [
        "data:image/png;base64,iVBORw==",
        "data:image/png;base64,iVBORzI=",
    ]
    assert tags.text == ["mistakes", "cat → <dog> 98%", "b"]


def test_a_matrix_is_shaded_by_the_share_of_a_row() -> None:
    tags = Tags(Matrix("confusions", ["<a>", "b"], [[9, 0], [3, 1]]).html())
    cells = [attributes for tag, attributes in tags.elements if tag == "td"]
    assert [cell["style"] for cell in cells] == ["--shade:100%", "--shade:0%", "--shade:87%", "--shade:50%"]
    assert ["class" in cell for cell in cells] == [True, False, True, False]
    assert tags.text == ["confusions", "<a>", "b", "<a>", "9", "b", "3", "1"]
    assert "--shade:0%" in Matrix("a class without images", ["a"], [[0]]).html()


def test_a_curve_holds_the_records_that_have_its_metric() -> None:
    assert curve(RECORDS, "val/loss", "v").points == ((0, 4.1), (20, 2.6), (30, 2.0))


def test_a_chart_takes_the_pages_colours_in_the_light_and_in_the_dark() -> None:
    html = draw(Chart("step", "loss", (Curve("v", ((0, 1.0), (10, 3.0))), Curve("t", ((0, 2.0),), "faint"))))
    assert {"var(--accent)", "var(--soft)", "var(--rule)"} <= {*re.findall(r"var\(--\w+\)", html)}
    assert not re.findall(r"#[0-9a-f]{6}\b", html)
    assert "<text" in html, "letters stay letters"


@pytest.mark.parametrize(("scale", "kept"), [("linear", (0, 5, 10)), ("log", (5, 10))])
def test_a_curve_keeps_the_points_that_its_scale_has(scale, kept: tuple[int, ...]) -> None:
    curve = Curve("v", ((10, 3.0), (0, -1.0), (5, 2.0), (7, float("nan"))))
    assert tuple(x for x, _ in finite(curve, scale).points) == kept


@pytest.mark.parametrize("points", [(), ((0, float("nan")),)])
def test_a_chart_without_values_says_so(points: tuple) -> None:
    assert "Nothing was measured" in draw(Chart("step", "loss", (Curve("v", points),)))


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("value", [1e-9, 1.0, 2.345e8])
def test_one_value_alone_still_makes_a_chart(scale, value: float) -> None:
    Tags(draw(Chart("step", "loss", (Curve("v", ((0, value),)),), scale)))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (4.24, "4.2 s"),
        (59.97, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_read_as_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(999, "999 units"), (804_096, "804 thousand units"), (9.999e5, "1 million units"), (2.5e9, "2.5 billion units")],
)
def test_sizes_read_as_words(count: float, words: str) -> None:
    assert size(count, "units") == words
