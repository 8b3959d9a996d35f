"""From exceptions to answers: the one place that knows status, code and body of each."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cacher import errors
from cacher.server.encoding import JSON, dumps

#: Their document has bodies of its own, in whatever application they are.
CHAT_PATHS = frozenset(
    prefix + path for prefix in ("", "/v1") for path in ("/chat/stream", "/inspect/full_attn")
)
PLAIN = frozenset({404, 405, 422})  # statuses whose body in that document is only a detail
MAX_SHOWN_ERRORS = 20
MAX_SHOWN_INPUT = 256  # characters of a refused value that are sent back
MAX_SHOWN_JSON = 4096  # of the chat API, which sends back whole bodies


def speaks_chat(scope: Scope) -> bool:
    """Whether a request is answered as the document of the chat API has it."""
    return scope["path"] in CHAT_PATHS or scope["app"].state.services.chat_only


class ApiError(errors.CacherError):
    """A request that HTTP alone can get wrong: what has no meaning in-process.

    Args:
        status: HTTP status.
        code: The stable word for programs.
        detail: The sentence for people, or a list of problems.
    """

    def __init__(self, status: int, code: str, detail: object) -> None:
        super().__init__(detail)
        self.answer = Answer(status, code, detail)


class Answer(NamedTuple):
    """What an error looks like over HTTP."""

    status: int
    code: str
    detail: object
    context: Mapping[str, object] | None = None
    headers: Mapping[str, str] | None = None

    @property
    def body(self) -> dict[str, object]:
        """The documented shape."""
        body = {"detail": self.detail, "code": self.code}
        return body if self.context is None else {**body, "context": self.context}

    @property
    def chat_body(self) -> dict[str, object]:
        """The shape that the document of the chat API has."""
        if self.status in PLAIN:
            return {"detail": self.detail}
        return {"error": self.detail, "code": self.code}

    def response(self, scope: Scope) -> Response:
        """Return it as a response to a request."""
        body = self.chat_body if speaks_chat(scope) else self.body
        return Response(dumps(body), self.status, self.headers, media_type=JSON)

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with it."""
        await self.response(scope)(scope, receive, send)


#: Exceptions that have an answer; all others are faults of ours.
ANSWERED = (errors.CacherError, TimeoutError)

INTERNAL = Answer(500, "internal_error", "Internal server error")
RETRY = {"Retry-After": "1"}
STOPPING = Answer(503, "busy", "The server is stopping", None, RETRY)

# An exception is answered by the first class that it is an instance of.
_TABLE: list[tuple[type[Exception], int, str]] = [
    (errors.EmbedderError, 503, "embedder_unavailable"),
    (errors.ModelNotFoundError, 400, "model_not_found"),
    (errors.WrongModelTypeError, 400, "wrong_model_type"),
    (errors.ContextOverflowError, 400, "context_overflow"),
    (errors.EmptyStateError, 400, "empty_state"),
    (errors.TokenIdError, 400, "invalid_token_id"),
    (errors.LayerOutOfRangeError, 400, "layer_out_of_range"),
    (errors.HeadOutOfRangeError, 400, "head_out_of_range"),
    (errors.TokenIndexOutOfRangeError, 400, "token_index_out_of_range"),
    (errors.ResponseTooLargeError, 400, "response_too_large"),
    (errors.StateNotFoundError, 404, "state_not_found"),
    (errors.StateExistsError, 400, "state_exists"),
    (errors.CheckpointNotFoundError, 400, "checkpoint_not_found"),
    (errors.RevisionNotAvailableError, 400, "revision_not_available"),
    (errors.ImportTooLargeError, 413, "body_too_large"),
    (errors.StateImportError, 400, "import_invalid"),
    (errors.MergeConflictError, 400, "merge_conflict"),
    (errors.StateFileError, 400, "import_invalid"),
    (errors.ModelMismatchError, 400, "import_invalid"),
    (errors.StateBusyError, 503, "busy"),
    (errors.BudgetError, 503, "busy"),
    (errors.QueueFullError, 503, "busy"),
    (errors.EngineClosedError, 503, "busy"),
]


def validation(problems: Sequence[Mapping[str, Any]]) -> Answer:
    """Return the answer to a request that does not fit its schema.

    Args:
        problems: As pydantic lists them: ``type``, ``loc``, ``msg``, ``input``.
    """
    shown = [_problem(problem) for problem in problems[:MAX_SHOWN_ERRORS]]
    return Answer(422, "validation_error", shown)


def chat_validation(problems: Sequence[Mapping[str, Any]]) -> Answer:
    """Return the same for the chat API, whose document has problems as pydantic lists them."""
    shown = [{**one, "input": _json_of(one["input"])} for one in problems[:MAX_SHOWN_ERRORS]]
    return Answer(422, "validation_error", shown)


def _json_of(value: object) -> orjson.Fragment:
    """The value, shortened where it is long, in ASCII: half of a surrogate pair is no UTF-8."""
    text = json.dumps(value, default=repr, separators=(",", ":"))
    if len(text) > MAX_SHOWN_JSON:
        return orjson.Fragment(json.dumps(text[:MAX_SHOWN_INPUT] + "..."))
    finite = json.loads(text, parse_constant=str)
    return orjson.Fragment(json.dumps(finite, separators=(",", ":")))


def refused(message: str, *where: str | int, kind: str = "value_error") -> ApiError:
    """Return the exception for one value that breaks what the schema cannot say."""
    problem = {"type": kind, "loc": where or ("body",), "msg": message}
    return ApiError(422, "validation_error", [problem])


def _problem(problem: Mapping[str, Any]) -> dict[str, object]:
    shown = {key: problem[key] for key in ("type", "loc", "msg")}
    if shown["type"] == "json_invalid" and "ctx" in problem:
        shown["msg"] = f"The body is no JSON: {problem['ctx']['error']}"
    value = problem.get("input", ...)
    if isinstance(value, (str, int, float, bool)) or value is None:
        text = value if isinstance(value, str) else repr(value)
        shown["input"] = value if len(text) <= MAX_SHOWN_INPUT else text[:MAX_SHOWN_INPUT] + "..."
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            shown["input"] = str(value)[:MAX_SHOWN_INPUT]
    return shown


def answer(error: Exception) -> Answer | None:
    """Return how an exception is answered; None for a fault of ours."""
    if isinstance(error, ApiError):
        return error.answer
    for kind, status, code in _TABLE:
        if isinstance(error, kind):
            headers = RETRY if status == 503 else None
            keys = getattr(error, "keys", ())
            context = {"keys": list(keys)} if code == "merge_conflict" and keys else None
            return Answer(status, code, str(error), context, headers)
    if isinstance(error, (errors.FileError, errors.StoreError)):
        number = getattr(error.__cause__, "errno", None)  # its own text may name a path
        reason = os.strerror(number) if number else "it cannot be read or written"
        return Answer(503, "storage_failed", f"The store cannot be used: {reason}")
    if isinstance(error, (errors.ModelError, errors.TokenizerError)) and not isinstance(
        error, errors.EncodingError
    ):
        return Answer(
            400,
            "model_not_found",
            "The model cannot be loaded: its files are damaged, incomplete or of a kind that is "
            "not supported. The server's log has the details",
        )
    if isinstance(error, errors.MissingExtraError):
        return Answer(400, "model_not_found", str(error))
    if isinstance(error, TimeoutError):
        return Answer(503, "timeout", "The request took too long", None, RETRY)
    if isinstance(error, (errors.ParameterError, errors.EncodingError)):
        return refused(str(error)).answer
    return None
