"""A temperature that changes in the course of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cacher.checks import choice, number


@dataclass(frozen=True, slots=True)
class TemperatureSchedule:
    """A temperature that goes from `start` to `end` over the `max_tokens` of a call.

    Token i of N (from 0) is drawn at start + (end - start) * i / (N - 1); a call of one token has
    `start`.  N is what the call asks for, however early it ends.  Tokens drawn below 1e-5 are the
    likeliest ones, as with a constant temperature of 0.

    Attributes:
        start: 0 to 10.
        end: 0 to 10.
        mode: ``"linear"``.

    Example:
        >>> import cacher
        >>> cooling = cacher.TemperatureSchedule(1.5, 0.2)
        >>> state = cacher.load("tales").state("Once upon a time")
        >>> len(state.generate(4, temperature_schedule=cooling))
        4
    """

    start: float
    end: float
    mode: Literal["linear"] = "linear"

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            TypeError: A field has the wrong type.
            ParameterError: A field is outside its range.
        """
        for name in ("start", "end"):
            value = number(f"temperature_schedule's {name}", getattr(self, name), 0.0, 10.0)
            object.__setattr__(self, name, value)
        choice("temperature_schedule's mode", self.mode, "linear")


def check_schedule(name: str, value: object) -> TemperatureSchedule | None:
    """Return a schedule, also one that comes as a mapping; None is none.

    Raises:
        TypeError: Neither; or a mapping with other keys.
        ParameterError: A value is outside its range.
    """
    if value is None or isinstance(value, TemperatureSchedule):
        return value
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        raise TypeError(f"{name} must be a TemperatureSchedule or a mapping, got {kind}")
    if not {"start", "end"} <= value.keys() <= {"start", "end", "mode"}:
        keys = ", ".join(map(str, value)) or "none"
        raise TypeError(f"{name} has the keys {keys}, allowed: start, end and, if wanted, mode")
    return TemperatureSchedule(**value)
