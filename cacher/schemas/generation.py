"""Generation, forward passes, and the records of streams."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cacher.schemas.base import (
    REQUEST_ID,
    STATE_ID,
    Answer,
    ModelId,
    OrNull,
    Request,
    StateId,
    example,
)
from cacher.schemas.config import ConfigChanges, StopSequences, Temperature, TopP, seed_field

FinishReason = Literal["stop_sequence", "eos", "context_length", "cancelled", "time"]


class TemperatureSchedule(Request):
    """Temperature that changes from the first token to the last."""

    model_config = example({"start": 1.0, "end": 0.2, "mode": "linear"})
    start: Temperature = Field(description="Of the first token.")
    end: Temperature = Field(description="Of token number max_tokens.")
    mode: OrNull[Literal["linear"]] = Field(
        "linear", description="How it gets from one to the other."
    )


class BeamControls(Request):
    """What sampling and beam search have in common."""

    stop_sequences: StopSequences | None = Field(
        None, description="Generation ends after the token that completes one of them."
    )
    no_repeat_ngram_size: int | None = Field(
        None, ge=0, le=10, description="Never repeat an n-gram of this size; 0 is off."
    )
    top_k: int | None = Field(
        None, ge=0, le=1000, description="Keep this many of the likeliest tokens; 0 is off."
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="Drop tokens below this share of the likeliest one's."
    )
    min_tokens: int | None = Field(
        None, ge=0, le=2**31 - 1, description="Nothing ends the run before this many new tokens."
    )


class Sampling(BeamControls):
    """How tokens are chosen; what is absent comes from the state's config, then the defaults."""

    temperature: Temperature | None = Field(
        None, description="0 to 10; 0 takes the likeliest token."
    )
    top_p: TopP | None = Field(
        None, description="Keep the likeliest tokens that together reach it; 1 is off."
    )
    seed: int | None = seed_field(
        "Absent: the state's seed. null: a fresh one, reported in the response."
    )
    max_time_ms: int | None = Field(
        None, ge=1, le=300_000, description="The run ends at the first token after this time."
    )
    temperature_schedule: TemperatureSchedule | None = Field(
        None, description="Overrides temperature."
    )
    adaptive_top_p: OrNull[bool] = Field(
        False, description="Scale top_p by 0.5 to 1 with the entropy of each step."
    )
    adaptive_top_k: OrNull[bool] = Field(
        False, description="Scale top_k likewise; top_k must be above 0."
    )

    def sampling(self) -> dict[str, Any]:
        """Return the options as `State.generate` takes them: only those that were sent."""
        names = {"stop_sequences": "stop"}
        plain = ("temperature", "top_p", "seed", "top_k", "min_p", "no_repeat_ngram_size",
                 "min_tokens", "stop_sequences")  # fmt: skip
        chosen = {
            names.get(name, name): getattr(self, name)
            for name in plain
            if name in self.model_fields_set
        }
        if self.max_time_ms is not None:
            chosen["max_time_s"] = self.max_time_ms / 1000
        if self.temperature_schedule is not None:
            chosen["temperature_schedule"] = self.temperature_schedule.model_dump()
        for name in ("adaptive_top_p", "adaptive_top_k"):
            if getattr(self, name):
                chosen[name] = True
        return chosen


class GenerateToken(Sampling):
    """A state to continue."""

    model_config = example({"state_id": STATE_ID, "max_tokens": 3, "temperature": 0.7})
    limited: ClassVar = ("max_tokens",)
    state_id: StateId
    max_tokens: OrNull[int] = Field(1, ge=1, description="New tokens at most.")
    stream: OrNull[bool] = Field(
        False, description="Send each token as it is made, in the format of the Accept header."
    )

    @model_validator(mode="after")
    def _room_for_min_tokens(self) -> Self:
        if self.min_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError("min_tokens must not be above max_tokens")
        return self


class GeneratedTokens(Answer):
    """A continuation."""

    text: str = Field(description="Only the continuation.", examples=[", and the"])
    new_tokens: list[str] = Field(
        description="The text each token adds.", examples=[[",", " and", " the"]]
    )
    token_ids: list[int] = Field(description="Their ids.", examples=[[11, 290, 262]])
    probabilities: list[float] = Field(
        description="The model's own probability of each (temperature 1, nothing cut off).",
        examples=[[0.25, 0.125, 0.5]],
    )
    logprobs: list[float] = Field(
        description="Their natural logarithms.", examples=[[-1.386294, -2.079442, -0.693147]]
    )
    finished: bool = Field(description="False when max_tokens ended the run.")
    finish_reason: FinishReason | None = Field(description="What ended it; null for max_tokens.")
    stop_sequence: str | None = Field(description="The stop sequence that was matched.")
    dropped_tokens: int | None = Field(
        None,
        description="The state's oldest tokens that the model no longer saw at the end; only with "
        'context_strategy "slide".',
    )


class TokensGenerated(GeneratedTokens):
    """What a state was continued with."""

    state_id: StateId
    full_text: str = Field(description="The state's text now.", examples=["Hello world, and the"])
    tokens: list[str] = Field(description="The same as new_tokens.")
    seed: int | None = Field(description="The seed in force; null when nothing was drawn.")
    head_position: int = Field(description="Tokens of the state, all of them read.")
    request_id: str = Field(description="As in X-Request-ID.", examples=[REQUEST_ID])


class GenerateMulti(Sampling):
    """A state of which several continuations are wanted."""

    model_config = example({"state_id": STATE_ID, "n": 2, "max_tokens": 3, "seed": 42})
    limited: ClassVar = ("max_tokens",)
    state_id: StateId
    n: OrNull[int] = Field(3, ge=1, le=32, description="How many.")
    max_tokens: OrNull[int] = Field(1, ge=1, description="New tokens of each at most.")


class Continuation(GeneratedTokens):
    """One of several continuations."""

    stream_index: int = Field(description="Which stream of random numbers it draws from.")


class Continuations(Answer):
    """Several continuations of a state, which stays as it is."""

    state_id: StateId
    continuations: list[Continuation] = Field(description="In the order of their streams.")
    seed: int | None = Field(description="The seed in force; null when nothing was drawn.")


class GenerateBeam(BeamControls):
    """A state from which the likeliest continuations are wanted."""

    model_config = example({"state_id": STATE_ID, "num_beams": 3, "max_length": 20})
    limited: ClassVar = ("max_length",)
    state_id: StateId
    num_beams: OrNull[int] = Field(5, ge=1, le=32, description="How many.")
    max_length: int | None = Field(
        None, ge=1, description="New tokens of a beam at most. Default: 50, or the server's limit."
    )
    diversity_penalty: OrNull[float] = Field(
        0.0, ge=0, le=100, description="Taken off a token for each earlier group that chose it."
    )
    early_stopping: OrNull[bool] = Field(
        True, description="Stop when num_beams beams are complete."
    )
    diverse_groups: int | None = Field(
        None, ge=1, le=32, description="Groups that are pushed apart, at most num_beams."
    )
    length_penalty: OrNull[float] = Field(
        1.0, ge=-5, le=5, description="score = logprob / length ** length_penalty."
    )
    include_trace: OrNull[bool] = Field(False, description="Add every step's beams.")

    @model_validator(mode="after")
    def _groups_fit(self) -> Self:
        if self.diverse_groups is not None and self.diverse_groups > self.num_beams:
            raise ValueError("diverse_groups must not be above num_beams")
        return self


class BeamFound(Answer):
    """A sequence that the search found."""

    text: str = Field(description="Only the continuation.")
    full_text: str = Field(description="The state's text, then the continuation.")
    score: float = Field(description="logprob / length ** length_penalty.")
    logprob: float = Field(description="Sum of the log-probabilities.")
    new_tokens: list[str] = Field(description="The text each token adds.")
    token_ids: list[int] = Field(description="Their ids.")
    finished: bool = Field(description="Whether it is complete.")
    finish_reason: FinishReason | None = Field(description="What completed it.")
    group: int = Field(description="Its diversity group.")


class TraceBeam(Answer):
    """A beam after one step."""

    group: int = Field(description="Its diversity group.")
    tokens: list[str] = Field(description="The token chosen in this step.")
    logprob: float = Field(description="Sum so far.")
    parent: int = Field(description="Index into the beams of the step before.")


class TraceStep(Answer):
    """All beams after one step."""

    step: int = Field(description="From 1.")
    beams: list[TraceBeam] = Field(description="The beams kept.")


class Beams(Answer):
    """The likeliest continuations of a state, which stays as it is."""

    state_id: StateId
    beams: list[BeamFound | str] = Field(
        description="Best first; objects, or under /v1 the continuations' texts."
    )
    texts: list[str] = Field(description="Full texts.")
    beam_details: list[BeamFound] = Field(description="The objects, under both prefixes.")
    trace: list[TraceStep] | None = Field(None, description="With include_trace.")


class TokenExtras(Request):
    """What is wanted to know of tokens."""

    return_final_token_info: OrNull[bool] = Field(False, description="Tell of the last token.")
    return_all_tokens_info: OrNull[bool] = Field(False, description="Tell of every token.")
    stream_tokens_info: OrNull[bool] = Field(False, description="Stream a record per token.")
    return_logits: OrNull[bool] = Field(False, description="Add vocab_size raw logits.")
    return_top_logprobs: OrNull[int] = Field(
        0, ge=0, le=100, description="Add this many of the likeliest tokens."
    )
    return_entropy: OrNull[bool] = Field(False, description="Add the entropy, in nats.")

    @property
    def wants_final(self) -> bool:
        """Whether the last token's info is wanted: any extra implies it."""
        return bool(
            self.return_final_token_info
            or self.return_logits
            or self.return_top_logprobs
            or self.return_entropy
        )


class Generate(Sampling, TokenExtras):
    """A text, a state, or both, to continue."""

    model_config = example({"text_input": "Hello world", "max_new_tokens": 3})
    limited: ClassVar = ("max_new_tokens",)
    state_id: str | None = Field(None, description="Default: a new state.")
    text_input: str | None = Field(
        None, max_length=1_000_000, description="Appended and read before generating."
    )
    model_id: ModelId | None = Field(None, description="Of a new state.")
    config: ConfigChanges | None = Field(None, description="Of a new state.")
    max_new_tokens: int | None = Field(
        None, ge=1, description="New tokens at most. Default: 50, or the server's limit."
    )
    stream: OrNull[bool] = Field(False, description="The same as stream_tokens_info.")


class Forward(TokenExtras):
    """A text to read."""

    model_config = example({"text_input": "Hello world", "return_final_token_info": True})
    text_input: str = Field(
        max_length=1_000_000, description="What to read; empty: what is pending in the state."
    )
    state_id: str | None = Field(None, description="Default: a new state.")
    model_id: ModelId | None = Field(None, description="Of a new state.")
    config: ConfigChanges | None = Field(None, description="Of a new state.")


class TopLogprob(Answer):
    """A token the model might choose."""

    token: str = Field(description="Its text.")
    token_id: int = Field(description="Its id.")
    logprob: float = Field(description="Natural logarithm of its probability.")


class TokenInfo(Answer):
    """A token, and what was predicted."""

    token: str = Field(description="The text it adds.")
    token_id: int = Field(description="Its id.")
    position: int = Field(description="Its index in the state.")
    probability: float = Field(description="Of the token, given what precedes it.")
    logprob: float = Field(description="Natural logarithm of it.")
    distribution: Literal["this_token", "next_token"] = Field(
        description="Which prediction the rest describes."
    )
    entropy: float | None = Field(None, description="In nats.")
    top_logprobs: list[TopLogprob] | None = Field(None, description="Likeliest first.")
    logits: list[float] | None = Field(None, description="One per vocabulary id.")


class Generated(GeneratedTokens):
    """What a text or state was continued with."""

    state_id: StateId
    generated_text: str = Field(description="Only the continuation.")
    full_text: str = Field(description="The state's text now.")
    head_position: int = Field(description="Tokens of the state, all of them read.")
    seed: int | None = Field(description="The seed in force; null when nothing was drawn.")
    generated_token_info: TokenInfo | None = Field(
        None, description="Of the last token; null where there is none."
    )
    generated_tokens_info: list[TokenInfo] | None = Field(None, description="Of every token.")


class Forwarded(Answer):
    """A state that has read its text."""

    state_id: StateId
    head_position: int = Field(description="Tokens read.")
    token_count: int = Field(description="Tokens of the state.")
    token_info: TokenInfo | None = Field(None, description="Of the last token.")
    tokens_info: list[TokenInfo] | None = Field(None, description="Of every token of the text.")


class Cancel(Request):
    """A generation to end."""

    request_id: str = Field(
        min_length=1, max_length=64, description="Of the running request.", examples=[REQUEST_ID]
    )


class Cancelled(Answer):
    """Whether a generation was ended."""

    request_id: str = Field(description="As sent.", examples=[REQUEST_ID])
    cancelled: bool = Field(description="False when it is not running.")
