"""What all schemas share: strictness, null as the default, errors."""

from __future__ import annotations

from functools import cache
from types import UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, cast, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

T = TypeVar("T")


class _OrNull:
    """Lets null stand for the default: the value itself never is None, the schema says both."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [handler(core), {"type": "null"}]}


OrNull = Annotated[T, _OrNull()]

STATE_ID = "5b1c0c0e-9f55-4f7e-8f0a-2b1f3c7f9e10"
REQUEST_ID = "0d7b5f0e-6a43-4b07-a6f6-0a3b8f1f9f55"

NEW_ID = (
    "An id of your own: letters, digits, '.', '_', '-'; not config, merge, diff, import, export, "
    "inspect or stats. Default: a random UUID."
)
ModelId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        description="A model of the list of models, or an alias.",
        examples=["tales"],
    ),
]
StateId = Annotated[str, Field(description="Id of the state.", examples=[STATE_ID])]
NewStateId = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
]
Range = Annotated[
    list[Annotated[int, Field(ge=0, le=2**31 - 1)]], Field(min_length=2, max_length=2)
]
Tags = dict[str, Any]


def example(value: Any) -> ConfigDict:
    """Return the configuration of a schema with an example."""
    return ConfigDict(json_schema_extra={"examples": [value]})


def whole(item: object, field: FieldInfo | None) -> object:
    """Take 5.0 as 5 where integers are wanted: JSON knows no difference."""
    if not isinstance(item, (float, list)):
        return item
    if field is None or not _wants_integer(cast(Any, field.annotation)):
        return item
    if isinstance(item, list):
        return [_whole(one) for one in item] if float in set(map(type, item)) else item
    return _whole(item)


def _whole(item: object) -> object:
    return int(item) if isinstance(item, float) and item.is_integer() else item


@cache
def _wants_integer(annotation: Any) -> bool:
    """Whether the type is an integer, or a list of them, behind whatever is said of it."""
    if get_origin(annotation) in (Annotated, list):
        return _wants_integer(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return any(_wants_integer(one) for one in get_args(annotation))
    return annotation is int


class Request(BaseModel):
    """A body: types are taken as they are, unknown fields are ignored, null is the default."""

    model_config = ConfigDict(
        strict=True, extra="ignore", allow_inf_nan=False, protected_namespaces=()
    )
    #: Fields where null has a meaning of its own.
    keeps_null: ClassVar[tuple[str, ...]] = ("seed",)
    #: Fields that count new tokens: the server's settings bound them.
    limited: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            key: whole(value[key], field)
            for key, field in cls.model_fields.items()
            if key in value
            and (value[key] is not None or key in cls.keeps_null or field.is_required())
        }


class QueryParameters(BaseModel):
    """A query: numbers and booleans are read from their text."""

    model_config = ConfigDict(allow_inf_nan=False, protected_namespaces=())


class Answer(BaseModel):
    """A response."""

    model_config = ConfigDict(protected_namespaces=())


class ErrorBody(Answer):
    """What went wrong."""

    model_config = example({"detail": f"State not found: {STATE_ID}", "code": "state_not_found"})
    detail: str = Field(description="A sentence for people; it names the offending value.")
    code: str = Field(description="A stable word for programs.", examples=["state_not_found"])
    context: dict[str, Any] | None = Field(None, description="Details for programs.")


class Problem(Answer):
    """A field that breaks the schema."""

    type: str = Field(description="A word for the kind of problem.", examples=["less_than_equal"])
    loc: list[str | int] = Field(description="Where: body, query or path, then the field.")
    msg: str = Field(description="A sentence for people.")
    input: Any = Field(None, description="The value, shortened; absent where it is no plain one.")


class ValidationErrorBody(Answer):
    """The fields that break the schema."""

    model_config = example(
        {
            "detail": [
                {
                    "type": "less_than_equal",
                    "loc": ["body", "max_tokens"],
                    "msg": "Input should be less than or equal to 100",
                    "input": 5000,
                }
            ],
            "code": "validation_error",
        }
    )
    detail: list[Problem] = Field(description="One entry per problem, 20 at most.")
    code: str = Field(description="Always validation_error.", examples=["validation_error"])
