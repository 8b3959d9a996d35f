from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

import cacher
from cacher.display import ANSI

HARMLESS = {
    "div",
    "span",
    "br",
    "svg",
    "text",
    "rect",
    "title",
    "table",
    "tr",
    "th",
    "td",
    "caption",
}


class Checker(HTMLParser):
    """Collects text, and fails on anything that would reach for a network or run code."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in HARMLESS, tag
        for name, value in attrs:
            assert name not in {"src", "href", "onclick"}
            assert "url(" not in (value or "")
            assert "http" not in (value or "") or name == "xmlns"
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


NASTY = "<script>alert(1)</script> & \"quotes\" \n\t'x' 🦊"


def test_a_state_shows_its_text_and_escapes_it(model: cacher.Model) -> None:
    shown = Checker(model.state(NASTY)._repr_html_())
    assert '<script>alert(1)</script> & "quotes" ' in shown.text
    assert "🦊" in shown.text
    assert "script" not in shown.tags
    assert "(empty)" in Checker(model.state()._repr_html_()).text


def test_a_certain_token_is_green_and_a_surprise_red(model: cacher.Model) -> None:
    state = model.state("Once upon a time zebra 7%")
    colours = re.findall(r"background:rgb\((\d+),(\d+),(\d+)\)", state._repr_html_())
    assert len(colours) == len(state)
    logprobs = state.logprobs()
    red, green, _blue = map(int, colours[logprobs.argmax()])
    assert green > red
    red, green, _blue = map(int, colours[logprobs.argmin()])
    assert red > green


def test_tooltips_show_what_else_was_likely(model: cacher.Model) -> None:
    state = model.state("Once upon a time").forward()
    html = state._repr_html_()
    assert "probability" in html
    assert "1. &#x27; time&#x27;" in html


def test_long_states_show_their_end(model: cacher.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cacher.display, "SHOWN_TOKENS", 3)
    assert "[2 tokens before]" in model.state([300] * 5)._repr_html_()


def test_attention_is_a_picture_of_the_last_tokens(model: cacher.Model) -> None:
    state = model.state("Hello <world>\n")
    assert repr(state.show_attention(1, 2)) == "<Picture: attention, layer 1, head 2>"
    picture = Checker(state.show_attention(1, 2)._repr_html_())
    count = len(state)
    assert picture.tags.count("rect") == count * (count + 1) // 2
    assert "layer 1, head 2" in picture.text
    long = Checker(model.state([300] * 100).show_attention(0)._repr_html_())
    assert long.tags.count("rect") == 64 * 65 // 2
    assert "last 64 of 100" in long.text


def test_results_show_themselves(story: cacher.State) -> None:
    found = story.beam(3, 4)
    table = Checker(found._repr_html_())
    assert table.tags.count("tr") == 4
    result = story.generate(6)
    assert result.text.split()[-1] in Checker(result._repr_html_()).text
    assert str(result) == result.text
    facts = Checker(story.model._repr_html_())
    assert "llama" in facts.text


def test_characters_that_act_on_a_terminal_are_shown_not_sent(model: cacher.Model) -> None:
    state = model.state("a\x1b]0;title\x07b\x00c\x9bd\x7fe\rf\tg\n")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", state.ansi())
    assert shown == "a\u241b]0;title\u2407b\u2400c\ufffdd\u2421e\u240df\tg\n"
    assert "\u241b]0;" in Checker(state._repr_html_()).text


def test_terminal_colours_end_before_the_line_does(model: cacher.Model) -> None:
    state = model.state("Once upon a time\n\nThere was")
    shown = state.ansi()
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown) == state.text
    codes = {int(code) for code in re.findall(r"38;5;(\d+)m", shown)}
    assert codes <= set(ANSI)
    for line in shown.split("\n"):
        assert line.count("\x1b[38") == line.count("\x1b[0m")
