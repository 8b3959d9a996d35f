"""The heat map's page: what it holds, and, in the slow suite, what a real browser makes of it."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacher import Model, ParameterError, State

NASTY = "</script><script>alert(1)</script> & {{title}} \"q\" 'x' \x1b[31m naïve 🦊\n"


class Page(HTMLParser):
    """Collects what is in the elements, and fails on anything that would reach for a network."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "a", "form"}
        assert not {"src", "href", "action", "data"} & {name for name, _ in attrs}
        if tag not in {"meta", "input"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)


def shown(page: str) -> tuple[dict[str, Any], np.ndarray]:
    """Return the page's data, and its weights."""
    data = json.loads(Page(page).texts["script"][0])
    raw = np.frombuffer(base64.b64decode(data["weights"]), "<u2")
    return data, raw.reshape(len(data["tokens"]), -1) / 65535


def test_the_page_holds_the_weights_and_the_tokens(story: State) -> None:
    data, weights = shown(story.attention_heatmap(2, 3, 0.25, position_range=(2, 6)))
    found = story.analyze_attention(2, 3, position_range=(2, 6))
    np.testing.assert_allclose(weights, found.attention_pattern, atol=1 / 65535)
    assert data["tokens"] == found.tokens
    assert (data["first"], data["threshold"]) == (2, 0.25)


def test_no_text_gets_out_of_its_element(model: Model) -> None:
    model_name, model.name = model.name, "<b>&tales"
    try:
        page = model.state(NASTY).attention_heatmap()
    finally:
        model.name = model_name
    found = Page(page)
    assert len(found.texts["script"]) == 2, "the data and the program, nothing of the text"
    tokens = shown(page)[0]["tokens"]
    assert "".join(tokens) == NASTY.replace("\n", "\u21b5").replace("\x1b", "\u241b")
    title = "Attention of <b>&tales: mean of all layers, mean of all heads"
    assert found.texts["title"] == found.texts["h1"] == [title]
    assert "{{" not in re.sub(r'<script id="data".*?</script>', "", page)


def test_the_page_names_no_address_and_forbids_loading(story: State) -> None:
    page = story.attention_heatmap()
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|//[a-z]|url\(|@import|fetch\(|XMLHttp|import\(", page)


def test_a_wrong_threshold_is_refused(story: State) -> None:
    with pytest.raises(ParameterError, match="threshold"):
        story.attention_heatmap(threshold=2)


# ---- in a browser

# Uses the page as a reader would, and leaves what it saw in an element of its own.
VISIT = """
<output id="seen"></output>
<script>
const said = [], say = () => said.push(element("found").textContent);
const at = (row, column) => {
  const box = canvas.getBoundingClientRect(), middle = (i) => margin + cell * (i + 0.5);
  canvas.dispatchEvent(new PointerEvent("pointermove", {
    clientX: box.left + middle(column), clientY: box.top + middle(row), bubbles: true }));
};
const key = (name) => canvas.dispatchEvent(new KeyboardEvent("keydown", { key: name }));
const pixel = (row, column) => Array.from(canvas.getContext("2d").getImageData(
  Math.floor((margin + cell * (column + 0.5)) * devicePixelRatio),
  Math.floor((margin + cell * (row + 0.5)) * devicePixelRatio), 1, 1).data);
const pixels = [pixel(0, 0), pixel(2, 1), pixel(0, 2)];
at(2, 1); say();
at(0, 2); say();
key("ArrowUp"); say();
key("ArrowLeft"); say();
key("ArrowLeft"); say();
element("text").children[2].click(); say();
slider.value = 1;
slider.dispatchEvent(new Event("input"));
const seen = { said, pixels, cut: pixel(2, 1), labelled: margin > 0,
  text: element("text").textContent, threshold: element("shown").textContent,
  chosen: Array.from(element("text").children).findIndex((span) => span.className === "row"),
  paper: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.body).color };
element("seen").textContent = JSON.stringify(seen);
</script>
"""


def visit(page: str, folder: Path, *, dark: bool = False) -> dict[str, Any]:
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    assert browser is not None, "no Chromium here: tools/setup.sh browser installs it"
    file = folder / "page.html"
    file.write_text(page.replace("</body>", VISIT + "</body>"), "utf-8")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,900",
        f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom",
    ]  # fmt: skip
    done = subprocess.run(
        [browser, *options, file.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r'<output id="seen">(.+?)</output>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen


@pytest.mark.slow
def test_a_reader_points_at_cells_and_uses_keys(model: Model, tmp_path: Path) -> None:
    state = model.state("Once upon a time</script>")
    seen = visit(state.attention_heatmap(layer=1), tmp_path)
    weights = state.analyze_attention(1).attention_pattern
    pieces = [token.text for token in state]

    def sentence(row: int, column: int) -> str:
        names = [f"{json.dumps(pieces[i])} ({i})" for i in (row, column)]
        return f"{names[0]} attends to {names[1]}: {weights[row, column]:.4f}"

    cells = [(2, 1), (2, 1), (1, 1), (1, 0), (1, 0), (2, 2)]  # above the diagonal there is nothing
    assert seen["said"] == [sentence(row, column) for row, column in cells]
    assert seen["text"] == state.text
    assert seen["chosen"] == 2
    assert seen["labelled"]
    full, some, none = seen["pixels"]
    assert full[3] == 255, "the first token attends to itself alone"
    assert some[3] == pytest.approx(255 * weights[2, 1] ** 0.5, abs=3)
    assert none[3] == seen["cut"][3] == 0
    assert seen["threshold"] == "1.000"


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_legible_on_light_and_dark(story: State, tmp_path: Path, dark: bool) -> None:
    seen = visit(story.attention_heatmap(), tmp_path, dark=dark)

    def luminance(colour: str) -> float:
        shares = [int(part) / 255 for part in re.findall(r"\d+", colour)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    paper, ink = luminance(seen["paper"]), luminance(seen["ink"])
    assert (paper < ink) == dark
    assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) > 7


@pytest.mark.slow
def test_the_largest_page_works(model: Model, tmp_path: Path) -> None:
    state = model.state(np.arange(512) * 7 % 4096)
    seen = visit(state.attention_heatmap(), tmp_path)
    assert not seen["labelled"], "cells are too small for texts"
    assert len(set(seen["said"])) == 4
