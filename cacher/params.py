"""Parameters of generation and of states: the only home of their defaults and ranges."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any, Literal, TypedDict

from cacher.checks import (
    MAX_INT32,
    MAX_INT64,
    MAX_UINT64,
    JsonObject,
    boolean,
    choice,
    integer,
    number,
    string,
)
from cacher.errors import ParameterError
from cacher.schedule import TemperatureSchedule, check_schedule

StoreLogits = Literal["none", "top_k", "full"]
ContextStrategy = Literal["stop", "slide"]
Random = Literal["philox", "splitmix64"]
MOST_TEMPERATURE = 3e38  # a number of 32 bits; long before it all tokens are equally likely


class SamplingOptions(TypedDict, total=False):
    """Keyword arguments of ``generate``, ``stream`` and ``multi``.

    Every option left out comes from the state's configuration, then from `SamplingParams`.
    """

    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    no_repeat_ngram_size: int | None
    seed: int | EllipsisType | None
    min_tokens: int | None
    stop: str | Iterable[str] | None
    max_time_s: float | None
    temperature_schedule: TemperatureSchedule | Mapping[str, object] | None
    adaptive_top_p: bool | None
    adaptive_top_k: bool | None
    random: Random | None


def _seed(name: str, value: object, most: int = MAX_UINT64) -> int | None:
    return None if value is None else integer(name, value, 0, most)


def check_stop(value: object) -> tuple[str, ...]:
    """Return stop sequences as a tuple of 0 to 16 strings of 1 to 256 characters.

    Raises:
        TypeError: Not a string or an iterable of strings.
        ParameterError: Too many, an empty or an overlong one.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Iterable):
        raise TypeError(f"stop must be a string or strings, got {type(value).__name__}")
    items = tuple(string("a stop sequence", item) for item in value)
    if len(items) > 16:
        raise ParameterError(f"there are {len(items)} stop sequences, allowed: 0 to 16")
    for item in items:
        if not 1 <= len(item) <= 256:
            raise ParameterError(f"a stop sequence has {len(item)} characters, allowed: 1 to 256")
    return items


def check_max_tokens(value: object) -> int:
    """Return the number of tokens to generate, 1 to 2^31 - 1."""
    return integer("max_tokens", value, 1, MAX_INT32)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a token is chosen.

    Order: repetition penalty, n-gram blocking, temperature, softmax, top_k, top_p, min_p, draw.
    Where nothing is drawn (temperature 0), the likeliest token comes after the first two, and
    nothing behind them has a say, adaptive or not.

    Attributes:
        temperature: 0 or more; 0 is greedy (the likeliest token, ties to the lowest id).
        top_p: 0 to 1; keep the likeliest tokens that together reach it; 1 is off.
        seed: 0 to 2^64-1, or None for one drawn from the operating system (and reported).
        top_k: Keep this many of the likeliest tokens; 0 is off.
        min_p: 0 to 1; drop tokens below this share of the likeliest one's probability; 0 is off.
        repetition_penalty: Above 0; 1 is off; larger makes tokens of the state less likely.
        no_repeat_ngram_size: Never repeat an n-gram of this size; 0 is off.
        min_tokens: No end-of-sequence token and no stop before this many new tokens.
        stop: Up to 16 strings; generation ends after the token that completes one of them.
        max_time_s: Seconds after which generation ends at the next token; None is no limit.
        temperature_schedule: A `TemperatureSchedule`, or a mapping with its fields; it takes the
            place of `temperature`.  None is off.
        adaptive_top_p: Draw with top_p * (0.5 + 0.5 h), where h is the entropy of the step divided
            by ln(vocabulary size): 0 where the model is certain, 1 where it knows nothing.  The
            entropy is that of the model's own distribution, which `Token.entropy` reports:
            temperature 1, nothing penalised or cut off.
        adaptive_top_k: Draw with max(1, round(top_k * (0.5 + 0.5 h))), half to even; needs `top_k`.
        random: Where random numbers come from.  ``"philox"``: each position of a state has one, so
            that a run that is resumed goes on as it would have.  ``"splitmix64"``: token i of the
            call draws output i of that generator, as the chat API does.

    Example:
        >>> from cacher import SamplingParams
        >>> SamplingParams(temperature=0.0).seed
        42
    """

    temperature: float = 0.7
    top_p: float = 0.9
    seed: int | None = 42
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    max_time_s: float | None = None
    temperature_schedule: TemperatureSchedule | None = None
    adaptive_top_p: bool = False
    adaptive_top_k: bool = False
    random: Random = "philox"

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            TypeError: A field has the wrong type.
            ParameterError: A field is outside its range.
        """
        for name, check in SAMPLING_CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        if self.adaptive_top_k and self.top_k == 0:
            raise ParameterError("top_k is 0 (off), allowed with adaptive_top_k: at least 1")

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        schedule = self.temperature_schedule
        hottest = max(schedule.start, schedule.end) if schedule else self.temperature
        return hottest < 1e-5

    def with_seed(self) -> SamplingParams:
        """Return the same parameters with a seed: a fresh one where it is None."""
        if self.seed is not None:
            return self
        return replace(self, seed=int.from_bytes(os.urandom(8)) >> 1)

    def core(
        self, stream: int = 0, *, done: int = 0, max_tokens: int = 1
    ) -> tuple[float | int, ...]:
        """Return the tuple the extension takes.

        Args:
            stream: Random stream.
            done: New tokens the run has so far.
            max_tokens: New tokens it may have, which is what a schedule is laid over.
        """
        schedule = self.temperature_schedule
        start, end, steps = self.temperature, 0.0, 0
        if schedule is not None:
            start, end, steps = schedule.start, schedule.end, max_tokens
        return (
            start, self.top_k, self.top_p, self.min_p, self.repetition_penalty,
            self.no_repeat_ngram_size, self.seed or 0, stream, self.min_tokens, done,
            end, steps, self.adaptive_top_p, self.adaptive_top_k, self.random == "splitmix64",
        )  # fmt: skip


Check = Callable[[str, Any], Any]
SAMPLING_CHECKS: dict[str, Check] = {
    "temperature": lambda name, value: number(name, value, 0.0, MOST_TEMPERATURE),
    "top_p": lambda name, value: number(name, value, 0.0, 1.0),
    "seed": _seed,
    "top_k": lambda name, value: integer(name, value, 0, MAX_INT32),
    "min_p": lambda name, value: number(name, value, 0.0, 1.0),
    "repetition_penalty": lambda name, value: number(name, value, 0.0, 100.0, open_low=True),
    "no_repeat_ngram_size": lambda name, value: integer(name, value, 0, MAX_INT32),
    "min_tokens": lambda name, value: integer(name, value, 0, MAX_INT32),
    "stop": lambda _name, value: check_stop(value),
    "max_time_s": lambda name, value: (
        None if value is None else number(name, value, 0.0, 1e9, open_low=True)
    ),
    "temperature_schedule": check_schedule,
    "adaptive_top_p": boolean,
    "adaptive_top_k": boolean,
    "random": lambda name, value: choice(name, value, "philox", "splitmix64"),
}


_CONFIG_CHECKS: dict[str, Check] = {
    "temperature": lambda name, value: number(name, value, 0.0, 10.0),
    "top_p": SAMPLING_CHECKS["top_p"],
    "seed": lambda name, value: _seed(name, value, MAX_INT64),  # files and schemas hold it, too
    "context_size": lambda name, value: integer(name, value, 1, 1_048_576),
    "store_logits": lambda name, value: choice(name, value, "none", "top_k", "full"),
    "top_k_logits": lambda name, value: integer(name, value, 1, 1000),
    "stop_sequences": lambda _name, value: None if value is None else check_stop(value),
    "context_strategy": lambda name, value: choice(name, value, "stop", "slide"),
    **{name: SAMPLING_CHECKS[name] for name in ("top_k", "min_p", "no_repeat_ngram_size")},
}
_DEFAULTS = SamplingParams()
NO_EXTRA = JsonObject("extra", {})
_OPTIONAL = ("stop_sequences", "context_strategy", "top_k", "min_p", "no_repeat_ngram_size")


@dataclass(frozen=True, slots=True)
class StateConfig:
    """Defaults of a state's generations, and what it stores.  Immutable: forks share it.

    Attributes:
        temperature: As in `SamplingParams`, but 10 at most.
        top_p: As in `SamplingParams`.
        seed: As in `SamplingParams`, but 2^63-1 at most.
        context_size: Most tokens of the state; the model's own limit holds, too.  With
            `context_strategy` "slide", most tokens that the model sees at a time.
        store_logits: What is kept of every prediction: ``"none"``, ``"top_k"`` (its largest logits)
            or ``"full"`` (as ``"top_k"``; full vectors are recomputed when asked for).
        top_k_logits: How many logits ``"top_k"`` keeps, 1 to 1000.
        stop_sequences: Default of ``stop``; None is none.
        context_strategy: What happens when the context is full: ``"stop"`` ends a generation;
            ``"slide"`` lets the model drop the oldest half of what it sees, and goes on (the state
            keeps all tokens); None is ``"stop"``.
        top_k: As in `SamplingParams`; None is the default.
        min_p: As in `SamplingParams`; None is the default.
        no_repeat_ngram_size: As in `SamplingParams`; None is the default.
        extra: Keys this package does not know, kept as they came.

    Example:
        >>> from cacher import StateConfig
        >>> StateConfig().updated({"seed": None}).to_dict()["seed"] is None
        True
    """

    temperature: float = _DEFAULTS.temperature
    top_p: float = _DEFAULTS.top_p
    seed: int | None = _DEFAULTS.seed
    context_size: int = 2048
    store_logits: StoreLogits = "top_k"
    top_k_logits: int = 20
    stop_sequences: tuple[str, ...] | None = None
    context_strategy: ContextStrategy | None = None
    top_k: int | None = None
    min_p: float | None = None
    no_repeat_ngram_size: int | None = None
    extra: Mapping[str, object] = NO_EXTRA

    def __post_init__(self) -> None:
        """Check every field; raises as `SamplingParams` does."""
        for name, check in _CONFIG_CHECKS.items():
            value = getattr(self, name)
            if not (value is None and name in _OPTIONAL):
                object.__setattr__(self, name, check(name, value))
        if not isinstance(self.extra, JsonObject):
            extra = JsonObject("extra", self.extra)
            if known := extra.keys() & _CONFIG_CHECKS.keys():
                raise ParameterError(f"extra holds {sorted(known)[0]!r}, which has its own field")
            object.__setattr__(self, "extra", extra)

    def updated(
        self,
        changes: Mapping[str, object] | StateConfig | None,
        defaults: StateConfig | None = None,
    ) -> StateConfig:
        """Return a configuration with some keys replaced.

        Args:
            changes: Keys to replace, or a whole configuration.  None as a value means the default,
                except for ``seed``, where it means a fresh seed for every call.
            defaults: What the default is; None: the package's own.

        Raises:
            TypeError: A value has the wrong type.
            ParameterError: A value is outside its range, or unknown keys take more than 16 KiB.

        Example:
            >>> from cacher import StateConfig
            >>> StateConfig(temperature=0.2).updated({"temperature": None}).temperature
            0.7
        """
        if changes is None:
            return self
        if isinstance(changes, StateConfig):
            return changes
        if not isinstance(changes, Mapping):
            raise TypeError(f"config must be a mapping, got {type(changes).__name__}")
        defaults = StateConfig() if defaults is None else defaults
        known: dict[str, Any] = {}
        extra = dict(self.extra)
        for key, value in changes.items():
            if not isinstance(key, str):
                raise TypeError(f"config keys must be strings, got {type(key).__name__}")
            if key not in _CONFIG_CHECKS:
                extra[key] = value
            else:
                back = value is None and key != "seed"
                known[key] = getattr(defaults, key) if back else value
        if extra != self.extra:
            known["extra"] = extra
        return replace(self, **known)

    def to_dict(self) -> dict[str, object]:
        """Return the six standard keys, the optional ones that are set, and the unknown ones.

        Example:
            >>> from cacher import StateConfig
            >>> sorted(StateConfig(top_k=5).to_dict())[-2:]
            ['top_k_logits', 'top_p']
        """
        plain = {name: getattr(self, name) for name in _CONFIG_CHECKS}
        for name in _OPTIONAL:
            if plain[name] is None:
                del plain[name]
        if "stop_sequences" in plain:
            plain["stop_sequences"] = list(plain["stop_sequences"])
        return {**plain, **self.extra}

    def sampling(self, options: Mapping[str, Any]) -> SamplingParams:
        """Return the parameters of a call: its options over this configuration over the defaults.

        Args:
            options: As of `State.generate`.

        Raises:
            TypeError: An option is unknown or has the wrong type.
            ParameterError: An option is outside its range.

        Example:
            >>> from cacher import StateConfig
            >>> StateConfig(top_k=5).sampling({"temperature": 0}).top_k
            5
        """
        if not isinstance(options, Mapping):
            raise TypeError(f"options must be a mapping, got {type(options).__name__}")
        if unknown := options.keys() - SAMPLING_CHECKS.keys():
            raise TypeError(
                f"unknown option {sorted(unknown)[0]!r}, allowed: {', '.join(SAMPLING_CHECKS)}"
            )
        chosen: dict[str, Any] = {"temperature": self.temperature, "top_p": self.top_p}
        for name in ("top_k", "min_p", "no_repeat_ngram_size"):
            if getattr(self, name) is not None:
                chosen[name] = getattr(self, name)
        chosen["stop"] = self.stop_sequences or ()
        chosen.update({name: value for name, value in options.items() if value is not None})
        chosen["seed"] = options.get("seed", ...)
        if chosen["seed"] is ...:
            chosen["seed"] = self.seed
        return SamplingParams(**chosen)
