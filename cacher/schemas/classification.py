"""Judging texts."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from cacher.schemas.base import Answer, OrNull, Request, StateId, example

Label = Annotated[str, Field(min_length=1, max_length=256)]
AnyText = Annotated[str, Field(max_length=1_000_000)]
Matrix = list[list[float]]


class Classify(Request):
    """What to judge, and by which labels."""

    model_config = example({"state_id": "demo-1", "labels": ["happy", "sad"]})
    state_id: StateId
    text: AnyText | None = Field(None, description="Default: the state's text.")
    labels: list[Label] | None = Field(
        None,
        min_length=2,
        max_length=64,
        json_schema_extra={"uniqueItems": True},
        description="Zero-shot, for causal models.",
    )
    multi_label: OrNull[bool] = Field(False, description="Judge each label by itself.")
    threshold: float | None = Field(
        None, ge=0, le=1, description="Score from which a label is selected."
    )
    template: OrNull[str] = Field(
        " This text is {}.", max_length=1000, description="{} stands for the label."
    )
    texts: list[AnyText] | None = Field(
        None, min_length=1, max_length=64, description="Several texts instead of one."
    )
    include_correlation: OrNull[bool] = Field(False, description="Of the labels, with texts.")
    per_token: OrNull[bool] = Field(False, description="Reward of every prefix.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.labels is not None and len(set(self.labels)) != len(self.labels):
            raise ValueError("labels holds a label twice")
        if self.template.count("{}") != 1:
            raise ValueError("template must hold {} once")
        return self


class LabelScores(Answer):
    """What a text scores for a label."""

    label: str = Field(description="The label.")
    score: float = Field(description="0 to 1.")
    logit: float = Field(description="The model's own number.")


class Rewards(Answer):
    """How the reward grows with the text."""

    tokens: list[str] = Field(description="The tokens.")
    rewards: list[float] = Field(description="Of every prefix.")
    cumulative: list[float] = Field(description="Running sums.")
    average: float = Field(description="Mean.")
    start_positions: list[int] = Field(description="In characters; -1 for special tokens.")


class Judgement(Answer):
    """What a model makes of a text."""

    label: str = Field(description="The label with the highest score.")
    score: float = Field(description="Its score.")
    scores: list[LabelScores] = Field(description="All labels, best first.")
    reward: float | None = Field(description="Of a model with one output.")
    multi_label: bool = Field(description="Whether labels were judged independently.")
    selected: list[str] = Field(description="Labels that reach the threshold.")
    per_token: Rewards | None = Field(None, description="With per_token.")


class Classified(Judgement):
    """What a model makes of a text or a state."""

    state_id: StateId


class LabelCorrelations(Answer):
    """How the scores of labels go together."""

    labels: list[str] = Field(description="The labels.")
    matrix: Matrix = Field(description="Pearson's correlation of each with each.")


class ClassifiedAll(Answer):
    """What a model makes of several texts."""

    state_id: StateId
    results: list[Judgement] = Field(description="One per text.")
    label_correlation: LabelCorrelations | None = Field(
        None, description="With include_correlation."
    )
