"""The checklist of the pipelines, line 106: what an experiment spends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cacher.errors import ModelContractError
from cacher.pipelines import OnlineAPI
from cacher.pipelines.accounting import API, DecodingParameters
from cacher.typedefs import Request, Response
from tests.pipelines.loops import in_a_loop

PARAMS = DecodingParameters(64, 0.7, 1.0, ["\n"], None)


class Priced:
    """Samples with what they cost: 10 in, 2 out, and 7 of the 10 cached by the provider."""

    def __init__(self, *costs: int) -> None:
        self.costs = costs or (10, 2, 7)
        self.requests: list[Any] = []

    async def request(self, request: Request) -> Response:
        self.requests.append(request)
        return Response([(f"text {i}", *self.costs) for i in range(request.n)])


@in_a_loop
async def test_106_texts_and_counts() -> None:
    async with OnlineAPI(Priced(), {}, batch_size=4, timeout=0) as pipeline:
        api = API(pipeline, "m")
        assert await api.request("p", 2, "1", "a", PARAMS) == ["text 0", "text 1"]
        assert await api.request("p", 2, "2", "b", PARAMS) == ["text 0", "text 1"]
        assert api.calls["default"] == {"total": 4, "cacher": 2, "deduplicator": 1}
        assert api.tokens["default"] == {
            "total": {"in": 40, "out": 8, "cached": 7},
            "cacher": {"in": 20, "out": 4},
            "duplicator": {"in": 10},
        }
        assert len(api.latencies["default"]) == 2
        assert list(api.reuse["default"].values()) == [4]


@in_a_loop
async def test_tabs_are_counted_apart_and_cleaned_together() -> None:
    async with OnlineAPI(Priced(1, 1), {}, batch_size=4, timeout=0) as pipeline:
        api = API(pipeline, "m")
        await api.request("p", 1, "1", "a", PARAMS, tab="search")
        await api.request("q", 1, "2", "a", PARAMS, tab="search")
        assert api.tabs == ["default", "search"]
        assert [api.calls[tab]["total"] for tab in api.tabs] == [0, 2]
        assert list(api.reuse["search"].values()) == [1, 1]
        assert api.tokens["search"]["total"] == {"in": 2, "out": 2, "cached": 0}
        api.clean()
        assert api.tabs == ["default", "search"]
        assert api.calls["search"] == {"total": 0, "cacher": 0, "deduplicator": 0}
        assert (api.latencies["search"], api.reuse["search"]) == ([], {})
        assert await api.request("p", 1, "3", "b", PARAMS) == ["text 0"]
        assert api.calls["default"] == {"total": 1, "cacher": 1, "deduplicator": 0}


@in_a_loop
async def test_model_and_parameters_are_fields_and_in_the_key() -> None:
    model = Priced()
    async with OnlineAPI(model, {}, batch_size=4, timeout=0) as pipeline:
        api = API(pipeline, "m")
        await api.request("p", 1, "1", "a", PARAMS)
        await api.request("p", 1, "2", "b", PARAMS._replace(temperature=0.0))
        await API(pipeline, "other").request("p", 1, "3", "c", PARAMS)
        assert len(api.reuse["default"]) == 2
    assert [(one.prompt, one.model, one.temperature) for one in model.requests] == [
        ("p", "m", 0.7), ("p", "m", 0.0), ("p", "other", 0.7),
    ]  # fmt: skip
    assert (model.requests[0].max_completion_tokens, model.requests[0].stop) == (64, ["\n"])


@in_a_loop
async def test_calls_are_written_to_a_file(tmp_path: Path) -> None:
    async with OnlineAPI(Priced(), {}, batch_size=4, timeout=0) as pipeline:
        api = API(pipeline, "m", tmp_path / "first")
        await api.request("half a character: \ud800", 1, "1", "a", PARAMS)
        api.update_log_path(tmp_path / "second")
        await api.request([{"role": "system", "content": "Be brief."}], 2, "2", "a", PARAMS)
        api.update_log_path(None)
        await api.request("p", 1, "3", "a", PARAMS)
    first, second = ((tmp_path / name).read_text() for name in ("first", "second"))
    assert first == "user: half a character: \\ud800\nn: 1\nanswer 0: text 0\n\n"
    assert second == "system: Be brief.\nn: 2\nanswer 0: text 0\nanswer 1: text 1\n\n"


@in_a_loop
async def test_other_samples_are_a_breach_of_contract() -> None:
    class Plain(Priced):
        async def request(self, request: Request) -> Response:
            return Response(["text"] * request.n)

    async with OnlineAPI(Plain(), {}, batch_size=4, timeout=0) as pipeline:
        api = API(pipeline, "m")
        with pytest.raises(ModelContractError, match="a sample is 'text', allowed: "):
            await api.request("p", 1, "1", "a", PARAMS)
        assert api.calls["default"]["total"] == 0
