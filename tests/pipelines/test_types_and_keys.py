"""The checklist of the pipelines, lines 1 to 26: names, requests, answers, protocols and keys."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cacher.canonical import IGNORED
from cacher.errors import UncacheableRequest
from cacher.pipelines import OnlineAPI
from cacher.typedefs import (
    Batch,
    BatchRequestModel,
    Metadata,
    PromptNamespace,
    Request,
    Response,
    SingleRequestModel,
    derived,
    hash,  # noqa: A004
)
from tests.pipelines.loops import in_a_loop

PlainRequest = Request


@dataclasses.dataclass(frozen=True)
class Request(PlainRequest):  # type: ignore[no-redef]
    temperature: float


@dataclasses.dataclass(frozen=True)
class Tuned(Request):  # type: ignore[valid-type, misc]
    stop: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted(PlainRequest):
    top_k: int


def call(kwargs: dict[Any, Any], **others: Any) -> PlainRequest:
    return PlainRequest(**{"kwargs": kwargs, "n": 1, "request_id": "1", "namespace": "x"} | others)


def prompt(text: str = "p", **others: Any) -> PlainRequest:
    return PlainRequest(**{"prompt": text, "n": 1, "request_id": "1", "namespace": "x"} | others)


IDS: dict[str, Any] = {"n": 1, "request_id": "1", "namespace": "x"}
EVERY = [
    call({"messages": [{"role": "user", "content": "q"}], "stop": ["a"]}),
    prompt(),
    Request(prompt="p", temperature=0.5, **IDS),
    Tuned((), {"a": [1]}, 1, "1", "x", 0.5, ("a",)),
    Slotted(prompt="p", top_k=3, **IDS),
]
every = pytest.mark.parametrize("request_", EVERY, ids=lambda one: type(one).__qualname__)


#: Where each name of the documented table is; its other module paths are out of scope, and so are
#: the rows of other providers.
NAMES = {
    "cacher": (
        "AsyncBatcher", "AsyncCacher", "AsyncDeduplicator", "Batch", "BatchRequestModel", "Cache",
        "LocalAPI", "LocalLLM", "Metadata", "OnlineAPI", "OrderedLocalAPI", "Request",
        "RequestReorderer", "Response", "SingleRequestModel",
    ),
    "cacher.typedefs": (
        "Batch", "BatchRequestModel", "Metadata", "PromptNamespace", "Request", "Response",
        "SingleRequestModel", "hash",
    ),
    "cacher.pipelines": (
        "API", "AsyncBatcher", "AsyncCacher", "AsyncDeduplicator", "AsyncOpenAI", "AsyncWrapper",
        "BatchRequestModel", "Cache", "DecodingParameters", "LocalAPI", "LocalLLM",
        "ModelContractError", "OnlineAPI", "OpenAI", "OrderedLocalAPI", "PipelineClosed",
        "RequestReorderer", "ShortResponseError", "SingleRequestModel", "StoreError",
        "SyncWrapper", "UncacheableRequest", "Wrapper",
    ),
    "cacher.pipelines.local": ("AsyncLocal", "ChatCompletion", "Local", "LocalLLM"),
    "cacher.pipelines.openai": ("AsyncClient", "AsyncOpenAI", "OpenAI", "OpenAIModel"),
    "cacher.pipelines.wrapper": (
        "APIProxy", "AsyncWrapper", "SyncWrapper", "Wrapper", "default_adapter",
        "gemini_chat_adapter", "openai_chat_adapter",
    ),
}  # fmt: skip


@pytest.mark.parametrize("module", NAMES)
def test_1_names_are_where_they_are_documented(module: str) -> None:
    there = importlib.import_module(module)
    assert [name for name in NAMES[module] if not hasattr(there, name)] == []


def test_2_importing_needs_no_sdk_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import importlib, sys, threading\n"
        "sys.modules['openai'] = None\n"
        f"for module, names in {NAMES!r}.items():\n"
        "    there = importlib.import_module(module)\n"
        "    [getattr(there, name) for name in names]\n"
        "print(threading.active_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert list(tmp_path.iterdir()) == []


def test_3_call_form_by_name_and_by_position() -> None:
    named = PlainRequest(args=(), kwargs={"a": 1}, n=1, request_id="1", namespace="x")
    assert named == PlainRequest((), {"a": 1}, 1, "1", "x")
    assert named != PlainRequest((), {"a": 1}, 1, "2", "x")


def test_4_prompt_form() -> None:
    request = PlainRequest(prompt="p", n=1, request_id="1", namespace="x")
    assert (request.args, request.kwargs, request.prompt) == ((), {}, "p")
    assert call({"a": 1}).args == ()


ADDED = {
    PlainRequest: {},
    Request: {"temperature": 1.0},
    Tuned: {"temperature": 1.0},
    Slotted: {"top_k": 1},
}


@pytest.mark.parametrize("cls", ADDED, ids=lambda cls: cls.__qualname__)
@pytest.mark.parametrize("missing", ["prompt", "n", "request_id", "namespace"])
def test_5_what_is_missing_is_a_type_error(cls: type, missing: str) -> None:
    parts = {"prompt": "p", **IDS, **ADDED[cls]}
    assert cls(**parts).prompt == "p"
    with pytest.raises(TypeError, match=r"missing|a request needs"):
        cls(**{name: value for name, value in parts.items() if name != missing})


@pytest.mark.parametrize("cls", ADDED, ids=lambda cls: cls.__qualname__)
def test_5_either_form_is_complete(cls: type) -> None:
    parts = {**IDS, **ADDED[cls]}
    assert cls(kwargs={}, **parts).args == ()
    with pytest.raises(TypeError, match="a request needs a prompt, or args and kwargs"):
        cls(prompt=None, **parts)
    with pytest.raises(TypeError, match="a request without a prompt needs kwargs"):
        cls(args=("a",), **parts)
    with pytest.raises(TypeError, match="unexpected"):
        cls(prompt="p", prompts="p", **parts)


@every
def test_6_requests_are_frozen(request_: PlainRequest) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        request_.n = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del request_.n


def test_7_derived_classes_add_fields_with_and_without_default() -> None:
    one = Request((), {"a": 1}, 1, "1", "x", 0.5)
    assert one == Request(kwargs={"a": 1}, temperature=0.5, **IDS)
    assert (one.temperature, one.prompt) == (0.5, None)
    assert Request(prompt="p", temperature=0.5, **IDS).kwargs == {}
    assert Tuned(prompt="p", temperature=0.5, **IDS).stop == ()
    assert Tuned((), {}, 1, "1", "x", 0.5, ("a",), prompt="p").stop == ("a",)
    assert [part.name for part in dataclasses.fields(Tuned)] == [
        "args", "kwargs", "n", "request_id", "namespace", "prompt", "temperature", "stop",
    ]  # fmt: skip
    assert one != Tuned((), {"a": 1}, 1, "1", "x", 0.5)


def test_7_a_derived_class_may_have_an_init_of_its_own() -> None:
    class Named(PlainRequest):
        def __init__(self, text: str) -> None:
            super().__init__(prompt=text, n=1, request_id=text, namespace=None)

    @dataclasses.dataclass(frozen=True)
    class Made(PlainRequest):
        kind: str
        seen: list[str] = dataclasses.field(default_factory=list)

        def __post_init__(self) -> None:
            self.seen.append(self.kind)

    assert Named("p").request_id == Named("p").prompt == "p"
    assert Made(prompt="p", kind="k", **IDS).seen == ["k"]


def test_8_what_is_not_there_is_none_unless_it_is_private() -> None:
    request: Any = prompt()
    assert request.no_such_thing is None
    assert request.sample_index is None
    with pytest.raises(AttributeError, match="_no_such_thing"):
        _ = request._no_such_thing


@every
@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda r, p=p: pickle.loads(pickle.dumps(r, p)) for p in range(6)),
        lambda request: derived(request, sample_index=3),
    ],
)
def test_9_copies_are_equal(request_: PlainRequest, copied: Callable[[Any], Any]) -> None:
    again = copied(request_)
    assert again == request_
    assert again is not request_
    assert type(again) is type(request_)
    assert hash(again) == hash(request_)


@every
def test_10_replace_and_asdict(request_: PlainRequest) -> None:
    numbered = derived(request_, sample_index=7, request_id="1_0")
    assert (numbered.sample_index, numbered.request_id, request_.sample_index) == (7, "1_0", None)
    assert dataclasses.replace(numbered, request_id="1") == request_
    four = dataclasses.replace(request_, n=4)
    assert dataclasses.asdict(four) == {**dataclasses.asdict(request_), "n": 4}
    assert derived(request_, n=4) == four
    assert "sample_index" not in dataclasses.asdict(numbered)
    assert "sample_index" not in {part.name for part in dataclasses.fields(request_)}


@every
def test_11_the_built_in_hash(request_: PlainRequest) -> None:
    import builtins

    assert builtins.hash(request_) == builtins.hash(copy.deepcopy(request_))
    assert len({request_, copy.deepcopy(request_)}) == 1


def test_11_equal_requests_of_unlike_types_have_one_hash() -> None:
    import builtins
    from collections import OrderedDict, UserDict, UserList
    from types import MappingProxyType

    alike = [
        [1, 1.0, True],
        [b"a", bytearray(b"a")],
        [{1}, frozenset({1}), {1: 2}.keys()],
        [{"a": [1]}, OrderedDict(a=[1]), MappingProxyType({"a": [1.0]}), UserDict(a=[1])],
        [[1, [2]], UserList([1, [2]])],
        [("p", [2]), PromptNamespace("p", [2])],  # type: ignore[arg-type]
    ]
    for values in alike:
        requests = [call({"value": value}) for value in values]
        assert all(request == requests[0] for request in requests)
        assert len({builtins.hash(request) for request in requests}) == 1


def test_12_named_tuples() -> None:
    assert Response(data=[1]) == ([1], None, None)
    assert Metadata(2) == (2, None, None)
    request = prompt()
    assert Batch([request]).requests == [request]
    assert PromptNamespace("p", "x")._asdict() == {"prompt": "p", "namespace": "x"}


def test_13_protocols_tell_by_the_method() -> None:
    class Single:
        async def request(self, request: Any) -> Response:
            return Response([request])

    class Together:
        async def batch_request(self, batch: Batch) -> list[Response]:
            return [Response([request]) for request in batch.requests]

    assert [isinstance(x, SingleRequestModel) for x in (Single(), Together(), 1)] == [
        True,
        False,
        False,
    ]
    assert [isinstance(x, BatchRequestModel) for x in (Single(), Together(), 1)] == [
        False,
        True,
        False,
    ]


def test_14_a_class_of_both_protocols_has_an_init_of_its_own() -> None:
    class Model(SingleRequestModel, BatchRequestModel):
        def __init__(self, name: str) -> None:
            self.name = name

    assert Model("m").name == "m"
    assert isinstance(Model("m"), SingleRequestModel)
    assert isinstance(Model("m"), BatchRequestModel)


@every
def test_15_a_key_is_64_hexadecimal_digits(request_: PlainRequest) -> None:
    assert len(hash(request_)) == 64
    assert set(hash(request_)) <= set("0123456789abcdef")
    assert hash(request_) == request_.hash()


@every
def test_16_n_id_and_namespace_are_not_in_the_key(request_: PlainRequest) -> None:
    for change in ({"n": 5}, {"request_id": "2"}, {"namespace": None}):
        assert hash(dataclasses.replace(request_, **change)) == hash(request_)


def test_16_nor_is_the_class() -> None:
    @dataclasses.dataclass(frozen=True)
    class Other(PlainRequest):
        temperature: float

    assert hash(Other(prompt="p", temperature=1.0, **IDS)) == hash(
        Request(prompt="p", temperature=1.0, **IDS)
    )


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_17_what_does_not_change_the_answer_is_not_in_the_key(name: str) -> None:
    kwargs = {"a": [1], name: [True]}
    assert hash(call(kwargs)) == hash(call({**kwargs, name: 2})) == hash(call({"a": [1]}))
    assert kwargs == {"a": [1], name: [True]}


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_18_deeper_it_is(name: str) -> None:
    keys = {hash(call({"a": {"b": value}})) for value in ({}, {name: 1}, {name: 2})}
    assert len(keys) == 3


def test_19_20_order_and_repetition_count() -> None:
    one, two = {"role": "user", "content": "1"}, {"role": "user", "content": "2"}
    lists = ([one, two], [two, one], [one, two, two], [one, one, two])
    assert len({hash(call({"messages": messages})) for messages in lists}) == len(lists)


def test_21_the_order_of_a_dict_does_not_count() -> None:
    entries = {"a": 1, 2: "b", None: {"x": 1, "y": 2}, ("t",): 3}
    backwards = dict(reversed(entries.items()))
    backwards[None] = {"y": 2, "x": 1}
    assert hash(call(entries)) == hash(call(backwards))


def test_22_types_count() -> None:
    values = [
        1, 1.0, True, "1", b"1", (1,), [1], {1}, {1: 1}, None, 0.0, -0.0, "A", "a", "a ",
        "\u00e9", "e\u0301", 1 + 0j, bytearray(b"1"), [[]], [()], [], {}, "", b"",
    ]  # fmt: skip
    requests = [call({}), *(call({"value": value}) for value in values)]
    assert len({hash(request) for request in requests}) == len(requests)
    assert hash(call({"value": float("nan")})) == hash(call({"value": -float("nan")}))
    assert hash(call({"value": {1, "a"}})) == hash(call({"value": {"a", 1}}))


def test_23_a_field_that_a_class_adds_is_in_the_key() -> None:
    keys = {
        hash(Tuned(prompt="p", temperature=temperature, stop=stop, **IDS))
        for temperature in (0.0, 1.0, 1)
        for stop in ((), ("a",), ("a", "a"))
    }
    assert len(keys) == 9
    assert hash(prompt()) not in keys


def test_24_a_key_is_the_same_in_every_process() -> None:
    code = (
        "from cacher.typedefs import Request, hash\n"
        "from pathlib import PurePosixPath\n"
        "members = {'a', 'b', 'c', 1, 2.5, None, frozenset('xyz'), PurePosixPath('/p')}\n"
        "print(hash(Request(('a',), {'members': members, 'b': {1: 2, 'x': {3: 4}}}, 1, '1', 'n')))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "4294967295")
    }  # fmt: skip
    assert len(printed) == 1


def test_25_what_has_no_key_is_refused_by_its_place() -> None:
    with pytest.raises(UncacheableRequest, match=r"^kwargs\['callback'\] is a function") as raised:
        hash(call({"callback": lambda: None}))
    assert isinstance(raised.value, TypeError)
    cycle: list[Any] = []
    cycle.append({"a": cycle})
    with pytest.raises(ValueError, match=r"^kwargs contains itself"):
        hash(call({"loop": cycle}))


@in_a_loop
async def test_26_a_pipeline_s_own_hash_decides() -> None:
    class Counting:
        calls = 0

        async def request(self, request: PlainRequest) -> Response:
            self.calls += 1
            return Response([self.calls] * request.n)

    model = Counting()
    async with OnlineAPI(model, {}, 1, hash=lambda r: r.prompt, timeout=0) as pipeline:
        one = await pipeline.request(Request(prompt="p", temperature=0.0, **IDS))
        two = await pipeline.request(
            Request(prompt="p", temperature=1.0, **{**IDS, "namespace": "y"})
        )
    assert (one.data, two.data, two.cached, model.calls) == ([1], [1], [True], 1)
