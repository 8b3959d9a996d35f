"""The semantic cache as the cache of LangChain's models.

``set_llm_cache(LangChainCache(SemanticCache("minilm")))`` lets every model of LangChain find
answers again.  What may share an answer, from the strict side:

1. The model's settings as LangChain writes them down (`llm_string`), and everything a chat's prompt
   holds beside the text of its one question (system messages, names), are a partition: only within
   one are texts compared by meaning.
2. A prompt with a history (answers, tool results, several questions), with parts that are no text,
   or that is longer than the embedder reads or `max_length`, gets only its own answer: what it
   means hangs on more than the embedder sees.  So does an answer that calls tools.
3. The first `max_partitions` partitions that are asked for are compared by meaning; beyond them (a
   system message that holds the time of day) a prompt gets only its own answer.

Answers are stored as JSON with the fields of `Generation`, `ChatGeneration` and `AIMessage`, and
read as these three: no data names a class, so LangChain's `loads` is not needed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cacher.checks import integer, number, shown, string
from cacher.errors import MissingExtraError, ParameterError
from cacher.semantic.embedder import ModelEmbedder
from cacher.semantic.entry import MAX_QUERY

if TYPE_CHECKING:
    from cacher.semantic.cache import SemanticCache
    from cacher.semantic.entry import Hit

try:
    from langchain_core.caches import BaseCache
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, Generation
    from langchain_core.runnables import run_in_executor
except ImportError:
    raise MissingExtraError(
        "the cache of LangChain's models needs LangChain: pip install 'cacher[langchain]'"
    ) from None

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_ANSWER = 65_536  # characters, as JSON
N_SPECIAL = 2  # tokens that an encoder adds to a text


class Question(NamedTuple):
    """What a prompt asks, and where answers to it may be found by meaning."""

    tenant: str
    text: str


class LangChainCache(BaseCache):
    """Remembers the answers of LangChain's models in a `SemanticCache`.

    Args:
        cache: Where answers are kept; it may serve others beside this.
        name: Begins the names of the tenants that are used, 1 to 64 letters, digits, - and _.
        similarity_threshold: The least cosine of a hit, 0 to 1; None: the cache's.
        max_length: Characters of the longest text that is compared by meaning.
        max_partitions: Most partitions whose texts are compared by meaning.

    Raises:
        ParameterError: An argument is outside its range.

    Example:
        >>> import cacher
        >>> from langchain_core.language_models import FakeListLLM
        >>> from cacher.semantic.langchain import LangChainCache
        >>> if "minilm" in cacher.hub.built_in():
        ...     cache = LangChainCache(cacher.SemanticCache("minilm"))
        ...     llm = FakeListLLM(responses=["An animal.", "Never said."], cache=cache)
        ...     print(llm.invoke("What is a fox?"), llm.invoke("What's a fox?"))
        ... else:
        ...     print("An animal. An animal.")
        An animal. An animal.
    """

    def __init__(
        self,
        cache: SemanticCache,
        *,
        name: str = "langchain",
        similarity_threshold: float | None = None,
        max_length: int = 1000,
        max_partitions: int = 256,
    ) -> None:
        if not NAME.fullmatch(string("name", name)):
            raise ParameterError(
                f"name is {shown(name)}, allowed: 1 to 64 letters, digits, - and _"
            )
        self._cache = cache
        self._prefix = name + "."
        self._threshold = similarity_threshold
        if similarity_threshold is not None:
            number("similarity_threshold", similarity_threshold, 0, 1)
        self._max_length = integer("max_length", max_length, 0, MAX_QUERY)
        self._max_partitions = integer("max_partitions", max_partitions, 0, 1_000_000)
        self._partitions: set[str] = set()
        self._lock = threading.Lock()

    # ---- what LangChain calls

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Return the remembered answer to a prompt, or None."""
        found = self._own(prompt, llm_string)
        question = None if found else self._question(prompt, llm_string)
        if question is not None:
            look = self._cache.look(
                question.text, similarity_threshold=self._threshold, tenant=question.tenant
            )
            found = look.hit
        return _answer(found)

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Return what `lookup` returns; prompts that come at once are embedded together."""
        found = await run_in_executor(None, self._own, prompt, llm_string)
        question = None if found else self._question(prompt, llm_string)
        if question is not None:
            look = await self._cache.alook(
                question.text, similarity_threshold=self._threshold, tenant=question.tenant
            )
            found = look.hit
        return _answer(found)

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Remember an answer; one that JSON does not give back as it was is passed over."""
        data = _encode(return_val)
        if data is None:
            log.info("an answer is not remembered: it is no plain text of a model, or too long")
            return
        question = self._question(prompt, llm_string)
        if question is None or _calls_tools(return_val):
            self._cache.put(
                _key(prompt, llm_string), data, source="langchain", vector=self._nowhere(),
                tenant=self._exact,
            )  # fmt: skip
        else:
            self._cache.put(question.text, data, source="langchain", tenant=question.tenant)

    def clear(self, **_: Any) -> None:
        """Forget what was remembered under this name, and nothing else of the cache."""
        for tenant in self._cache.tenants():
            if tenant.startswith(self._prefix):
                self._cache.clear(tenant=tenant)
        with self._lock:
            self._partitions.clear()

    # ---- places

    @property
    def _exact(self) -> str:
        return self._prefix + "exact"

    def _nowhere(self) -> Any:
        """The vector that nothing is similar to."""
        return np.zeros(self._cache.embedder.dimension, np.float32)

    def _own(self, prompt: str, llm_string: str) -> Hit | None:
        """Return the answer that is for this very prompt."""
        return self._cache.look(
            _key(prompt, llm_string), similarity_threshold=1, vector=self._nowhere(),
            tenant=self._exact,
        ).hit  # fmt: skip

    def _question(self, prompt: str, llm_string: str) -> Question | None:
        """Return what may be compared by meaning, or None."""
        context, text = _split(prompt)
        if not text or text.isspace() or len(text) > self._max_length or not self._is_read(text):
            return None
        tenant = self._prefix + _digest(llm_string, context)
        with self._lock:
            if tenant not in self._partitions:
                if len(self._partitions) >= self._max_partitions:
                    return None
                self._partitions.add(tenant)
        return Question(tenant, text)

    def _is_read(self, text: str) -> bool:
        """Whether the embedder reads a text to its end: texts that differ behind it look alike."""
        embedder = self._cache.embedder
        if not isinstance(embedder, ModelEmbedder):
            return True
        room = embedder.model.info.n_ctx - N_SPECIAL
        try:
            return len(text.encode()) <= room or len(embedder.model.tokenizer.encode(text)) <= room
        except ValueError:  # half of a surrogate pair
            return False


def _split(prompt: str) -> tuple[str, str]:
    """Return what a prompt says beside its question, and the question; "" where it has not one."""
    try:
        messages = json.loads(prompt)
    except (ValueError, RecursionError):
        return "", prompt
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        return "", prompt
    *before, last = messages
    text = last["kwargs"].get("content")
    kinds = [message["id"][-1] for message in messages]
    if kinds != ["SystemMessage"] * len(before) + ["HumanMessage"] or not isinstance(text, str):
        return "", ""
    beside = {**last, "kwargs": {**last["kwargs"], "content": None}}
    return json.dumps([*before, beside], sort_keys=True), text


def _is_message(value: object) -> bool:
    """Whether this is a message of a chat as LangChain writes it."""
    if not isinstance(value, dict) or value.get("lc") != 1:
        return False
    kind = value.get("id")
    return isinstance(kind, list) and bool(kind) and isinstance(value.get("kwargs"), dict)


def _digest(*texts: str) -> str:
    data = json.dumps(texts).encode()  # says where one ends and the next begins
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _key(prompt: str, llm_string: str) -> str:
    return f"blake2b:{_digest(llm_string, prompt)}"


# ---- answers as JSON


def _calls_tools(answer: Sequence[Generation]) -> bool:
    messages = [each.message for each in answer if isinstance(each, ChatGeneration)]
    return any(isinstance(message, AIMessage) and message.tool_calls for message in messages)


def _encode(answer: Sequence[Generation]) -> str | None:
    """Return an answer as JSON, or None where it would not come back as it was."""
    items: list[dict[str, object]] = []
    for each in answer:
        item: dict[str, object] = {"info": each.generation_info}
        if type(each) is Generation:
            item["text"] = each.text
        elif type(each) is ChatGeneration and type(each.message) is AIMessage:
            item["message"] = each.message.model_dump(mode="json")
        else:
            return None
        items.append(item)
    try:
        data = json.dumps(items, allow_nan=False)
        same = len(data) <= MAX_ANSWER and _decode(data) == list(answer)
    except (TypeError, ValueError, RecursionError):
        return None
    return data if same else None


def _decode(data: str) -> list[Generation]:
    """Return the answer that JSON holds.

    Raises:
        ValueError: It holds none.
    """
    items = json.loads(data)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError("it is no list of objects")
    return [
        ChatGeneration(
            message=AIMessage.model_validate(item["message"]), generation_info=item.get("info")
        )
        if "message" in item
        else Generation(text=item.get("text"), generation_info=item.get("info"))
        for item in items
    ]


def _answer(hit: Hit | None) -> list[Generation] | None:
    if hit is None:
        return None
    try:
        return _decode(hit.entry.response)
    except (TypeError, ValueError, RecursionError) as error:
        log.warning("entry %s holds no answer of a model: %s", hit.entry.entry_id, error)
        return None
