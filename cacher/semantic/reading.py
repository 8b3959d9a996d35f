"""What the guard sees in a text: its words, numbers, negations, opposites and names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from cacher.semantic.lexicon import ASKING, Mark, Number, Pair, Pole, Word, lexemes
from cacher.semantic.numerals import ORDINAL_ENDINGS, Numerals
from cacher.semantic.opposites import POLES, TWO_POLES
from cacher.semantic.words import (
    AUXILIARIES,
    COMMUTING,
    DETERMINERS,
    ENGLISH,
    FOREIGN,
    FUNCTION,
    KNOWN_NAMES,
    NEARNESS,
    PARTICLE_VERBS,
    PARTICLES,
    PRONOUNS,
    RELATIONS,
    STARTERS,
    TIMES,
    UNSURE,
    stem,
    words,
)

_AFTER_WHEN = words(
    "is are was were do does did can could will would should shall has have had may might to"
)
_ASKED = {word: POLES.get(stem(f"asks_{word}"), ()) for word in ASKING}
_HOW = {
    word: POLES.get(stem(f"how_{word}"), ())
    for word in words("old often far tall high deep heavy fast long hot")
}
_KNOWN = frozenset(stem(word) for word in KNOWN_NAMES)
_BETWEEN = FUNCTION | COMMUTING  # what separates words that say something in a row
_NOT = ("not", "not")
_NONE: frozenset[str] = frozenset()
LONG = 128  # words; of a longer text an embedding is an average in which a question drowns
_AROUND = 3  # words on each side of a relation that may be what it relates
_PARTICLE_WITHIN = 4  # words between a verb and its particle
_LONG_TEXT = 512  # characters; longer texts are read each time
KEPT = 4096  # texts

Name = tuple[str, ...]  # the stems of its words
Triple = tuple[str, str, str]
Sides = dict[str, list[tuple[list[str], list[str]]]]


class Outline(NamedTuple):
    """Who does what in a text, in stems.

    Attributes:
        clauses: What follows an auxiliary, three or more with nothing between them.
        triples: Three that say something in a row.
        around: For each relation, those before and after it wherever it stands.
    """

    clauses: list[list[str]]
    triples: list[Triple]
    around: Sides


class Reading:
    """A text as the guard compares it; it is kept, and not changed once it is read."""

    def __init__(self) -> None:
        self.spelled: list[Pair] = []  # words in lower case, contractions undone, marks gone
        self.undetermined: list[Pair] = []  # the same without "a", "the", "my"
        self.words: tuple[str, ...] = ()
        self.stems: tuple[str, ...] = ()
        self.known = _NONE  # the stems
        self.english = False
        self.numerals = Numerals()
        self.poles: dict[Pole, str] = {}  # and the first word there
        self.negations = 0
        self.soft_negations = 0  # words that may stand for one
        self.negates = False  # whether there is any of these, or a word like "unsafe"
        self.negated = _NONE  # stems of what is negated
        self.flipped: tuple[Pole, ...] = ()  # poles reached by a negation
        self.rooted: frozenset[tuple[str, str, str]] = frozenset()  # "unsafe", its stem, "saf"
        self.names: tuple[Name, ...] = ()
        self.shown: dict[Name, str] = {}  # the names as written
        self.judged = _NONE  # stems of numbers and names
        self._outline: Outline | None = None

    @property
    def outline(self) -> Outline:
        """Who does what; asked for where two texts say the same words in another order."""
        if self._outline is None:
            self._outline = _outlined(self.undetermined)
        return self._outline


def _outlined(pairs: Sequence[Pair]) -> Outline:
    clauses: list[list[str]] = []
    clause: list[str] | None = None  # after the last auxiliary, unless it has ended
    triples: list[Triple] = []
    before = last = ""  # the last two, unless something stands between
    content: list[str] = []
    at: list[tuple[str, int]] = []  # relations, and the content before them
    for word, key in pairs:
        if word in RELATIONS:
            at.append((word, len(content)))
        if word not in FUNCTION:
            content.append(key)
        if word not in _BETWEEN:
            if clause is not None:
                clause.append(key)
            if before:
                triples.append((before, last, key))
            before, last = last, key
        elif word in AUXILIARIES:
            before, last, clause = "", "", []
            clauses.append(clause)
        else:
            before, last, clause = "", "", None
    around: Sides = {}
    for word, i in at:
        sides = content[max(0, i - _AROUND) : i], content[i : i + _AROUND]
        around.setdefault(word, []).append(sides)
    return Outline([clause for clause in clauses if len(clause) >= 3], triples, around)


class Reader:
    """Reads one text, a token at a time, looking at most a few tokens around."""

    def __init__(self, text: str) -> None:
        self.reading = Reading()
        self._lexemes = lexemes(text.strip())  # a hyphen is a minus between spaces, not at an end
        self._starts = True  # a sentence starts here
        self._verb = 0  # words left in which a particle belongs to the verb before
        self._asked = False
        self._targets = 0  # words to come that a negation is about
        self._unsure = False
        self._run: list[Word] = []  # capitalised words in a row
        self._run_starts = False
        self._low = self._high = (
            0  # function words in lower case, and capitalised where none is due
        )

    def read(self) -> Reading:
        """Return what was seen, of a long text no more than tells that it is one."""
        spelled, seen, low = self.reading.spelled, self.reading.poles, 0
        expects = True  # whether what came before is about a plain word, too, or ended by it
        for i, lexeme in enumerate(self._lexemes):
            if i > LONG and len(spelled) > LONG:
                break
            if lexeme.plain is not None and not expects:
                pair, cased, poles = lexeme.plain
                spelled.append(pair)
                low += cased
                for pole in poles:
                    seen.setdefault(pole, pair[0])
                continue
            if isinstance(lexeme, Word):
                self._word(i, lexeme)
            elif isinstance(lexeme, Number):
                self._number(lexeme.numbers)
            else:
                self._mark(lexeme)
            expects = bool(
                self._starts
                or self._run
                or self._verb
                or self._targets
                or self.reading.numerals.current is not None
            )
        self._low += low
        self._end_run()
        self.reading.numerals.end()
        self._finish()
        return self.reading

    def _finish(self) -> None:
        reading = self.reading
        if self._high > self._low:  # headings and shouting: capitals say nothing
            reading.names = tuple(name for name in reading.names if name[0] in _KNOWN)
        if reading.names:
            reading.judged = reading.judged.union(*reading.names)
        if reading.spelled:
            reading.words, reading.stems = zip(*reading.spelled, strict=True)
        reading.known = frozenset(reading.stems)
        reading.undetermined = [pair for pair in reading.spelled if pair[0] not in DETERMINERS]
        reading.negates = bool(reading.negations or reading.soft_negations or reading.rooted)
        reading.english = not ENGLISH.isdisjoint(reading.words) or (
            FOREIGN.isdisjoint(reading.words) and all(map(str.isascii, reading.words))
        )

    # ---- tokens

    def _mark(self, mark: Mark) -> None:
        self._end_run()
        if mark.pair is not None:
            self._spell(mark.pair, mark.root)
            self._stand(mark.poles, mark.shown)
        elif mark.ends:
            self._starts = True
            self.reading.numerals.end()
            self._targets = self._verb = 0

    def _number(self, numbers: Sequence[str]) -> None:
        self._starts = False
        for number in numbers:
            self.reading.numerals.add(number)
            self.reading.spelled.append((number, number))
        self.reading.judged = self.reading.judged.union(numbers)

    def _word(self, i: int, word: Word) -> None:
        starts, self._starts = self._starts, False
        if word.before is not None:
            self._add(i, word.before, starts=starts)
        self._add(i, word, starts=starts)
        if word.negation:
            self._negation(i, starts=starts, contracted="")
        elif word.contracted:
            self._negation(i, starts=starts, contracted=word.pair[0])
            self.reading.spelled.append(_NOT)

    def _add(self, i: int, word: Word, *, starts: bool) -> None:
        if word.roman and self._run:
            self._number([word.roman])
            return
        numerals = self.reading.numerals
        if (word.numeral or numerals.current is not None) and (
            numerals.word(word.pair[0]) or (word.pair[0] in ORDINAL_ENDINGS and numerals.follows)
        ):
            self._spell(word.pair, word.root)
            self.reading.judged |= {word.pair[1]}
            return
        self._spell(word.pair, word.root)
        self._capital(word, starts=starts)
        if word.soft:
            self.reading.soft_negations += 1
        self._contrast(i, word)

    def _spell(self, pair: Pair, root: str) -> None:
        self.reading.spelled.append(pair)
        if root:
            self.reading.rooted |= {(*pair, root)}

    # ---- opposites, dates, units, what is asked

    def _stand(self, poles: Sequence[Pole], shown: str) -> None:
        for pole in poles:
            self.reading.poles.setdefault(pole, shown)

    def _contrast(self, i: int, word: Word) -> None:
        if self._verb or word.contrasts:
            special = self._among(i, word)
            if special is not None:
                key, shown = special
                self._stand(POLES.get(key, ()), shown)
                return
        if self._targets and not word.function:
            self._target(word)
        elif word.poles:
            self._stand(word.poles, word.pair[0])

    def _among(self, i: int, word: Word) -> tuple[str, str] | None:
        """Return what a word is among its neighbours: the stem of an opposite, and how to show it.

        None: what it is alone.
        """
        shown, following = word.pair[0], self._following(i)
        if self._verb:
            self._verb -= 1
            if shown in PARTICLES:
                self._verb = 0
                return f"turned_{shown}", shown
        if shown in ("on", "off") and not following:  # "is the light on?"
            return f"turned_{shown}", shown
        if shown in PARTICLE_VERBS:
            self._verb = _PARTICLE_WITHIN
        if shown in ASKING:
            self._ask(shown, following)
        elif shown in NEARNESS and following in TIMES:
            near = "last" if shown in ("previous", "past") else shown
            return stem(f"{near}_time"), f"{shown} {following}"
        elif shown in ("may", "march") and word.capital and i:
            return f"{shown}_month", word.token
        return None

    def _ask(self, word: str, following: str) -> None:
        if self._asked:
            return
        if word in ("when", "where") and following not in _AFTER_WHEN:
            return
        self._asked = True
        self._stand(_ASKED[word], word)
        if word == "how" and following in _HOW:
            self._stand(_HOW[following], f"how {following}")

    def _following(self, i: int) -> str:
        """Return the next word, in lower case; "" where none follows in this clause."""
        return self._lexemes[i + 1].lower if i + 1 < len(self._lexemes) else ""

    # ---- negations

    def _negation(self, i: int, *, starts: bool, contracted: str) -> None:
        following = self._following(i)
        if contracted and following in PRONOUNS and not self._following(i + 1):
            return  # "isn't it?"
        if not following and i and self._lexemes[i - 1].lower == "or":
            return  # "or not"
        if following in UNSURE or (contracted and starts and contracted != "do"):
            self.reading.soft_negations += 1  # "not sure how", "isn't a whale a fish?"
            self._unsure = True
        else:
            self.reading.negations += 1
            self._unsure = False
        # "why doesn't my phone charge": who comes before what
        self._targets = 2 if contracted and following in DETERMINERS else 1

    def _target(self, word: Word) -> None:
        """Take a word that a negation is about: of two poles it stands at the other one."""
        self._targets -= 1
        self.reading.negated |= {word.pair[1]}
        for axis, pole in word.poles:
            flips = not self._unsure and axis in TWO_POLES
            at = (axis, 1 - pole if flips else pole)
            if flips:
                self.reading.flipped += (at,)
            self.reading.poles.setdefault(at, word.pair[0])

    # ---- names

    def _capital(self, word: Word, *, starts: bool) -> None:
        if word.cased and not starts:
            self._high += word.capital
            self._low += not word.capital
        if not word.name:
            if self._run:
                self._end_run()
            return
        if not self._run:
            starter = word.pair[0] in STARTERS
            self._run_starts = starts and not word.known and not (word.possessive and not starter)
        elif self._run_starts and len(self._run) == 1 and self._run[0].lower in STARTERS:
            self._run, self._run_starts = [], False
        self._run.append(word)

    def _end_run(self) -> None:
        if not self._run:
            return
        run, self._run = self._run, []
        if self._run_starts and len(run) == 1:
            return  # a capital that any sentence has
        name = tuple(word.pair[1] for word in run)
        self.reading.names += (name,)
        self.reading.shown.setdefault(name, " ".join(word.token for word in run))


def read(text: str) -> Reading:
    """Return what the guard sees in a text.

    >>> seen = read("Why doesn't Anna's phone turn on after 2 days?")
    >>> seen.negations, seen.names, seen.numerals.hard
    (1, (('anna',),), ['2'])
    """
    return _kept(text) if len(text) <= _LONG_TEXT else Reader(text).read()


def prepare(text: str) -> None:
    """Read a text that will be compared, so that who finds it need not wait."""
    if len(text) <= _LONG_TEXT:
        _ = _kept(text).outline


@lru_cache(maxsize=KEPT)
def _kept(text: str) -> Reading:
    """Read a text once for the many times it is compared."""
    return Reader(text).read()
