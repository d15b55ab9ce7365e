"""Every control of the page does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.explorer.panels import LETTERS, PROSE
from tests.benchmarks.explorer.visits import Visit
from text.tokens.bpe import BPETokenizer

TOKENS = "#tokens .token"


def chances(visit: Visit) -> list[float]:
    """The probabilities of all answers."""
    return list(visit.ask("(explorer) => [...explorer.current.chances.now]"))


def asked(visit: Visit) -> dict[str, Any]:
    """What is selected."""
    return dict(visit.ask("({current: {query, layer, head}}) => ({query, layer, head})"))


def test_typing_reads_on(visit: Visit) -> None:
    before, count = chances(visit), visit.page.locator(TOKENS).count()
    visit.page.locator("#prompt").press_sequentially("b.")
    visit.settle()
    assert visit.page.locator(TOKENS).count() == count + 2
    assert chances(visit) != before
    assert asked(visit)["query"] == count + 1


def test_characters_that_the_vocabulary_lacks_are_shown_in_place_and_not_read(visit: Visit) -> None:
    visit.page.locator("#prompt").fill("caféX")
    visit.settle()
    assert visit.page.locator(TOKENS).all_text_contents() == ["c", "a", "f"]
    assert visit.page.locator(TOKENS).last.get_attribute("data-after") == "éX"
    assert "é X" in visit.page.locator("#input .notice").inner_text()
    visit.page.locator("#prompt").fill("aéb")
    visit.settle()
    assert visit.page.locator(TOKENS).last.get_attribute("data-before") == "é"


def test_an_empty_prompt_says_so(visit: Visit) -> None:
    visit.page.locator("#prompt").fill("")
    visit.settle()
    assert "Type something" in visit.page.locator("#input .notice").inner_text()
    assert not visit.page.locator("#tokens").is_visible()
    visit.page.locator("#prompt").fill("a")
    visit.settle()
    assert visit.page.locator(TOKENS).count() == 1


def test_more_than_the_context_drops_the_beginning(visit: Visit) -> None:
    visit.page.locator("#prompt").fill("ab" * 40)
    visit.settle()
    assert visit.page.locator(TOKENS).count() == 64
    assert "The first 16 tokens are beyond the context of 64" in visit.page.locator("#input .notice").inner_text()


def test_tokens_are_looked_at_and_selected(visit: Visit) -> None:
    visit.page.locator(TOKENS).nth(4).hover()
    assert "looking" in str(visit.page.locator(TOKENS).nth(4).get_attribute("class"))
    assert visit.page.locator(".curves path").count() > 0
    visit.page.locator(TOKENS).nth(4).click()
    assert asked(visit)["query"] == 4
    assert visit.page.locator(TOKENS).nth(4).get_attribute("aria-selected") == "true"
    assert visit.page.locator(TOKENS).nth(7).evaluate("e => e.style.getPropertyValue('--share')") == "0%"  # the future


def test_probabilities_follow_their_settings(visit: Visit) -> None:
    plain = np.array(chances(visit))
    assert plain.sum() == pytest.approx(1, abs=1e-5)
    move(visit, "#temperature", 0)
    assert sorted(chances(visit))[-2:] == [0, 1]
    move(visit, "#temperature", 2)
    assert max(chances(visit)) < plain.max()
    move(visit, "#temperature", 1)
    move(visit, "#top-k", 3)
    assert np.count_nonzero(chances(visit)) == 3
    move(visit, "#top-k", 0)
    move(visit, "#top-p", 0.5)
    kept = np.array(chances(visit)) > 0
    assert plain[kept].sum() >= 0.5 > plain[kept].sum() - plain[kept].min()


def move(visit: Visit, slider: str, value: float) -> None:
    """Moves a slider, as a hand does."""
    visit.page.locator(slider).evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", value
    )
    visit.settle()


def test_tokens_are_written(visit: Visit) -> None:
    text = visit.page.locator("#prompt").input_value()
    visit.page.locator("#likeliest").click()
    visit.settle()
    assert len(visit.page.locator("#prompt").input_value()) == len(text) + 1
    visit.page.locator("#draw").click()
    visit.page.locator("#chances .bars button").first.click()
    visit.settle()
    assert len(visit.page.locator("#prompt").input_value()) == len(text) + 3
    visit.page.locator("#write").click()
    visit.until(f"document.querySelector('#prompt').value.length === {len(text) + 23}")


def test_heads_are_chosen_and_switched_off(visit: Visit) -> None:
    before = chances(visit)
    visit.page.get_by_role("button", name="layer 1, head 2", exact=True).click()
    assert asked(visit) == {"query": 9, "layer": 0, "head": 1}
    visit.page.get_by_role("button", name="switch layer 1, head 2 off").click()
    visit.settle()
    assert chances(visit) != before
    assert "nats" in visit.page.locator(".moved").inner_text()
    assert visit.page.locator(".before").count() > 0
    visit.page.get_by_role("button", name="Restore all").click()
    visit.settle()
    assert chances(visit) == before
    assert visit.page.locator(".moved").inner_text() == ""


def test_edges_are_cut_from_the_list_and_restored(visit: Visit) -> None:
    before = chances(visit)
    visit.page.get_by_role("button", name="layer 2, head 1", exact=True).click()
    for where, edges in {"this map": 1, "this layer": 3, "all layers": 6}.items():
        visit.page.get_by_role("radio", name=where).click()
        visit.page.locator(".edges button").first.click()
        visit.settle()
        assert visit.ask("(explorer) => explorer.current.cuts.list().length") == edges
        assert chances(visit) != before
        visit.page.locator(".edges .severed button").click()
        visit.settle()
        assert chances(visit) == before


def test_edges_are_cut_in_the_graph(visit: Visit) -> None:
    before = chances(visit)
    visit.page.locator(".graph .edge.chosen .reach").first.dispatch_event("click")
    visit.settle()
    assert visit.page.locator(".graph .edge.severed").count() == 1
    assert chances(visit) != before
    visit.page.locator(".graph .name").first.dispatch_event("click")
    assert asked(visit)["query"] == 0


def test_the_lens_ends_with_the_answer(visit: Visit) -> None:
    rows = visit.page.locator(".lens tr")
    assert rows.count() == 1 + 3  # the embedding and two layers
    answer = visit.page.locator("#chances .bars .token").first.inner_text()
    assert rows.last.locator(".token").first.inner_text() == answer


def test_keys(visit: Visit) -> None:
    visit.page.locator("h1").click()
    before = chances(visit)
    for key in ("ArrowLeft", "ArrowUp", "]", "]"):
        visit.page.keyboard.press(key)
    assert asked(visit) == {"query": 8, "layer": 0, "head": 1}
    for key in ("ArrowRight", "ArrowDown", "["):
        visit.page.keyboard.press(key)
    assert asked(visit) == {"query": 9, "layer": 1, "head": 0}
    visit.page.keyboard.press("x")
    visit.page.keyboard.press("c")
    visit.settle()
    assert chances(visit) != before
    visit.page.keyboard.press("r")
    visit.settle()
    assert chances(visit) == before
    visit.page.keyboard.press("?")
    assert visit.page.locator("dialog").is_visible()
    visit.page.get_by_role("button", name="Close").click()
    visit.page.locator(TOKENS).nth(9).focus()
    visit.page.keyboard.press("Home")
    assert asked(visit)["query"] == 0


def test_the_walk_has_eight_steps_in_every_panel(visit: Visit) -> None:
    script = (
        """() => [document.querySelector(".walk h3").textContent, document.querySelectorAll(".card.pointed").length]"""
    )
    for tab in ("gpt", "images", "agent", "translator", "masked"):
        visit.open(tab)
        visit.page.locator("#walk").click()
        for step in range(1, 9):
            heading, pointed = visit.page.evaluate(script)
            assert heading.startswith(f"{step} of 8")
            assert pointed == 1
            visit.page.keyboard.press("Enter")  # the focus is on the next step
        assert not visit.page.locator(".walk").is_visible()


def test_dark_and_light(visit: Visit) -> None:
    def paper() -> str:
        return str(visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = paper()
    visit.page.locator("#theme").click()
    assert paper() != light
    visit.page.keyboard.press("d")
    assert paper() == light


def test_an_image_is_chosen_dropped_and_looked_at(visit: Visit, tmp_path: Path) -> None:
    visit.open("images")
    before = chances(visit)
    visit.page.get_by_role("button", name="image: class 3").click()
    visit.settle()
    assert chances(visit) != before
    before = chances(visit)
    file = tmp_path / "own.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(file)
    visit.page.locator("#file").set_input_files(file)
    visit.until("document.querySelector('#input .notice').textContent")
    visit.settle()
    assert "30 × 20 pixels" in visit.page.locator("#input .notice").inner_text()
    assert chances(visit) != before
    box = visit.page.locator(".stage").bounding_box()
    visit.page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.1)
    assert asked(visit)["query"] == 3  # of 4 in the first row
    visit.page.locator(".stage").press("ArrowDown")
    assert asked(visit)["query"] == 7
    for overlay in ("rollout to the answer", "image alone", "attention of the square"):
        visit.page.get_by_role("radio", name=overlay).click()
    now = chances(visit)
    visit.page.locator(".stage").press("c")
    visit.settle()
    assert chances(visit) != now
    assert visit.page.locator(".picture-edges .severed").count() == 1
    (tmp_path / "none.png").write_bytes(b"no image")
    visit.page.locator("#file").set_input_files(tmp_path / "none.png")
    visit.until("document.querySelector('#input .notice').textContent.includes('none.png')")


def test_an_image_of_the_right_size_is_read_as_it_is(visit: Visit, tmp_path: Path) -> None:
    visit.open("images")
    pixels = np.random.default_rng(0).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "own.png")
    visit.page.locator("#file").set_input_files(tmp_path / "own.png")
    visit.until("explorer.current.pixels[0] > 0")
    visit.settle()
    read = np.array(visit.ask("(explorer) => [...explorer.current.pixels]")).reshape(3, 12, 12)
    assert np.abs(read - pixels.transpose(2, 0, 1) / 255).max() < 1e-6


def test_an_agent_acts_and_is_asked_for_another_return(visit: Visit) -> None:
    visit.open("agent")
    before = chances(visit)
    move(visit, "#asked", 20)
    assert chances(visit) != before
    for control in ("#step", "#push", "#play", "#reset"):
        visit.page.locator(control).click()
        visit.settle()
    assert visit.page.locator(TOKENS).count() >= 2
    visit.until("!explorer.current.playing || explorer.current.rewards > 2")


def test_a_translation_is_written_and_its_alignment_cut(visit: Visit) -> None:
    visit.open("translator")
    assert visit.page.locator(".alignment td[title]").count() > 20
    before = visit.ask("(explorer) => [...explorer.current.now.target]")
    script = "(explorer) => explorer.current.current.row(0, 0, 0).reduce((a, b) => a + b)"
    assert visit.ask(script) == pytest.approx(1, abs=1e-5)
    visit.page.locator(".alignment td[title]").first.click()
    visit.settle()
    assert visit.page.locator(".alignment td.severed").count() == 1
    visit.page.keyboard.press("r")
    visit.settle()
    assert visit.ask("(explorer) => [...explorer.current.now.target]") == before
    for part in ("target → target", "source → source", "target → source"):
        visit.page.get_by_role("radio", name=part).click()
        visit.settle()
    visit.page.locator("#prompt").fill("another text")
    visit.settle()
    assert visit.ask("(explorer) => explorer.current.ids.length") == len("another text") + 1


def test_a_token_is_hidden_and_filled_in(visit: Visit) -> None:
    visit.open("masked")
    assert visit.page.locator("#tokens .hidden").count() == 1
    before = chances(visit)
    visit.page.locator("#hide").click()
    visit.settle()
    assert visit.page.locator("#tokens .hidden").count() == 0
    assert chances(visit) != before
    visit.open("labels")
    assert len(chances(visit)) == 2


def test_agents_of_other_environments_are_set_by_hand(visit: Visit) -> None:
    visit.open("by hand")
    before = chances(visit)
    visit.page.get_by_label("state 1").evaluate("e => { e.value = 1.2; e.dispatchEvent(new Event('input')); }")
    visit.settle()
    assert chances(visit) != before


def test_words_of_bytes_are_encoded_as_python_encodes_them(visit: Visit) -> None:
    tokenizer = BPETokenizer.train([PROSE * 30], 330)
    visit.open("prose")
    script = "({current}, text) => current.tokenizer.encode(text).ids"
    assert visit.ask(script, PROSE) == tokenizer.encode(PROSE).tolist()
    visit.page.locator("#prompt").fill("日")
    visit.settle()
    shown = "".join(visit.page.locator(TOKENS).all_text_contents())
    assert "\ufffd" not in shown
    script = "({current}, ids) => current.tokenizer.decode(ids)"
    assert visit.ask(script, tokenizer.encode("日").tolist()) == "日"


def test_letters_of_the_vocabulary_come_back(visit: Visit) -> None:
    ids = LETTERS.encode("the cat, a.\n").tolist()
    assert visit.ask("(explorer) => explorer.session(0).tokenizer.encode('the cat, a.\\n').ids") == ids
