"""Seeded texts to compare tokenizers on: mixed prose, code and scripts, short hostile strings."""

from __future__ import annotations

import random
import sysconfig
from pathlib import Path

# First code point, last code point of a sample of the world's scripts.
SCRIPTS = [
    (0x41, 0x5A),
    (0x61, 0x7A),
    (0xC0, 0x24F),
    (0x250, 0x2AF),
    (0x370, 0x3FF),
    (0x400, 0x52F),
    (0x531, 0x587),
    (0x591, 0x5F4),
    (0x600, 0x6FF),
    (0x700, 0x74F),
    (0x900, 0x97F),
    (0x980, 0x9FE),
    (0xA01, 0xA76),
    (0xB82, 0xBFA),
    (0xC00, 0xC7F),
    (0xD00, 0xD7F),
    (0xE01, 0xE5B),
    (0xE81, 0xEDF),
    (0xF00, 0xFDA),
    (0x1000, 0x109F),
    (0x10A0, 0x10FF),
    (0x1100, 0x11FF),
    (0x1200, 0x137C),
    (0x13A0, 0x13FD),
    (0x1780, 0x17F9),
    (0x1E00, 0x1EFF),
    (0x1F00, 0x1FFE),
    (0x2000, 0x206F),
    (0x2070, 0x20C0),
    (0x2100, 0x218B),
    (0x2190, 0x23FF),
    (0x2460, 0x24FF),
    (0x2500, 0x27BF),
    (0x3000, 0x303F),
    (0x3041, 0x30FF),
    (0x3131, 0x318E),
    (0x4E00, 0x9FFF),
    (0xA640, 0xA69F),
    (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF),
    (0xFB00, 0xFB4F),
    (0xFE00, 0xFE2F),
    (0xFF01, 0xFFEE),
    (0x10330, 0x1034A),
    (0x11300, 0x11374),
    (0x16D40, 0x16D79),
    (0x1D400, 0x1D7FF),
    (0x1F300, 0x1F64F),
    (0x1F900, 0x1F9FF),
    (0x20000, 0x2A6DF),
]
SPACES = [
    " ",
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "\t\t",
    " \n",
    "\n ",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\u0085",
    "\x0b",
    "\x0c",
    "\u200b",
    "\ufeff",
    " " * 9,
    "\n" * 5,
]
PIECES = [
    "'s",
    "'S",
    "'t",
    "'re",
    "'RE",
    "'ve",
    "'m",
    "'LL",
    "'ll",
    "'d",
    "'",
    "''",
    "'\u017f",
    "\u2019s",
    "it's",
    "don't",
    "I'll've",
    "!!!",
    "...",
    "---",
    "=>",
    "!=",
    "://",
    "www.",
    "@",
    "#",
    "$9.99",
    "100%",
    "3.14159",
    "1,000,000",
    "2024-01-31",
    "\u00bd",
    "\u0663\u0664\u0665",
    "\u2167",
    "e\u0301",
    "\u1100\u1161\u11a8",
    "\uac00\u11a8",
    "a\u0323\u0307",
    "a\u0307\u0323",
    "\u0958",
    "\u2126",
    "\u212b",
    "\u1e9b\u0323",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1e9\U0001f1ea",
    "\U0001f44d\U0001f3fd",
    "\u2581",
    "\u2581\u2581",
    "<0x41>",
    "<unk>",
    "\ufffd",
    "\x00",
    "\x7f",
    "\U0010ffff",
    "\ue000",
    "\u0378",
    "\U00016d68",
    "\u0345",
]
COMMON_WORDS = """
the of and to in is was he for it with as his on be at by had not are but from or have an they which
one you were her all their there been if more when will would who so no she other its may these what
them than some him time into only could new then do first any my now such like our over man me even
"""
WORDS = COMMON_WORDS.split()


def character(rng: random.Random) -> str:
    """Return one character of any script."""
    first, last = rng.choice(SCRIPTS)
    return chr(rng.randint(first, last))


def run_of_script(rng: random.Random) -> str:
    """Return a few characters of one script."""
    first, last = rng.choice(SCRIPTS)
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 12)))


def any_character(rng: random.Random) -> str:
    """Return any code point that is no surrogate."""
    code = rng.randrange(0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)


def random_string(rng: random.Random, extra: list[str]) -> str:
    """Return a short string of words, spaces, scripts, digits and the texts of special tokens."""
    makers = [
        lambda: rng.choice(WORDS),
        lambda: rng.choice(WORDS).title(),
        lambda: rng.choice(SPACES),
        lambda: rng.choice(SPACES),
        lambda: rng.choice(PIECES),
        lambda: run_of_script(rng),
        lambda: character(rng),
        lambda: any_character(rng),
        lambda: str(rng.randrange(10 ** rng.randint(1, 12))),
        lambda: chr(rng.randint(0x21, 0x7E)),
        lambda: "".join(chr(rng.randint(0x20, 0x7E)) for _ in range(rng.randint(1, 8))),
        lambda: rng.choice(extra) if extra else " ",
        lambda: rng.choice(["a", "ab", " ", "\u2581", "=", "\n"]) * rng.randint(1, 90),
    ]
    return "".join(rng.choice(makers)() for _ in range(rng.randint(0, 12)))


def random_strings(n: int, extra: list[str], seed: int = 1) -> list[str]:
    """Return n strings; `extra` are texts to mix in, like the special tokens."""
    rng = random.Random(seed)
    return [random_string(rng, extra) for _ in range(n)]


def library_text(n_bytes: int) -> str:
    """Return code and prose from the sources and documentation of Python's own library."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    parts, size = [], 0
    topics = folder / "pydoc_data" / "topics.py"
    for path in [topics, *sorted(folder.glob("*.py")), *sorted(folder.glob("*/*.py"))]:
        if size >= n_bytes:
            break
        parts.append(path.read_text(encoding="utf-8", errors="replace").replace("\\n", "\n"))
        size += len(parts[-1].encode())
    return "".join(parts)


def scripts_text(n_bytes: int, seed: int) -> str:
    """Return sentences in many scripts, with emoji, digits and punctuation."""
    rng = random.Random(seed)
    parts, size = [], 0
    while size < n_bytes:
        first, last = rng.choice(SCRIPTS)
        sentence = []
        for _ in range(rng.randint(3, 25)):
            sentence.append(
                "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 9)))
            )
            if rng.random() < 0.1:
                sentence.append(rng.choice(PIECES))
        parts.append(
            rng.choice(["", " ", "\n", "\n\n"])
            + rng.choice([" ", " ", ", ", ""]).join(sentence)
            + rng.choice(".?!\u3002\u2026")
        )
        size += len(parts[-1].encode())
    return "".join(parts)


def prose_text(n_bytes: int, seed: int) -> str:
    """Return English-looking sentences."""
    rng = random.Random(seed)
    parts, size = [], 0
    while size < n_bytes:
        sentence = " ".join(
            rng.choice(WORDS) + ("" if rng.random() < 0.7 else rng.choice(["s", "ing", "ed", "ly"]))
            for _ in range(rng.randint(4, 20))
        )
        parts.append(sentence.capitalize() + rng.choice([". ", ", ", "? ", '." "', ".\n\n", "; "]))
        size += len(parts[-1])
    return "".join(parts)


def mixed_text(n_bytes: int, seed: int = 1) -> str:
    """Return about n_bytes: half Python's library, a quarter many scripts, a quarter prose."""
    return (
        library_text(n_bytes // 2)
        + scripts_text(n_bytes // 4, seed)
        + prose_text(n_bytes // 4, seed)
    )


def documents(text: str, n_chars: int = 20_000) -> list[str]:
    """Cut a text into documents."""
    return [text[at : at + n_chars] for at in range(0, len(text), n_chars)]
