"""One file that holds everything, is saved as it stands, fits every screen, and refuses what it cannot show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.explorer.__main__ import check_prompt, explore
from benchmarks.explorer.packing import FORMATS, LEVELS, chosen_format, pack, rounded, rounded24, rounding_error
from benchmarks.explorer.page import FOLDER, SCRIPTS, assemble
from benchmarks.explorer.runs import names
from benchmarks.explorer.stacks import KNOWN, check_known
from core.config import PositionConfig, RotaryScaling, TransformerConfig
from decision.environments.spaces import Space
from tests.benchmarks.explorer.panels import CORE, agent, gpt, text_run
from tests.benchmarks.explorer.visits import Visit, visited
from text.models.encoder import EmbedderConfig, TaggerConfig
from text.models.recurrent import RecurrentConfig

CARDS = ("input", "tokens", "chances", "graph", "layers", "heads")


def test_the_page_names_nothing_outside_itself() -> None:
    page = assemble([gpt()])
    assert re.findall(r"""(?:src|href)=["'](?!data:)""", page) == []
    assert set(re.findall(r"https?://[^\s\"')]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert [word for word in ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "sendBeacon") if word in page] == []


def test_every_script_is_in_the_page_and_none_is_long() -> None:
    files = {file.stem: file.read_text("utf-8") for file in FOLDER.glob("*.js")}
    assert sorted(files) == sorted(SCRIPTS)
    assert {name for name, text in files.items() if len(text.splitlines()) > 240} == set()


@pytest.mark.parametrize(("width", "theme"), [(1100, "light"), (390, "dark")])
def test_everything_is_in_sight_on_every_screen(panels: Visit, width: int, theme: str) -> None:
    """By structure: nothing is wider than the screen, no part lies over another, and every map has been drawn."""
    panels.start_anew(width, theme)
    for run in range(5):
        panels.ask("(explorer, n) => explorer.open(n)", run)
        panels.until("explorer.current.grid.drawn === explorer.current.grid.turn")
        boxes = panels.ask(BOXES, CARDS)
        assert panels.page.evaluate("document.documentElement.scrollWidth") <= width
        assert [card for card, box in zip(CARDS, boxes, strict=True) if box["width"] < 250] == []
        assert [pair for pair in pairs(boxes) if overlap(*pair)] == []
        assert panels.page.evaluate(SINGLE_COLOURED) == []
    panels.check()


BOXES = """(explorer, cards) => cards.map((card) => {
  const { x, y, width, height } = document.getElementById(card).getBoundingClientRect();
  return { x, y, width, height };
})"""
SINGLE_COLOURED = """[...document.querySelectorAll('#heads canvas')].filter((canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size < 2;
}).length ? ['a map of one colour'] : []"""


def pairs(boxes: list[Any]) -> list[tuple[Any, Any]]:
    return [(a, b) for n, a in enumerate(boxes) for b in boxes[n + 1 :]]


def overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    apart = a["x"] + a["width"] <= b["x"] + 0.5 or b["x"] + b["width"] <= a["x"] + 0.5
    return not (apart or a["y"] + a["height"] <= b["y"] + 0.5 or b["y"] + b["height"] <= a["y"] + 0.5)


def test_the_page_is_saved_as_it_stands(browser: Any, visit: Visit, tmp_path: Path) -> None:
    state = """({current: s}) =>
      [s.input.value, s.query, s.layer, s.head, [...s.cuts.heads], s.cuts.list(), [...s.chances.now]]"""
    visit.page.locator("#prompt").fill("on the </script> mat")
    visit.ask("({current: s}) => { s.look(0, 1); s.select(3); s.toggleHead(1, 2); s.cutEdge(3, 1, true, 'all'); }")
    visit.settle()
    before, tabs = visit.ask(state), visit.page.get_by_role("tab").count()
    with visit.page.expect_download() as download:
        visit.page.locator("#save-html").click()
    download.value.save_as(tmp_path / "saved.html")
    with visited(browser, tmp_path / "saved.html") as opened:
        assert opened.ask(state) == before
        assert opened.page.get_by_role("tab").count() == tabs


def test_a_picture_is_saved(visit: Visit, tmp_path: Path) -> None:
    from PIL import Image

    visit.until("explorer.current.grid.drawn === explorer.current.grid.turn")
    with visit.page.expect_download() as download:
        visit.page.locator("#save-png").click()
    assert download.value.suggested_filename == "gpt.png"
    download.value.save_as(tmp_path / "gpt.png")
    picture = Image.open(tmp_path / "gpt.png").convert("L")
    assert picture.size == (1400, 1000)
    left, right = (picture.crop(box).getextrema() for box in ((40, 100, 680, 900), (740, 390, 1340, 900)))
    assert left[0] < 128 < left[1]  # the graph was drawn, and the maps
    assert right[0] < 128 < right[1]


def test_512_tokens_are_read_without_holding_up_the_page(visit: Visit) -> None:
    """The page goes on drawing while it reads; a key more costs one token."""
    script = """async (explorer, text) => {
      const { current } = explorer;
      let looks = 0, watching = true;
      const watch = () => { looks++; if (watching) setTimeout(watch); };
      watch();
      current.input.value = text;
      current.encode();
      await current.update();
      watching = false;
      return [current.ids.length, looks];
    }"""
    visit.open("long")
    tokens, looks = visit.ask(script, ("the cat sat on a mat, " * 24)[:512])
    assert tokens == 512
    assert looks > 5
    visit.until("explorer.current.grid.drawn === explorer.current.grid.turn")


# ---------------------------------------------------------------------------------------------- weights


def test_tied_weights_are_kept_once() -> None:
    run = gpt()
    assert run.packed.index["head.weight"] == {"shape": [30, 24], "same": "embed.weight"}


def test_weights_are_rounded_to_nearest() -> None:
    x = torch.randn(10, 100)
    assert ((rounded24(x) - x).abs() <= x.abs() * 2**-16).all()
    assert (rounded24(x).view(torch.int32) & 0xFF == 0).all()
    for format, levels in LEVELS.items():
        step = x.abs().amax(1, keepdim=True) / levels
        assert ((rounded(x, format) - x).abs() <= 0.501 * step).all()
        assert torch.equal(rounded(torch.zeros(2, 3), format), torch.zeros(2, 3))
        assert torch.equal(rounded(x[0], format), rounded24(x[0]))  # a vector


def test_whole_numbers_make_the_smallest_page() -> None:
    tensors = {"weight": torch.randn(256, 256)}
    sizes = {format: len(pack(tensors, format).text) / 256**2 for format in FORMATS}
    assert sizes["int6"] < 0.9 < sizes["int8"] < 1.25 < sizes["fp16"] < sizes["fp24"] < sizes["fp32"] < 5


def test_the_smallest_format_is_chosen_that_changes_nothing_much() -> None:
    model = torch.nn.Linear(4, 4)
    x, names = torch.randn(3, 4), ("weight", "bias")
    kept = model.weight.clone()
    format, change = chosen_format(model, names, lambda: model(x))
    assert format == "fp24"
    assert change <= 5e-5 < rounding_error(model, names, lambda: model(x), "fp16")
    assert torch.equal(model.weight, kept)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    assert chosen_format(model, names, lambda: model(x)) == ("fp16", 0.0)


# ---------------------------------------------------------------------------------------------- refusals


def test_what_the_page_cannot_compute_is_refused_by_name() -> None:
    dynamic = PositionConfig("rotary", scaling=RotaryScaling("dynamic", factor=2.0))
    with pytest.raises(ValueError, match=r"^scaling.kind = 'dynamic' is not computed by the page"):
        gpt(position=dynamic)
    with pytest.raises(ValueError, match=r"^modulation = 'adaln' is not computed by the page, which knows: none$"):
        check_known(TransformerConfig(modulation="adaln"))
    with pytest.raises(ValueError, match=r"^a RecurrentLM is not known to the page, which shows: GPT, MaskedLM"):
        text_run(RecurrentConfig(context=8, dim=8, depth=1))
    with pytest.raises(ValueError, match=r"^a Embedder is not known to the page"):
        text_run(EmbedderConfig(context=8, core=CORE))
    with pytest.raises(ValueError, match=r"^words = 'early-mean' is not known to the page"):
        text_run(TaggerConfig(context=8, words="early-mean", labels=("a", "b"), core=CORE))
    with pytest.raises(ValueError, match=r"^observations of .* are pictures, which the page does not read"):
        agent(observation=Space("box", (40, 40, 3), "uint8", (0.0,), (255.0,)))


def test_every_choice_of_the_core_is_known_or_refused() -> None:
    """A choice that the core learns later is refused by name until the page computes it."""
    from typing import get_args, get_type_hints

    hints = get_type_hints(TransformerConfig)
    assert {name: set(get_args(hints[name])) - known for name, known in KNOWN.items()} == {
        name: {"adaln"} if name == "modulation" else set() for name in KNOWN
    }


def test_weights_too_large_for_a_page_are_refused_with_their_size() -> None:
    with pytest.raises(ValueError, match=r"^the page would be 0\.\d MB, 0\.\d MB of them the weights of gpt in fp32"):
        assemble([gpt()], most=0.01)


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    assert names([str(tmp_path / "a" / "gpt"), str(tmp_path / "b" / "gpt")]) == ["a/gpt", "b/gpt"]
    assert names([str(tmp_path / "a"), str(tmp_path / "b")]) == ["a", "b"]
    with pytest.raises(ValueError, match=r"is given twice: name each run once$"):
        explore([str(tmp_path), str(tmp_path), "--out", str(tmp_path / "page.html")])


def test_a_prompt_that_nothing_reads_is_refused() -> None:
    check_prompt("the cat", [agent(), gpt()])
    with pytest.raises(ValueError, match=r"^prompt = 'the cat' has no effect: none of the runs reads text$"):
        check_prompt("the cat", [agent()])


def test_a_folder_without_a_run_and_an_odd_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        explore([str(tmp_path), "--out", str(tmp_path / "page.html")])
    with pytest.raises(ValueError, match=r"must be a file that ends in .html$"):
        explore([str(tmp_path), "--out", str(tmp_path / "page.pdf")])
    for value in ("0", "-1", "nan"):
        with pytest.raises(ValueError, match=r"^most = \S+ must be above 0 MB$"):
            explore([str(tmp_path), "--out", str(tmp_path / "page.html"), "--most", value])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "page.html").mkdir()
    with pytest.raises(ValueError, match=r"is a folder: name a file$"):
        explore([str(tmp_path), "--out", str(tmp_path / "page.html")])
