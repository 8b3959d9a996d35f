"""Numbers in a text, written in digits or in words, so that "2" and "two" are one number."""

from __future__ import annotations

import re

_SMALL = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NTH = """
first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth
fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth
"""
_ROMAN = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI"

NUMBERS = {word: value for value, word in enumerate(_SMALL.split())}
NUMBERS |= {word: 10 * value for value, word in enumerate(_TENS.split(), 2)}
SCALES = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
ORDINALS = {word: value for value, word in enumerate(_NTH.split(), 1)}
ORDINALS |= {"thirtieth": 30, "fortieth": 40, "fiftieth": 50, "hundredth": 100}
OTHER_NUMBERS = {"dozen": "12", "half": "0.5", "½": "0.5", "¼": "0.25", "¾": "0.75"}
# After a name: "World War II". A single letter may be anything.
ROMAN = {word: str(value) for value, word in enumerate(_ROMAN.split(), 1) if len(word) > 1}

ORDINAL_ENDINGS = frozenset(("st", "nd", "rd", "th", "s", "k", "x"))
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_FRACTIONS = {"1/2": "0.5", "1/4": "0.25", "3/4": "0.75"}
_GREATEST = 10**15  # of a number in words; beyond, the next word begins another
_LONGEST = 15  # digits of a number that is multiplied by a word: beyond, floats are not exact


def digits(token: str) -> list[str]:
    """Return the numbers of a token that starts with a digit, each in one spelling.

    >>> digits("1,000"), digits("007"), digits("3.10"), digits("5.00"), digits("2024/01/05")
    (['1000'], ['7'], ['3.10'], ['5'], ['2024', '1', '5'])
    """
    if token in OTHER_NUMBERS or token in _FRACTIONS:
        return [OTHER_NUMBERS.get(token) or _FRACTIONS[token]]
    if _THOUSANDS.fullmatch(token):
        token = token.replace(",", "")
    return [_plain(part) for part in re.split("[,/]", token)]


def is_numeral(word: str) -> bool:
    """Return whether a word may be of a number, or goes on with one."""
    return (
        word in NUMBERS or word in SCALES or word in ORDINALS or word in OTHER_NUMBERS
        or word == "and" or word in ORDINAL_ENDINGS
    )  # fmt: skip


def _plain(number: str) -> str:
    sign, number = ("-", number[1:]) if number[0] == "-" else ("", number)
    whole, point, rest = number.partition(".")
    if point and not rest.strip("0"):
        point = rest = ""
    return sign + (whole.lstrip("0") or "0") + point + rest


class Numerals:
    """The numbers met so far; words of one number ("two hundred and five") are put together.

    Attributes:
        hard: Numbers that another text must have too, in their order.
        soft: Numbers that may be left out: "one" of many, "first of all", "a second".
        follows: Whether the word just read belongs to a number.
        current: What is being read in words, which the next word goes on with or ends; or None.
    """

    def __init__(self) -> None:
        self.hard: list[str] = []
        self.soft: list[str] = []
        self.follows = False
        self.current: int | None = None
        self._total = 0
        self._alone = False  # the number being read is a single word

    def add(self, number: str) -> None:
        """Take a number written in digits."""
        self.end()
        (self.soft if number == "1" else self.hard).append(number)
        self.follows = True

    def word(self, word: str) -> bool:
        """Take a word; returns whether it is of a number."""
        if word in NUMBERS:
            self._small(NUMBERS[word])
        elif word in SCALES:
            self._scale(SCALES[word])
        elif word in ORDINALS:
            if self.current is not None and self.current % 10 == 0 and ORDINALS[word] < 10:
                self._small(ORDINALS[word])  # "twenty-first"
            else:
                self.end()
                soft = word in ("first", "second")
                (self.soft if soft else self.hard).append(str(ORDINALS[word]))
            self.follows = False
            return word not in ("first", "second")  # which are words of their own as well
        elif word in OTHER_NUMBERS:
            self.end()
            self.hard.append(OTHER_NUMBERS[word])
        elif word == "and" and self.current is not None and not self._alone:
            return False  # "two hundred and five" goes on
        else:
            return self._ending(word)
        return True

    def end(self) -> None:
        """Finish the number that is being read in words."""
        self.follows = False
        if self.current is None:
            return
        number = str(self._total + self.current)
        (self.soft if number == "1" and self._alone else self.hard).append(number)
        self._total, self.current = 0, None

    def _ending(self, word: str) -> bool:
        """Handle a word after a number: the k of 10k, the s of 90s."""
        after, self.follows = self.follows, False
        numbers = self.hard if self.current is None else []
        if after and numbers and word == "k":
            numbers[-1] = _times(numbers[-1], 1000)
            self.follows = True
            return True
        if after and numbers and word == "s" and len(numbers[-1]) == 2:
            numbers[-1] = f"19{numbers[-1]}"
        self.end()
        self.follows = after
        return False

    def _small(self, value: int) -> None:
        current = self.current
        if current is None:
            self.current, self._alone = value, True
        elif current and current % (10 if value < 10 else 100) == 0 and current % 100 != 10:
            self.current, self._alone = current + value, False
        elif value >= 10 and 10 <= current < 100:
            self.current, self._alone = 100 * current + value, False  # "nineteen eighty-four"
        else:
            self.end()
            self.current, self._alone = value, True
        self.follows = True

    def _scale(self, scale: int) -> None:
        if self.current is None:
            if self.follows and self.hard:  # "2.5 million"
                self.hard[-1] = _times(self.hard[-1], scale)
                return
            self.current = 1
        elif self._total + self.current > _GREATEST:
            self.end()
            self.current = 1
        self._alone = False
        if scale == SCALES["hundred"]:
            self.current *= scale
        else:
            self._total, self.current = self._total + self.current * scale, 0
        self.follows = True


def _times(number: str, scale: int) -> str:
    if len(number) > _LONGEST:
        return number
    try:
        value = float(number) * scale
    except ValueError:  # of a version or a time: "3.11.2", "12:30"
        return number
    return str(int(value)) if value.is_integer() else repr(value)
