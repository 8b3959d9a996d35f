"""Write small SentencePiece unigram models (``spm.model``) with the standard library alone.

    python tests/models/pieces.py FILE [SIZE]    # a chat model's file of SIZE pieces, else of 512

`chat_pieces` has the ids of the files that niels-gpt is trained with: ``<unk>``, ``<s>``, ``</s>``,
the four special tokens, the 256 bytes, then pieces of English.  `model` writes any pieces with any
options; what it writes the SentencePiece library reads, too.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPACE = "\u2581"
NAMES = ("sys", "usr", "asst", "eot")
SPECIAL = tuple(f"<|ngpt_{name}_84a5023f67d74cf29cc4001becde983c|>" for name in NAMES)
OLD_SPECIAL = tuple(f"<|{name}|>" for name in NAMES)
#: A part of what the library calls nmt_nfkc.
USUAL = {
    **dict.fromkeys("\t\n\r\u00a0\u2028\u3000", " "),
    "\u200b": "",
    "\ufb01": "fi",
    "\u2460": "1",
    "e\u0301": "\u00e9",
    **{chr(0xFF01 + i): chr(0x21 + i) for i in range(94)},
}
WORDS = re.findall(
    r"\w+",
    """
    the and you was that his her with for had not but she they have him all said were from what
    when this one would there been little up out could like time went some then good day old so
    hello what is a story once upon your name my in to of it on he as at be we do no an me if go
    """,
)

Piece = tuple[str, float, int]


def chat_pieces(size: int = 512, special: Sequence[str] = SPECIAL) -> list[Piece]:
    """Return pieces of a chat model.

    Args:
        size: Number of pieces, 300 to 16000.
        special: The spellings of sys, usr, asst and eot.
    """
    pieces: list[Piece] = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    pieces += [(text, 0.0, USER_DEFINED) for text in special]
    pieces += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    learned = [SPACE, *"etaoinshrdlucmfwygpbvkxjqz.,!?'"]
    learned += [text for word in WORDS for text in (SPACE + word, word) if text not in learned]
    letters = "etaoinshrdlucmfwygpbvkxjqz"
    grown = (a + b + c for a in ("", *letters) for b in letters for c in letters)
    learned = list(dict.fromkeys(learned))
    if size > len(pieces) + len(learned):
        learned = list(dict.fromkeys([*learned, *grown]))
    learned = learned[: size - len(pieces)]
    pieces += [(text, -2.0 - i / 64, NORMAL) for i, text in enumerate(learned)]
    if len(pieces) != size:
        raise ValueError(f"{size} pieces, possible: {len(pieces) - len(learned)} to {len(pieces)}")
    return pieces


def _varint(number: int) -> bytes:
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def number(field: int, value: int) -> bytes:
    """Return a field that holds an integer."""
    return _varint(field << 3) + _varint(value & 2**64 - 1)


def block(field: int, value: bytes) -> bytes:
    """Return a field that holds bytes."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def piece(text: str | bytes, score: float = 0.0, kind: int = NORMAL) -> bytes:
    """Return one piece as a field of the model."""
    raw = text.encode() if isinstance(text, str) else text
    return block(1, block(1, raw) + b"\x15" + struct.pack("<f", score) + number(3, kind))


def character_map(rules: Mapping[str, str]) -> bytes:
    """Return the character map of replacement rules: a double array, then the replacements."""
    if not rules:
        return b""
    pool, offsets = bytearray(), {}
    children: dict[bytes, set[int]] = {b"": set()}
    for source, target in sorted(rules.items()):
        key = source.encode()
        offsets[key] = len(pool)
        pool += target.encode() + b"\0"
        for i, byte in enumerate(key):
            children.setdefault(key[:i], set()).add(byte)
            children.setdefault(key[: i + 1], set())
    units = [0] * 256
    taken, place, first = {0}, {b"": 0}, 1
    for prefix in sorted(children, key=lambda p: (len(p), p)):
        labels = sorted(children[prefix] | ({0} if prefix in offsets else set()))
        while first in taken:
            first += 1
        base = first
        while any(base ^ label in taken for label in labels):
            base += 1
        units += [0] * (((base | 0xFF) + 1) - len(units))
        at = place[prefix]
        units[at] |= (at ^ base) << 10 | (0x100 if prefix in offsets else 0)
        for label in labels:
            taken.add(base ^ label)
            if label == 0:
                units[base] = offsets[prefix] | 1 << 31
            else:
                child = prefix + bytes([label])
                place[child], units[base ^ label] = base ^ label, label
    array = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(array)) + array + bytes(pool)


def model(
    pieces: Iterable[Piece],
    *,
    rules: Mapping[str, str] = USUAL,
    add_dummy_prefix: bool = False,
    remove_extra_whitespaces: bool = True,
    escape_whitespaces: bool = True,
    byte_fallback: bool = True,
    model_type: int = 1,
    more: bytes = b"",
) -> bytes:
    """Return the bytes of an ``spm.model``.

    Args:
        pieces: Text, score and type of each.
        rules: Replacements of the character map; none: no map.
        add_dummy_prefix: Put a space in front of a text.
        remove_extra_whitespaces: Strip texts, and make one space of several.
        escape_whitespaces: Write spaces as U+2581.
        byte_fallback: Spell uncovered characters in byte pieces.
        model_type: 1: unigram.
        more: Fields that follow.
    """
    trainer = number(3, model_type) + number(35, byte_fallback)
    trainer += number(40, 0) + number(41, 1) + number(42, 2) + number(43, -1)
    normalizer = block(1, b"user_defined" if rules else b"identity")
    normalizer += block(2, character_map(rules)) if rules else b""
    normalizer += number(3, add_dummy_prefix) + number(4, remove_extra_whitespaces)
    normalizer += number(5, escape_whitespaces)
    head = b"".join(piece(*item) for item in pieces)
    return head + block(2, trainer) + block(3, normalizer) + more


def write_model(path: str | Path, size: int = 512) -> Path:
    """Write a chat model's ``spm.model`` of `size` pieces with the usual normalizer."""
    path = Path(path)
    path.write_bytes(model(chat_pieces(size)))
    return path


if __name__ == "__main__":
    write_model(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 512)
