"""Pictures for notebooks and colours for terminals: plain HTML and SVG, nothing from a network.

A token's colour runs from red (a surprise) over yellow to green (certain), by the logarithm of its
probability, so that 1 in 10 and 1 in 1000 look different.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import exp, isnan, log, sqrt
from typing import TYPE_CHECKING

from cacher.tokens import perplexity

if TYPE_CHECKING:
    from cacher.inspection import Inspection
    from cacher.model import Model
    from cacher.types import BeamSearch, Token

SURPRISE = log(1e-4)  # at and below this log-probability a token is fully red
SHOWN_TOKENS = 2000  # a notebook shows the last ones of longer states
PICTURE_TOKENS = 64  # and attention among the last ones
CELL = 11  # pixels of an attention weight
LABEL = 16  # characters of a token beside it

# Characters that would act on a terminal, or not show, are shown by their pictures.
PICTURES = {c: 0x2400 + c for c in range(32) if chr(c) not in "\t\n"}
PICTURES |= {0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}

# From a surprise to certainty; also their 256-colour terminal codes.
SCALE = ((222, 90, 80), (235, 160, 90), (240, 215, 120), (175, 215, 130), (110, 190, 120))
ANSI = (203, 215, 222, 150, 114)
GLOW = (17, 18, 19, 20, 21)  # 256-colour codes of backgrounds: from little attention to the most


class Picture:
    """Something a notebook shows: `html` is the whole of it, `caption` says what it is."""

    __slots__ = ("caption", "html")

    def __init__(self, body: str, caption: str) -> None:
        self.html = _box(body, caption)
        self.caption = caption

    def __repr__(self) -> str:
        return f"<Picture: {self.caption}>"

    def _repr_html_(self) -> str:
        return self.html


def _level(logprob: float) -> float:
    """From 0 (a surprise) to 1 (certain)."""
    return 0.0 if isnan(logprob) else min(1.0, max(0.0, 1.0 - logprob / SURPRISE))


def _colour(logprob: float) -> str:
    at = _level(logprob) * (len(SCALE) - 1)
    low = min(int(at), len(SCALE) - 2)
    mix = [round(a + (b - a) * (at - low)) for a, b in zip(SCALE[low], SCALE[low + 1], strict=True)]
    return f"rgb({mix[0]},{mix[1]},{mix[2]})"


def _visible(text: str) -> str:
    """HTML of a token's text; a line break stays one."""
    return escape(text.translate(PICTURES)).replace("\n", "&#8629;<br>") or "&#8203;"


def _span(text: str, logprob: float, title: str) -> str:
    return (
        f'<span title="{escape(title)}" style="background:{_colour(logprob)};color:#111;'
        f'border-radius:2px">{_visible(text)}</span>'
    )


def _box(body: str, caption: str) -> str:
    return (
        '<div style="font-family:ui-monospace,monospace;line-height:1.7;max-width:60em;'
        f'white-space:pre-wrap;overflow-wrap:anywhere">{body}</div>'
        f'<div style="font-size:smaller;opacity:.7">{escape(caption)}</div>'
    )


def _tooltip(token: Token) -> str:
    lines = [
        f"{token.text!r}  id {token.token_id}, position {token.position}",
        f"probability {token.probability:.4g}, logprob {token.logprob:.4f}",
    ]
    alternatives = token.top_tokens
    for rank, other in enumerate(alternatives, 1):
        mark = "  <" if other.token_id == token.token_id else ""
        lines.append(f"{rank}. {other.token!r} {other.probability:.4g}{mark}")
    return "\n".join(lines)


def state_html(state: Inspection) -> str:
    """Return the state's text, each token coloured by its probability where there is one."""
    if state.model.model_type != "causal_lm":
        body = _visible(state.text) if len(state) else "(empty)"
        return _box(body, f"{len(state)} tokens of {state.model.name}")
    tokens = list(state)
    shown = tokens[-SHOWN_TOKENS:]
    body = "".join(_span(token.text, token.logprob, _tooltip(token)) for token in shown)
    if len(shown) < len(tokens):
        body = f"[{len(tokens) - len(shown)} tokens before] " + body
    caption = f"{len(tokens)} tokens of {state.model.name}"
    surprise = perplexity([token.logprob for token in tokens])
    if surprise is not None:
        caption += f", perplexity {surprise:.1f}"
    return _box(body or "(empty)", f"{caption}; red: a surprise, green: certain")


def text_html(pieces: Sequence[str], logprobs: Sequence[float]) -> str:
    """Return pieces of text coloured by their probabilities."""
    spans = (
        _span(piece, logprob, f"{piece!r}\nprobability {exp(logprob):.4g}")
        for piece, logprob in zip(pieces, logprobs, strict=True)
    )
    return _box("".join(spans), f"{len(pieces)} new tokens")


def beams_html(found: BeamSearch) -> str:
    """Return a table of beams, best first."""
    rows = "".join(
        f'<tr><td style="text-align:right">{beam.score:.4f}</td><td style="text-align:left">'
        f"{''.join(map(_span, beam.tokens, beam.logprobs, beam.tokens))}</td>"
        f"<td>{beam.finish_reason or ''}</td></tr>"
        for beam in found
    )
    head = "<tr><th>score</th><th>text</th><th>ended by</th></tr>"
    return f'<table style="font-family:ui-monospace,monospace">{head}{rows}</table>'


def model_html(model: Model) -> str:
    """Return a table of a model's facts."""
    info = model.info
    facts = {
        "type": info.model_type,
        "architecture": info.architecture,
        "weights": f"{info.n_parameters:,}",
        "layers": info.n_layers,
        "width": info.hidden_size,
        "heads": f"{info.n_heads} query, {info.n_kv_heads} key/value, {info.head_dim} wide",
        "vocabulary": f"{info.vocab_size:,}",
        "context": f"{info.n_ctx:,}",
        "kernels": f"{info.isa}, {info.dtype}, {info.n_threads} threads",
        "keys and values": info.kv_dtype or "none kept",
        "fingerprint": info.fingerprint[:16],
    }
    rows = "".join(
        f'<tr><th style="text-align:left">{name}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    return f"<table><caption>{escape(model.name)}</caption>{rows}</table>"


def attention_picture(state: Inspection, layer: int, head: int) -> Picture:
    """Return a head's attention as an SVG: row = attending token, column = attended token."""
    length = state._filled()
    first = max(0, length - PICTURE_TOKENS)
    weights = state.attention(layer, head, first=first)[:, first:].tolist()
    ids = state._seen().tokens().tolist()
    tokenizer = state.model._tokenizer
    labels = (tokenizer.pieces(ids) if tokenizer else list(map(str, ids)))[first:]
    shown = [label.replace("\n", "\u21b5").translate(PICTURES)[:LABEL] for label in labels]
    both_ways = state.model.model_type == "encoder"
    margin = 8 + 7 * max(map(len, shown))
    side = margin + CELL * len(shown) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" viewBox="0 0 {side} {side}" '
        'style="max-width:100%" font-family="ui-monospace,monospace" font-size="10" '
        'fill="currentColor" xml:space="preserve">'
    ]
    for i, label in enumerate(shown):
        at, text = margin + CELL * i, escape(label)
        parts.append(f'<text x="{margin - 4}" y="{at + 9}" text-anchor="end">{text}</text>')
        parts.append(
            f'<text transform="translate({at + 9},{margin - 4}) rotate(-90)">{text}</text>'
        )
        for j in range(len(shown) if both_ways else i + 1):
            weight = weights[i][j]
            title = escape(f"{label!r} attends to {shown[j]!r}: {weight:.3f}")
            parts.append(
                f'<rect x="{margin + CELL * j}" y="{at}" width="{CELL}" height="{CELL}" '
                f'fill="#3d8bfd" fill-opacity="{weight:.3f}" stroke="#8884" stroke-width="0.5">'
                f"<title>{title}</title></rect>"
            )
    parts.append("</svg>")
    rest = f", last {len(shown)} of {length} tokens" if first else ""
    return Picture("".join(parts), f"attention, layer {layer}, head {head}{rest}")


def ansi(state: Inspection) -> str:
    """Return the state's text with terminal colours."""
    parts = []
    for token in state:
        code = ANSI[round(_level(token.logprob) * (len(ANSI) - 1))]
        parts.append(_painted(token.text, f"38;5;{code}"))
    return "".join(parts)


def attention_ansi(pieces: Sequence[str], weights: Sequence[float]) -> str:
    """Return pieces of text on terminal backgrounds that are the brighter the larger the weight."""
    largest = max(weights)
    parts = []
    for piece, weight in zip(pieces, weights, strict=True):
        level = round(len(GLOW) * sqrt(weight / largest))
        plain = piece.translate(PICTURES)
        parts.append(_painted(piece, f"97;48;5;{GLOW[level - 1]}") if level else plain)
    return "".join(parts)


def _painted(text: str, style: str) -> str:
    """Style a text; a style ends before a line does: some terminals would paint the rest of it."""
    lines = text.translate(PICTURES).split("\n")
    return "\n".join(f"\033[{style}m{line}\033[0m" if line else "" for line in lines)
