"""What settings are made of: a class of fields, each with the function that reads its variable.

`cacher.config.Settings` is one such class, `cacher.semantic.settings.SemanticSettings` another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from cacher.checks import choice, integer, model_id, number, shown
from cacher.errors import ParameterError

T = TypeVar("T")
#: Gives the value of a variable, from its name and its text.
Parse = Callable[[str, str], Any]

_KEY = re.compile(r"(?:([A-Za-z0-9_-]{1,64}):)?(?:sha256\$([0-9a-f]{64})|([!-+\--~]{1,512}))")
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class ApiKey(NamedTuple):
    """An API key as it is kept: never in clear.

    Attributes:
        tenant: Whose states and caches the key opens; empty for a key without a name.
        digest: SHA-256 of the key.
    """

    tenant: str
    digest: bytes


def parse_boolean(name: str, text: str) -> bool:
    """Return True, False, 1, 0, yes or no, in any case, as a boolean."""
    value = _WORDS.get(text.strip().lower())
    if value is None:
        raise ParameterError(f"{name} is {shown(text)}, allowed: True, False, 1, 0, yes, no")
    return value


def parse_json(name: str, text: str, kind: type) -> Any:
    """Return a JSON list or object.

    Raises:
        ParameterError: Not JSON, or of another kind.
    """
    wanted = "list" if kind is list else "object"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise ParameterError(f"{name} is {shown(text)}, allowed: a JSON {wanted}")
    return value


def an_integer(low: int, high: int) -> Parse:
    """Return what reads an integer from low to high."""

    def parse(name: str, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ParameterError(
                f"{name} is {shown(text)}, allowed: an integer from {low} to {high}"
            ) from None
        return integer(name, value, low, high)

    return parse


def a_number(low: float, high: float, *, open_low: bool = False) -> Parse:
    """Return what reads a number from low, or above it, to high."""

    def parse(name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ParameterError(
                f"{name} is {shown(text)}, allowed: a number from {low:g} to {high:g}"
            ) from None
        return number(name, value, low, high, open_low=open_low)

    return parse


def one_of(*allowed: str, fold: Callable[[str], str] = str) -> Parse:
    """Return what reads one of these words, folded before it is compared."""
    return lambda name, text: choice(name, fold(text), *allowed)


def any_text(_name: str, text: str) -> str:
    """Return the text as it is."""
    return text


def optional(parse: Parse) -> Parse:
    """Return what reads what `parse` does, without space around it; None where there is no text."""
    return lambda name, text: parse(name, text.strip()) if text.strip() else None


#: Reads a well-formed model id; None where there is no text.
model_name = optional(model_id)


def comma_list(text: str) -> tuple[str, ...]:
    """Return what commas separate, without space around it and without empty items."""
    return tuple(item for part in text.split(",") if (item := part.strip()))


def api_keys(name: str, text: str) -> tuple[ApiKey, ...]:
    """Return the keys of a comma list, each ``KEY``, ``TENANT:KEY`` or ``TENANT:sha256$HEX``."""
    keys: list[ApiKey] = []
    for item in comma_list(text):
        match = _KEY.fullmatch(item)
        if match is None:  # the item is not shown: it may be a key with a typing error
            raise ParameterError(
                f"{name}: entry {len(keys) + 1} is not allowed: KEY, TENANT:KEY or "
                "TENANT:sha256$HEX of visible ASCII characters"
            )
        tenant, digest, key = match.groups()
        stored = bytes.fromhex(digest) if digest else hashlib.sha256(key.encode()).digest()
        keys.append(ApiKey(tenant or "", stored))
    return tuple(keys)


def a_place(word: str, *schemes: str) -> Parse:
    """Return what reads where something is kept: in a way that a word names, or at an address."""

    def parse(name: str, text: str) -> str:
        if text != word and not text.startswith(schemes):
            places = ", ".join([word, *(f"{scheme}..." for scheme in schemes)])
            raise ParameterError(f"{name} is {shown(text)}, allowed: {places}")
        return text

    return parse


def variable(default: Any, parse: Parse) -> Any:
    """Return a field with the function that reads its variable."""
    return field(default=default, metadata={"parse": parse})


def from_variables(
    cls: type[T],
    prefix: str,
    environ: Mapping[str, str],
    second_names: Mapping[str, str] = MappingProxyType({}),
) -> T:
    """Return settings as the environment says.

    Args:
        cls: A dataclass whose fields were made by `variable`.
        prefix: What the names of its variables begin with; the rest is the field's name.
        environ: Names and values; variables of other names are ignored.
        second_names: Field to the rest of another name, used where the first is not set.

    Raises:
        ParameterError: A value does not parse; the message names the variable.
    """
    found = {}
    for item in fields(cls):  # type: ignore[arg-type]
        for name in (item.name, second_names.get(item.name, item.name)):
            text = environ.get(prefix + name)
            if text is not None and item.name not in found:
                found[item.name] = item.metadata["parse"](prefix + name, text)
    return cls(**found)
