"""The guard of the semantic cache: texts near each other may still ask for different things.

An embedding hardly sees a "not", a number or a name: "How do I turn on dark mode?" and "How do I
turn off dark mode?" have a similarity of 0.93. The guard reads both texts and refuses to let them
share an answer when they differ in

* a number, in digits or words: "5 km" and "6 km", "Python 3.11" and "3.12", "the third" and "the
  fourth"; its unit: "in feet" and "in metres";
* a date: a month, a weekday, "next week" and "last week";
* a negation: "is it safe" and "is it not safe", "legal" and "illegal";
* an opposite: on and off, before and after, buy and sell (a table, `cacher.semantic.opposites`);
* what is asked for: when and where, how old and how tall;
* a capitalised name: Paris and Rome;
* the order of what stands around a relation: "miles to kilometres" and "kilometres to miles";
* one thing in the same sentence: "get rid of ants" and "get rid of wasps", where the words are not
  known to mean the same (`cacher.semantic.synonyms`); "safe" and "safe for children";

and where one has more than 128 words: a question drowns in the embedding of a long text.

Where it errs, an answer is made twice; where it is silent, the similarity decides. It knows
English; of other texts it compares the digits. The rules look at words only, in one pass over each
text, so that the time is linear in their lengths.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from itertools import pairwise

from cacher.checks import string
from cacher.semantic.opposites import KINDS
from cacher.semantic.reading import LONG, Outline, Reading, Sides, read
from cacher.semantic.synonyms import alike
from cacher.semantic.words import (
    COMMUTING,
    FUNCTION,
    NAMES_OF,
    RELATIONS,
    stem,
)

_FRAME = 2  # words that stay the same around another thing, at least
_LONG_FRAME = 6  # around a whole phrase
_REPLACED = 3  # words that name a thing, at most
_FUNCTION_STEMS = frozenset(stem(word) for word in FUNCTION)
_DO = frozenset(("do", "does", "did"))
_WORD = re.compile(r"\w+|[^\w\s.,;!?]")
_ADJECTIVE = re.compile("(?:e?an|ian|ic|ish|ese)$")
_COUNTRY = re.compile("(?:ia|as|[aeoy])$")


def guard(query: str, other: str) -> str | None:
    """Return why two texts must not share an answer, or None where nothing speaks against it.

    The same for both orders of the texts, up to the order of the words in the reason.

    >>> guard("How do I turn on dark mode?", "How do I turn off dark mode?")
    'opposite: on and off'
    >>> guard("What is machine learning?", "Can you explain machine learning?") is None
    True
    >>> guard("Is Java older than Rust?", "Is Rust older than Java?")
    'order: java and rust'

    Raises:
        TypeError: Not two strings.
    """
    a, b = read(string("query", query)), read(string("other", other))
    if max(len(a.words), len(b.words)) > LONG:
        same = _WORD.findall(query.casefold()) == _WORD.findall(other.casefold())
        return None if same else f"length: over {LONG} words"
    if a.stems == b.stems:
        return None
    if not (a.english and b.english):
        return _numbers(a, b)
    return (
        _numbers(a, b)
        or _negations(a, b)
        or _contrasts(a, b)
        or _out_of(a, b)
        or _names(a, b)
        or _order(a, b)
        or _replaced(a, b)
    )


def _pair(what: str, a: str, b: str) -> str:
    """Return a reason: both words, or the one that only one text has."""
    return f"{what}: {a} and {b}" if a and b else f"{what}: {a or b}"


def _numbers(a: Reading, b: Reading) -> str | None:
    ours, theirs = a.numerals, b.numerals
    if ours.hard == theirs.hard and ours.soft == theirs.soft:
        return None
    left, right = Counter(ours.hard), Counter(theirs.hard)
    missing = sorted((left - right).keys() - set(theirs.soft))
    extra = sorted((right - left).keys() - set(ours.soft))
    if missing or extra:
        return _pair("number", ", ".join(missing[:3]), ", ".join(extra[:3]))
    soft, other = set(ours.soft) - set(right), set(theirs.soft) - set(left)
    if soft and other and not soft & other:
        return _pair("number", min(soft), min(other))
    commutes = COMMUTING.intersection(a.words) and COMMUTING.intersection(b.words)
    if left != right or ours.hard == theirs.hard or commutes:
        return None
    first = next(i for i, number in enumerate(ours.hard) if number != theirs.hard[i])
    return f"order: {ours.hard[first]} and {theirs.hard[first]}"


def _contrasts(a: Reading, b: Reading) -> str | None:
    """Compare on every axis: each text has a pole there that the other has not.

    Dates are compared over all axes: "yesterday" and "on Sunday" are two days.
    """
    if a.poles.keys() <= b.poles.keys() or b.poles.keys() <= a.poles.keys():
        return None
    ours = {key[0]: shown for key, shown in a.poles.items() if key not in b.poles}
    theirs = {key[0]: shown for key, shown in b.poles.items() if key not in a.poles}
    if axes := ours.keys() & theirs.keys():
        axis = min(axes)
        return _pair(KINDS[axis], ours[axis], theirs[axis])
    dates = [[key for key in text.poles if KINDS[key[0]] == "date"] for text in (a, b)]
    if all(dates) and set(dates[0]).isdisjoint(dates[1]):
        return _pair("date", a.poles[dates[0][0]], b.poles[dates[1][0]])
    return None


def _out_of(a: Reading, b: Reading) -> str | None:
    """Find "out of stock" where the other text says "in stock"."""
    if "out" not in a.known and "out" not in b.known:
        return None
    for one, other in ((a, b), (b, a)):
        if "out" in one.words and "in" in other.words and "out" not in other.words:
            state = one.words[one.words.index("out") + 1 :][:2]
            if len(state) == 2 and state[0] == "of" and ("in", state[1]) in pairwise(other.words):
                return _pair("opposite", *(("out", "in") if one is a else ("in", "out")))
    return None


def _negations(a: Reading, b: Reading) -> str | None:
    if not (a.negates or b.negates):
        return None
    ours, theirs = _count(a, b), _count(b, a)
    if ours[0] > theirs[1] or theirs[0] > ours[1]:
        return "negation"
    # "red, not blue" and "blue, not red"
    here, there = a.negated - b.negated, b.negated - a.negated
    if here and there and here.intersection(b.stems) and there.intersection(a.stems):
        return "negation"
    return None


def _count(a: Reading, b: Reading) -> tuple[int, int]:
    """Return how many negations a text has at least and at most, beside another text."""
    least, most = a.negations, a.negations + a.soft_negations
    for _, key, root in a.rooted:
        if key not in b.known and root in b.known:
            least, most = least + 1, most + 1  # "unsafe" where the other says "safe"
    for pole in a.flipped:
        if pole in b.poles and pole not in b.flipped:
            least = max(0, least - 1)  # "not work" where the other says "fail"
    return least, most


def _names(a: Reading, b: Reading) -> str | None:
    if not a.names and not b.names:
        return None
    missing = [name for name in a.names if not _has(b, name)]
    extra = [name for name in b.names if not _has(a, name)]
    if not missing and not extra:
        return None
    return _pair(
        "name",
        a.shown[missing[0]] if missing else "",
        b.shown[extra[0]] if extra else "",
    )


def _has(reading: Reading, name: tuple[str, ...]) -> bool:
    """Whether a text has a name, or its other form, or enough of it to mean the same."""
    wanted = set(name)
    for other in reading.names:
        if wanted.issubset(other) or wanted.issuperset(other):
            return True
    if len(name) > 1 and any(name[-1] == other[-1] for other in reading.names):
        return False  # Marie Curie and Pierre Curie
    stems = reading.known
    if any(stems.issuperset(form) for form in NAMES_OF.get(name, (name,))):
        return True
    known = len(wanted & stems)
    if name[-1] in stems or 2 * known > len(wanted):
        return True
    joined = "".join(name)
    if joined in stems or any(
        first + second == joined for first, second in pairwise(reading.stems)
    ):
        return True  # Wi-Fi and WiFi
    initials = "".join(word[0] for word in name)
    if len(name) > 1:
        return initials in stems
    return _abbreviates(name[0], reading) or any(_belongs(name[0], key) for key in stems)


def _belongs(a: str, b: str) -> bool:
    """Whether one of two stems is the adjective of the other: Mexico and Mexican."""
    if min(len(a), len(b)) < 5 or a[:4] != b[:4]:
        return False
    bases = [_ADJECTIVE.sub("", name) for name in (a, b)]
    if bases == [a, b]:
        return False
    return bases[0] == bases[1] or any(
        base == name or base == _COUNTRY.sub("", name)
        for base, name in zip(bases, (b, a), strict=True)
    )


def _abbreviates(name: str, reading: Reading) -> bool:
    """Whether words in a row begin with the letters of an abbreviation."""
    if not 2 <= len(name) <= 5:
        return False
    return name in "".join(word[0] for word in reading.words if word not in FUNCTION)


def _order(a: Reading, b: Reading) -> str | None:
    """Compare what stands on the sides of a relation, or is asked for."""
    shared = a.known & b.known
    swapped = None
    if not _in_order(a, b, shared):
        ours, theirs = a.outline, b.outline
        swapped = (
            _first(_mirrored(ours, theirs))
            or _first(_crossed(ours.around, theirs.around))
            or _counted(a, b, shared)
        )
    swapped = swapped or _roles(a, b, shared) or _acts(a, b, shared)
    if swapped is None:
        return None
    first, second = (
        min(word for word, stem_ in (*a.spelled, *b.spelled) if stem_ == key) for key in swapped
    )
    return f"order: {first} and {second}"


def _in_order(a: Reading, b: Reading, shared: Set[str]) -> bool:
    """Whether the words that both have are in the same order, none of them twice."""
    ours = list(filter(shared.__contains__, a.stems))
    return len(ours) == len(shared) and ours == list(filter(shared.__contains__, b.stems))


def _counted(a: Reading, b: Reading, shared: Set[str]) -> tuple[str, str] | None:
    """Find "how many euros is a pound" where the other text says "how many pounds is a euro"."""
    if not _both("many", a, b, shared):
        return None
    ours, theirs = _behind(a, "many"), _behind(b, "many")
    if ours and theirs and ours != theirs and ours in b.stems and theirs in a.stems:
        return ours, theirs
    return None


def _both(word: str, a: Reading, b: Reading, shared: Set[str]) -> bool:
    """Whether both texts have a word that is its own stem."""
    return word in shared and word in a.words and word in b.words


def _behind(reading: Reading, word: str) -> str:
    """Return the stem behind a word, or ""."""
    i = reading.words.index(word) + 1
    return reading.stems[i] if i < len(reading.stems) else ""


def _acts(a: Reading, b: Reading, shared: Set[str]) -> tuple[str, str] | None:
    """Find "who designed" where the other text says "who paid for"."""
    if not _both("who", a, b, shared):
        return None
    ours, theirs = _behind(a, "who"), _behind(b, "who")
    if not ours or not theirs or alike(ours, theirs) or ours == theirs:
        return None
    return None if ours in _FUNCTION_STEMS or theirs in _FUNCTION_STEMS else (ours, theirs)


def _roles(a: Reading, b: Reading, shared: Set[str]) -> tuple[str, str] | None:
    """Find "who pays banks" where the other text says "who do banks pay", in the same words."""
    for asked in ("who", "what"):
        if _both(asked, a, b, shared):
            ours, theirs = _behind(a, asked), _behind(b, asked)
            done = {ours, theirs} & _DO
            one_asks_for_who_acts = len(done) == 1 and not {ours, theirs} - done <= FUNCTION
            if one_asks_for_who_acts and sorted(_content(a)) == sorted(_content(b)):
                return asked, done.pop()
    return None


def _content(reading: Reading) -> list[str]:
    return [key for word, key in reading.spelled if word not in FUNCTION]


def _first(pairs: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Return the pair that comes first in both orders of the texts, which turn all pairs around."""
    return min(pairs, key=sorted, default=None)


def _mirrored(a: Outline, b: Outline) -> Iterator[tuple[str, str]]:
    """Find "dog chases cat" where the other text says "cat chases dog"."""
    for clause in a.clauses:
        for other in b.clauses:
            if clause != other and sorted(clause) == sorted(other):
                yield clause[0], other[0]  # "does bad sleep cause stress"
    for first, verb, second in a.triples:
        if first != second and (second, verb, first) in b.triples:
            yield first, second


def _crossed(a: Sides, b: Sides) -> Iterator[tuple[str, str]]:
    """Find two words that have changed sides, or changed places behind two relations."""
    shared = [relation for relation in a if relation in b]
    for relation in shared:
        for before, after in a[relation]:
            for other_before, other_after in b[relation]:
                moved = _across(before, after, other_before, other_after)
                back = _across(after, before, other_after, other_before)
                if moved and back:
                    yield min(moved), min(back)
    governed = [(a[relation][-1][1][:1], b[relation][-1][1][:1]) for relation in shared]
    for i, (ours, theirs) in enumerate(governed):
        for other_ours, other_theirs in governed[:i]:
            if ours and theirs and ours != theirs == other_ours and ours == other_theirs:
                yield ours[0], theirs[0]  # "to Rome from Paris", "from Rome to Paris"


def _across(
    here: list[str], there: list[str], other_here: list[str], other_there: list[str]
) -> set[str]:
    """Return the words that are here alone in one text, and there alone in the other."""
    return (set(here) - set(there)) & (set(other_there) - set(other_here))


def _replaced(a: Reading, b: Reading) -> str | None:
    """Find the same sentence about another thing: all but one word, or up to three, are equal."""
    ours, theirs = a.undetermined, b.undetermined
    shorter = min(len(ours), len(theirs))
    start = 0
    while start < shorter and ours[start][1] == theirs[start][1]:
        start += 1
    end = 0
    while end < shorter - start and ours[-1 - end][1] == theirs[-1 - end][1]:
        end += 1
    if start + end < _FRAME or max(len(ours), len(theirs)) - start - end > _REPLACED:
        return None
    here, there = ours[start : len(ours) - end], theirs[start : len(theirs) - end]
    if not here or not there:
        return _added(here or there)
    if any(all(word in FUNCTION for word, _ in words) for words in (here, there)):
        return None  # "where do I get" and "how do I get"
    function = any(word in FUNCTION and word != "and" for word, _ in here + there)
    if function and start + end < _LONG_FRAME:
        return None
    keys, others = [key for _, key in here], [key for _, key in there]
    judged = a.judged | b.judged
    if not judged.isdisjoint(keys) or not judged.isdisjoint(others):
        return None  # a number or a name, which has passed
    if "".join(keys) == "".join(others) or sorted(keys) == sorted(others):
        return None
    if len(keys) == len(others) and all(map(alike, keys, others)):
        return None
    return _pair("word", " ".join(word for word, _ in here), " ".join(word for word, _ in there))


def _added(words: list[tuple[str, str]]) -> str | None:
    """Find "for children" where the other text says the same without it."""
    if words and words[0][0] in RELATIONS and any(word not in FUNCTION for word, _ in words):
        return _pair("word", " ".join(word for word, _ in words), "")
    return None
