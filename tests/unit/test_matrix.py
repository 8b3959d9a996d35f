"""The picture of whole attention matrices: its pixels are the weights."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

import cacher
from cacher.display import Picture

IMAGE = re.compile(r'href="data:image/png;base64,([A-Za-z0-9+/=]+)"')


class Elements(HTMLParser):
    """Collects texts by element, and fails on one that would reach for a network or run code."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"div", "svg", "title", "text", "image", "rect"}, tag
        for name, value in attrs:
            assert name not in {"src", "onclick", "onload"}
            assert name != "href" or (value or "").startswith("data:image/png;base64,")
        if tag not in {"image", "rect"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"image", "rect"}:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1], []).append(data)


def chunks(png: bytes) -> dict[bytes, bytes]:
    """The parts of an image by name, their checksums checked."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = {}, 8
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        name, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", png, at + 8 + size) == (zlib.crc32(name + data),)
        found[name] = data
        at += 12 + size
    assert at == len(png)
    assert list(found) == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]
    return found


def weights(picture: Picture) -> np.ndarray:
    """Read the weights back from the pixels: [images, rows, columns]."""
    images = []
    for encoded in IMAGE.findall(picture.html):
        found = chunks(base64.b64decode(encoded))
        columns, rows, *kind = struct.unpack(">IIBBBBB", found[b"IHDR"])
        assert kind == [8, 3, 0, 0, 0], "8 bits, palette, nothing interlaced"
        assert found[b"PLTE"] == b"\x3d\x8b\xfd" * 256
        lines = np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(rows, columns + 1)
        assert not lines[:, 0].any(), "no line is filtered"
        opacity = np.frombuffer(found[b"tRNS"], np.uint8)[lines[:, 1:]]
        images.append((opacity / 255.0) ** 2)
    return np.array(images)


def test_every_head_is_an_image_of_its_weights(model: cacher.Model) -> None:
    state = model.state(list(range(300, 430)))  # more rows than one pass takes
    picture = state.show_full_attention(2)
    np.testing.assert_allclose(weights(picture), state.attention(2), atol=1 / 255)
    shown = Elements(picture.html).texts
    assert shown["title"] == [f"layer 2, head {head}" for head in range(8)]
    assert picture.caption.startswith("attention, layer 2, all 8 heads, tokens 0 to 129;")


def test_one_head_has_labels(story: cacher.State) -> None:
    picture = story.show_full_attention(1, 3)
    np.testing.assert_allclose(weights(picture)[0], story.attention(1, 3), atol=1 / 255)
    labels = [token.text for token in story]
    assert Elements(picture.html).texts["text"] == [label for label in labels for _ in "xy"]


def test_labels_of_a_long_text_leave_room(model: cacher.Model) -> None:
    texts = Elements(model.state([300] * 400).show_full_attention(0, 0).html).texts["text"]
    assert 2 * 20 <= len(texts) <= 2 * 64


def test_a_selection(story: cacher.State) -> None:
    picture = story.show_full_attention(0, 1, position_range=(2, 5))
    np.testing.assert_allclose(weights(picture)[0], story.attention(0, 1)[2:6, 2:6], atol=1 / 255)
    assert "tokens 2 to 5" in picture.caption


def test_text_cannot_leave_its_label(model: cacher.Model) -> None:
    shown = Elements(model.state("<script>\x1b\n&\"'").show_full_attention(0, 0).html)
    together = "".join(shown.texts["text"][::2])
    assert together == "<script>\u241b\u21b5&\"'"


def test_an_encoder_looks_both_ways() -> None:
    state = cacher.load("minilm").state("A cat sleeps on the warm stones.")
    found = weights(state.show_full_attention(1, 2))[0]
    np.testing.assert_allclose(found, state.attention(1, 2), atol=1 / 255)
    assert found[0, 1:].any()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((6,), {}, cacher.LayerOutOfRangeError, "layer is 6, allowed: 0 to 5"),
        ((0, 8), {}, cacher.HeadOutOfRangeError, "head is 8, allowed: 0 to 7"),
        ((0,), {"max_tokens": 3}, cacher.ResponseTooLargeError, "allowed: 3"),
        ((0,), {"position_range": (99, 100)}, cacher.TokenIndexOutOfRangeError, "99"),
    ],
)
def test_what_is_out_of_range_is_said(
    story: cacher.State, arguments: tuple, options: dict, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        story.show_full_attention(*arguments, **options)


def test_an_empty_state_has_nothing_to_show(model: cacher.Model) -> None:
    with pytest.raises(cacher.EmptyStateError):
        model.state().show_full_attention(0)
