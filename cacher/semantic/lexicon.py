"""What the guard knows of a word, a number or a mark by itself, wherever it stands.

All that can be told of a token alone is told once, and looked up from then on; what it means in a
text depends on its neighbours, and is `cacher.semantic.reading`'s to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from cacher.semantic.numerals import ROMAN, digits, is_numeral
from cacher.semantic.opposites import DATE_STEMS, POLES
from cacher.semantic.words import (
    FUNCTION,
    KNOWN_NAMES,
    NEARNESS,
    NEGATING_PREFIXES,
    NEGATIONS,
    NOT_NEGATED,
    PARTICLE_VERBS,
    PARTICLES,
    SOFT_NEGATIONS,
    stem,
    words,
)

# A word with its apostrophes, a number with its points, or one mark.
_TOKEN = re.compile(
    r"[A-Za-z](?:\+\+|#)|[^\W\d_]+(?:['’][^\W\d_]+)*|(?:(?<!\S)-)?\d+(?:[.,:/]\d+)*"
    r"|(?<=\d) ?[-−] ?(?=\d)|(?<=\s)[-−](?=\s)|[<>=!≤≥]=|[<>≤≥≠]|[.!?;:](?=\s|$)"
    r"|[\n,%$€£°½¼¾()\"“”—+*×÷]"
)
_HYPHENS = frozenset("-−")
_SIGNS = {
    "%": "percent", "$": "dollar", "€": "euro", "£": "gbp",
    "+": "plus", "-": "minus", "−": "minus", "*": "multiply", "×": "multiply", "÷": "divide",
    "<": "less", "<=": "less", "≤": "less", ">": "more", ">=": "more", "≥": "more",
    "==": "equal", "!=": "unequal", "≠": "unequal",
}  # fmt: skip
_ENDS = frozenset(".!?;:\n")
_CONTRACTED = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"}
ASKING = words("who whom whose when where why what which how")
# Their neighbours decide what these are.
_CONTRASTS = PARTICLE_VERBS | PARTICLES | NEARNESS | ASKING | {"may", "march"}
_LONG = 32  # characters between two spaces; what is longer is not kept
_MANY = 4  # words and marks between two spaces, nor what has more
_KEPT = 16_384  # of such chunks

Pair = tuple[str, str]  # a word and its stem
Pole = tuple[int, int]  # an axis of `cacher.semantic.opposites`, and a side of it


@dataclass(eq=False, slots=True)
class Word:
    """A word; nothing changes it.

    Attributes:
        token: As written.
        lower: As written, in lower case.
        pair: The same without its contraction, and its stem.
        poles: Where it stands among the opposites.
        function: Whether it has nothing of its own to say.
        name: Whether it is a name where a sentence does not start with it.
        known: Whether it is a name in any case of letters.
        capital: Whether it starts with a capital.
        cased: Whether its case tells how the text writes capitals.
        possessive: Whether it has an "'s".
        numeral: Whether it may be of a number.
        roman: The number that it is after a name.
        negation: Whether it negates.
        soft: Whether it may stand for a negation.
        contracted: Whether a "not" is contracted with it.
        contrasts: Whether its neighbours decide what it is.
        root: The stem without a negating prefix, or "".
        before: The word that is written together with it: the "can" of "cannot".
        plain: Where its place decides nothing: its `pair`, `cased` and `poles`, which are all that
            matters.
    """

    token: str
    lower: str
    pair: Pair
    poles: tuple[Pole, ...]
    function: bool
    name: bool
    known: bool
    capital: bool
    cased: bool
    possessive: bool
    numeral: bool
    roman: str | None
    negation: bool
    soft: bool
    contracted: bool
    contrasts: bool
    root: str
    before: Word | None
    plain: tuple[Pair, bool, tuple[Pole, ...]] | None = None


@dataclass(eq=False, slots=True)
class Number:
    """Numbers in digits, each in one spelling."""

    numbers: tuple[str, ...]
    plain: ClassVar[None] = None
    lower: ClassVar[str] = ""


@dataclass(eq=False, slots=True)
class Mark:
    """A mark: it stands for a word, or ends a sentence, or neither."""

    shown: str
    pair: Pair | None
    poles: tuple[Pole, ...]
    root: str
    ends: bool
    plain: ClassVar[None] = None
    lower: ClassVar[str] = ""


Lexeme = Word | Number | Mark


class _Chunks(dict[str, tuple[Lexeme, ...]]):
    """What stands between two spaces, read when it is first looked up.

    Raises:
        LookupError: It depends on what is beyond the spaces.
    """

    def __missing__(self, chunk: str) -> tuple[Lexeme, ...]:
        if chunk[0] in _HYPHENS or chunk[-1] in _HYPHENS:
            raise LookupError(chunk)  # "5 - 3"
        found = tuple(map(_lexeme, _TOKEN.findall(chunk)))
        if len(chunk) <= _LONG and len(found) <= _MANY:
            if len(self) >= _KEPT:
                self.clear()
            self[chunk] = found
        return found


_CHUNKS = _Chunks()


def lexemes(text: str) -> list[Lexeme]:
    """Return the words, numbers and marks of a text.

    >>> [lexeme.lower for lexeme in lexemes("Is it 5 km?")]
    ['is', 'it', '', 'km', '']
    """
    if "\n" not in text:
        try:
            return list(chain.from_iterable(map(_CHUNKS.__getitem__, text.split())))
        except LookupError:
            pass
    return list(map(_lexeme, _TOKEN.findall(text)))


def _lexeme(token: str) -> Lexeme:
    first = token[0]
    if first.isalpha():
        return _word(token)
    if token[-1].isdigit() or first in "½¼¾":
        return Number(tuple(digits(token)))
    shown = token.strip()
    sign = _SIGNS.get(shown)
    if sign is None:
        return Mark(shown, None, (), "", first in _ENDS)
    return Mark(shown, (sign, stem(sign)), POLES.get(stem(sign), ()), root(sign), ends=False)


def _word(token: str) -> Word:
    word, ending = token.lower(), ""
    if "'" in word or "’" in word:
        word, ending = _without_ending(word.replace("’", "'"))
    if word == "cannot" and not ending:
        return _made(token, "not", "", _made(token, "can", "", None))
    return _made(token, word, ending, None)


def _made(token: str, word: str, ending: str, before: Word | None) -> Word:
    key, function, capital = stem(word), word in FUNCTION, token[0].isupper()
    dated, known = key in DATE_STEMS, word in KNOWN_NAMES
    made = Word(
        token=token,
        lower=token.lower(),
        pair=(word, key),
        poles=POLES.get(key, ()),
        function=function,
        name=(capital or known) and not function and not dated,
        known=known,
        capital=capital,
        cased=(function or dated) and word != "i" and len(word) > 1,
        possessive=ending == "s",
        numeral=is_numeral(word),
        roman=ROMAN.get(token),
        negation=word in NEGATIONS and ending != "not",
        soft=word in SOFT_NEGATIONS,
        contracted=ending == "not",
        contrasts=word in _CONTRASTS,
        root=root(word),
        before=before,
    )
    if not (
        made.name or (made.cased and capital) or made.numeral or made.roman or made.negation
        or made.soft or made.contracted or made.contrasts or made.root or before
    ):  # fmt: skip
        made.plain = made.pair, made.cased, made.poles
    return made


def _without_ending(word: str) -> tuple[str, str]:
    """Return a word without its contraction, and what that was: "s", "not" or ""."""
    if word == "n't":
        return "not", ""
    if word.endswith("n't"):
        base = word[:-3]
        return _CONTRACTED.get(base, base), "not"
    base, mark, ending = word.rpartition("'")
    if mark and ending in ("s", "re", "ve", "ll", "d", "m", ""):
        return base, ending
    return word, ""


def root(word: str) -> str:
    """Return the stem of a word without its negating prefix, or "".

    >>> root("unsafe"), root("under")
    ('saf', '')
    """
    if len(word) > 4 and word.startswith(NEGATING_PREFIXES) and word not in NOT_NEGATED:
        for prefix in NEGATING_PREFIXES:
            if word.startswith(prefix):
                return stem(word[len(prefix) :])
    return ""
