"""What the guard sees in a text: its words, numbers, negations, opposites and names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from cacher.semantic.numerals import ORDINAL_ENDINGS, ROMAN, Numerals, digits, is_numeral
from cacher.semantic.opposites import DATE_STEMS, POLES, TWO_POLES
from cacher.semantic.words import (
    AUXILIARIES,
    COMMUTING,
    DETERMINERS,
    ENGLISH,
    FOREIGN,
    FUNCTION,
    KNOWN_NAMES,
    NEARNESS,
    NEGATIONS,
    PARTICLE_VERBS,
    PARTICLES,
    PRONOUNS,
    RELATIONS,
    SOFT_NEGATIONS,
    STARTERS,
    TIMES,
    UNSURE,
    stem,
    words,
)

# A word with its apostrophes, a number with its points, or one mark.
_TOKEN = re.compile(
    r"[A-Za-z](?:\+\+|#)|[^\W\d_]+(?:['’][^\W\d_]+)*|(?:(?<!\S)-)?\d+(?:[.,:/]\d+)*"
    r"|(?<=\d) ?[-−] ?(?=\d)|(?<=\s)[-−](?=\s)|[<>=!≤≥]=|[<>≤≥≠]|[.!?;:](?=\s|$)"
    r"|[\n,%$€£°½¼¾()\"“”—+*×÷]"
)
_SIGNS = {
    "%": "percent", "$": "dollar", "€": "euro", "£": "gbp",
    "+": "plus", "-": "minus", "−": "minus", "*": "multiply", "×": "multiply", "÷": "divide",
    "<": "less", "<=": "less", "≤": "less", ">": "more", ">=": "more", "≥": "more",
    "==": "equal", "!=": "unequal", "≠": "unequal",
}  # fmt: skip
_ENDS = frozenset(".!?;:\n")
_CONTRACTED = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"}
_ASKING = words("who whom whose when where why what which how")
_AFTER_WHEN = words(
    "is are was were do does did can could will would should shall has have had may might to"
)
_HOW = words("old often far tall high deep heavy fast long hot")
LONG = 128  # words; of a longer text an embedding is an average in which a question drowns
_AROUND = 3  # words on each side of a relation that may be what it relates
_PARTICLE_WITHIN = 4  # words between a verb and its particle

Sides = dict[str, list[tuple[list[str], list[str]]]]


@dataclass(eq=False)
class Reading:
    """A text as the guard compares it; it is kept, and not changed once it is read."""

    words: list[str] = field(default_factory=list)  # lower case, contractions undone, marks gone
    stems: list[str] = field(default_factory=list)
    numerals: Numerals = field(default_factory=Numerals)
    negations: int = 0
    soft_negations: int = 0  # words that may stand for one
    negated: set[str] = field(default_factory=set)  # stems of what is negated
    flipped: list[tuple[int, int]] = field(default_factory=list)  # poles reached by a negation
    poles: dict[tuple[int, int], list[str]] = field(default_factory=dict)  # and the words there
    names: list[tuple[str, ...]] = field(default_factory=list)  # each the stems of its words
    shown: dict[tuple[str, ...], str] = field(default_factory=dict)  # the names as written
    judged: set[str] = field(default_factory=set)  # stems of numbers and names
    english: bool = False
    known: frozenset[str] = frozenset()  # the stems
    spelled: list[tuple[str, str]] = field(default_factory=list)  # the words with their stems
    undetermined: list[tuple[str, str]] = field(default_factory=list)  # without "a", "the", "my"

    @cached_property
    def clauses(self) -> list[list[str]]:
        """Who does what after an auxiliary: stems, three or more with nothing between them."""
        found: list[list[str]] = []
        clause: list[str] | None = None
        for word, key in self.undetermined:
            if word in AUXILIARIES:
                clause = []
                found.append(clause)
            elif word in COMMUTING or word in FUNCTION:
                clause = None
            elif clause is not None:
                clause.append(key)
        return [clause for clause in found if len(clause) >= 3]

    @cached_property
    def triples(self) -> list[tuple[str, str, str]]:
        """Stems of three words that say something in a row."""
        plain = [
            "" if word in FUNCTION or word in COMMUTING else key for word, key in self.undetermined
        ]
        return [row for row in zip(plain, plain[1:], plain[2:], strict=False) if all(row)]

    @cached_property
    def around(self) -> Sides:
        """For each relation, the stems before and after it wherever it stands."""
        content: list[str] = []
        at: list[tuple[str, int]] = []  # relations, and the content before them
        for word, key in self.spelled:
            if word in RELATIONS:
                at.append((word, len(content)))
            if word not in FUNCTION:
                content.append(key)
        found: Sides = {}
        for word, i in at:
            sides = content[max(0, i - _AROUND) : i], content[i : i + _AROUND]
            found.setdefault(word, []).append(sides)
        return found


class Reader:
    """Reads one text, a token at a time, looking at most a few tokens around."""

    def __init__(self, text: str) -> None:
        self.reading = Reading()
        self._tokens = _TOKEN.findall(text)
        self._starts = True  # a sentence starts here
        self._verb = 0  # words left in which a particle belongs to the verb before
        self._targets = 0  # words to come that a negation is about
        self._unsure = False
        self._asked = False
        self._run: list[str] = []  # capitalised words in a row, as written
        self._run_starts = False
        self._low = self._high = (
            0  # function words in lower case, and capitalised where none is due
        )

    def read(self) -> Reading:
        """Return what was seen, of a long text no more than tells that it is one."""
        reading = self.reading
        for i, token in enumerate(self._tokens):
            if len(reading.words) > LONG:
                break
            first = token[0]
            key = _plain(token) if len(token) <= _LONG_WORD else None
            if key is not None and not self._targets and reading.numerals.idle:
                self._plain_word(token, key)
            elif first.isalpha():
                self._word(i, token)
            elif token[-1].isdigit() or first in "½¼¾":
                self._number(token)
            else:
                self._mark(token)
        self._end_run()
        reading.numerals.end()
        if self._high > self._low:  # headings and shouting: capitals say nothing
            reading.names = [name for name in reading.names if name[0] in _KNOWN]
        reading.judged.update(*reading.names)
        reading.english = not ENGLISH.isdisjoint(reading.words) or (
            FOREIGN.isdisjoint(reading.words) and all(map(str.isascii, reading.words))
        )
        reading.known = frozenset(reading.stems)
        reading.spelled = list(zip(reading.words, reading.stems, strict=True))
        reading.undetermined = [pair for pair in reading.spelled if pair[0] not in DETERMINERS]
        return reading

    def _plain_word(self, word: str, key: str) -> None:
        """Do for a plain word what `_word` would do, which is little."""
        if self._run:
            self._end_run()
        if self._verb:
            self._verb -= 1
        if not self._starts and len(word) > 1 and word in FUNCTION:
            self._low += 1
        self._starts = False
        self.reading.words.append(word)
        self.reading.stems.append(key)
        if key in POLES:
            self._pole(key, word)

    def _mark(self, mark: str) -> None:
        self._end_run()
        sign = _SIGNS.get(mark.strip())
        if sign is not None:
            key = stem(sign)
            self.reading.words.append(sign)
            self.reading.stems.append(key)
            self._pole(key, mark.strip())
        elif mark[0] in _ENDS:
            self._starts = True
            self.reading.numerals.end()
            self._targets = self._verb = 0

    def _number(self, token: str) -> None:
        self._starts = False
        for number in digits(token):
            self.reading.numerals.add(number)
            self.reading.words.append(number)
            self.reading.stems.append(number)
            self.reading.judged.add(number)

    def _word(self, i: int, token: str) -> None:
        starts, self._starts = self._starts, False
        word = token.lower()
        possessive = False
        if "'" in word or "’" in word:
            word, ending = _without_ending(word.replace("’", "'"))
            possessive = ending == "s"
            if ending == "not":
                self._add(i, word, token, starts=starts, possessive=False)
                self._negation(i, starts=starts, contracted=word)
                self.reading.words.append("not")
                self.reading.stems.append("not")
                return
        elif word == "cannot":
            self._add(i, "can", token, starts=starts, possessive=False)
            word = "not"
        self._add(i, word, token, starts=starts, possessive=possessive)
        if word in NEGATIONS:
            self._negation(i, starts=starts, contracted="")

    def _add(self, i: int, word: str, token: str, *, starts: bool, possessive: bool) -> None:
        reading, key = self.reading, stem(word)
        if token in ROMAN and self._run:
            self._number(ROMAN[token])
            return
        if reading.numerals.word(word) or (word in ORDINAL_ENDINGS and reading.numerals.follows):
            reading.words.append(word)
            reading.stems.append(key)
            reading.judged.add(key)
            return
        reading.words.append(word)
        reading.stems.append(key)
        self._capital(word, token, starts=starts, possessive=possessive)
        if word in SOFT_NEGATIONS:
            reading.soft_negations += 1
        self._contrast(i, word, key, token)

    # ---- opposites, dates, units, what is asked --------------------------------------------------

    def _pole(self, key: str, shown: str, *, flip: bool = False) -> None:
        for axis, pole in POLES.get(key, ()):
            if flip and axis in TWO_POLES:
                pole = 1 - pole
                self.reading.flipped.append((axis, pole))
            self.reading.poles.setdefault((axis, pole), []).append(shown)

    def _contrast(self, i: int, word: str, key: str, token: str) -> None:
        following = self._following(i)
        if self._verb:
            self._verb -= 1
            if word in PARTICLES:
                self._verb = 0
                self._pole(f"turned_{word}", word)
                return
        if word in ("on", "off") and not following:  # "is the light on?"
            self._pole(f"turned_{word}", word)
            return
        if word in PARTICLE_VERBS:
            self._verb = _PARTICLE_WITHIN
        if word in _ASKING:
            self._ask(word, following)
        elif word in NEARNESS and following in TIMES:
            near = "last" if word in ("previous", "past") else word
            self._pole(stem(f"{near}_time"), f"{word} {following}")
            return
        elif word in ("may", "march") and token[0].isupper() and i:
            self._pole(f"{word}_month", token)
            return
        flip = False
        if self._targets and word not in FUNCTION:
            self._targets -= 1
            flip = not self._unsure
            self.reading.negated.add(key)
        if key in POLES:
            self._pole(key, word, flip=flip)

    def _ask(self, word: str, following: str) -> None:
        if self._asked:
            return
        if word in ("when", "where") and following not in _AFTER_WHEN:
            return
        self._asked = True
        self._pole(stem(f"asks_{word}"), word)
        if word == "how" and following in _HOW:
            self._pole(stem(f"how_{following}"), f"how {following}")

    def _following(self, i: int) -> str:
        """Return the next word, in lower case; "" where none follows in this clause."""
        if i + 1 < len(self._tokens) and self._tokens[i + 1][0].isalpha():
            token: str = self._tokens[i + 1]
            return token.lower()
        return ""

    # ---- negations -------------------------------------------------------------------------------

    def _negation(self, i: int, *, starts: bool, contracted: str) -> None:
        following = self._following(i)
        tokens = self._tokens
        last = i + 1 >= len(tokens) or not tokens[i + 1][0].isalpha()
        if contracted and following in PRONOUNS and not self._following(i + 1):
            return  # "isn't it?"
        if last and i and tokens[i - 1].lower() == "or":
            return  # "or not"
        if following in UNSURE or (contracted and starts and contracted != "do"):
            self.reading.soft_negations += 1  # "not sure how", "isn't a whale a fish?"
            self._unsure = True
        else:
            self.reading.negations += 1
            self._unsure = False
        # "why doesn't my phone charge": who comes before what
        self._targets = 2 if contracted and following in DETERMINERS else 1

    # ---- names -----------------------------------------------------------------------------------

    def _capital(self, word: str, token: str, *, starts: bool, possessive: bool) -> None:
        known = word in KNOWN_NAMES
        capital = token[0].isupper()
        if word in FUNCTION or stem(word) in DATE_STEMS:
            if not starts and word != "i" and len(word) > 1:
                self._high += capital
                self._low += not capital
            if word in FUNCTION:
                self._end_run()
                return
        if stem(word) in DATE_STEMS or not (capital or known):
            self._end_run()
            return
        if not self._run:
            self._run_starts = starts and not known and not (possessive and word not in STARTERS)
        elif self._run_starts and len(self._run) == 1 and self._run[0].lower() in STARTERS:
            self._run, self._run_starts = [], False
        self._run.append(token)

    def _end_run(self) -> None:
        if not self._run:
            return
        run, self._run = self._run, []
        if self._run_starts and len(run) == 1:
            return  # a capital that any sentence has
        plain = [_without_ending(token.lower().replace("’", "'"))[0] for token in run]
        name = tuple(stem(word) for word in plain)
        self.reading.names.append(name)
        self.reading.shown.setdefault(name, " ".join(run))


_KNOWN = frozenset(stem(word) for word in KNOWN_NAMES)
# Words that something is asked about besides their stem. In lower case, all others are plain.
_SPECIAL = (
    KNOWN_NAMES | NEARNESS | NEGATIONS | PARTICLE_VERBS | PARTICLES | SOFT_NEGATIONS | _ASKING
    | ORDINAL_ENDINGS | {"cannot", "may", "march", "on", "off"}
)  # fmt: skip
_LONG_WORD = 32  # characters; longer words are not kept
_LONG_TEXT = 512  # characters; longer texts are read each time
KEPT = 4096  # texts


@lru_cache(maxsize=16_384)
def _plain(token: str) -> str | None:
    """Return the stem of a token that is a plain word, or None."""
    if not (token.isalpha() and token == token.lower()) or token in _SPECIAL or is_numeral(token):
        return None
    key = stem(token)
    return None if key in DATE_STEMS else key


def _without_ending(word: str) -> tuple[str, str]:
    """Return a word without its contraction, and what that was: "s", "not" or ""."""
    if word.endswith("n't"):
        base = word[:-3]
        return _CONTRACTED.get(base, base), "not"
    base, mark, ending = word.rpartition("'")
    if mark and ending in ("s", "re", "ve", "ll", "d", "m", ""):
        return base, ending
    return word, ""


def read(text: str) -> Reading:
    """Return what the guard sees in a text.

    >>> seen = read("Why doesn't Anna's phone turn on after 2 days?")
    >>> seen.negations, seen.names, seen.numerals.hard
    (1, [('anna',)], ['2'])
    """
    return _kept(text) if len(text) <= _LONG_TEXT else Reader(text).read()


@lru_cache(maxsize=KEPT)
def _kept(text: str) -> Reading:
    """Read a text once for the many times an entry is found."""
    return Reader(text).read()
