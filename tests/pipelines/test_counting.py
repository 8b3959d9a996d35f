"""The checklist of the pipelines, lines 103 to 105: statistics and progress."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from typing import Any

import pytest

from cacher.pipelines import LocalAPI, OnlineAPI, OrderedLocalAPI
from tests.pipelines.models import Grouped, Single, ask, together

Event = dict[str, Any]


@pytest.mark.parametrize("assembly", ["online", "local", "ordered"])
def test_103_104_the_numbers_agree(assembly: str) -> None:
    async def main() -> None:
        model = Single() if assembly == "online" else Grouped()
        api: Any = {
            "online": lambda: OnlineAPI(model, {}, 4, timeout=0),
            "local": lambda: LocalAPI(model, {}, 4, timeout=0),
            "ordered": lambda: OrderedLocalAPI(model, {}, 4, 2, timeout=0),
        }[assembly]()
        asked = [ask(p, n, f"{p}{n}{ns}", ns) for p in "pq" for n in range(5) for ns in "ab"]
        asked += [ask("bad", id="0"), ask("bad", id="1", n=3)]
        answers = await together(api, *asked, errors=True)
        late = asyncio.ensure_future(api.request(ask("r")))
        await asyncio.sleep(0)
        late.cancel()
        await asyncio.wait([late])
        stats = api.stats()
        assert stats["queued"] == stats["running"] == 0
        assert stats["requests"] == len(asked) + 1
        assert stats["samples"] == sum(request.n for request in asked) + 1
        assert (stats["failed"], stats["cancelled"]) == (2, 1)
        delivered = [answer for answer in answers if not isinstance(answer, Exception)]
        assert stats["delivered"] == sum(len(answer.data) for answer in delivered)
        assert stats["delivered"] == stats["cached"] + stats["fresh"]
        assert stats["cached"] == sum(sum(answer.cached) for answer in delivered)
        assert stats["duplicated"] == sum(sum(answer.duplicated) for answer in delivered)
        assert stats["model_samples"] == model.samples
        if assembly == "online":
            assert stats["model_calls"] == len(model.calls)
        else:
            assert (stats["model_calls"], stats["batch_items"]) >= (len(model.calls), 1)
        api.reset_stats()
        assert set(api.stats().values()) == {0}

    asyncio.run(main())


def test_105_what_the_watcher_is_told() -> None:
    async def main() -> None:
        events: list[Event] = []
        api = OnlineAPI(Single(), {}, 3, timeout=0, progress=events.append)
        asked = [ask(id="1", n=2), ask("q", id="2"), ask("bad", id="3")]
        await together(api, *asked, errors=True)
        await api.request(ask(ns="b", id="4"))
        kinds = [event["event"] for event in events]
        assert {kind: kinds.count(kind) for kind in kinds} == {
            "batch": 3,
            "stored": 2,
            "done": 3,
            "failed": 1,
        }
        assert [event["size"] for event in events if event["event"] == "batch"] == [3, 1, 1]
        done = [event for event in events if event["event"] == "done"]
        assert [(e["request_id"], e["n"], e["cached"]) for e in done] == [
            ("1", 2, 0),
            ("2", 1, 0),
            ("4", 1, 1),
        ]
        assert all(event["seconds"] >= 0 and event["namespace"] in "ab" for event in done)
        (failed,) = (event for event in events if event["event"] == "failed")
        assert failed["error"] == "ValueError('no')"
        stored = [event for event in events if event["event"] == "stored"]
        assert sorted((event["index"], event["count"]) for event in stored) == [(0, 1), (0, 2)]
        assert events[-1]["stats"] == api.stats()

    asyncio.run(main())


def test_105_a_watcher_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        api = OnlineAPI(Single(), {}, 3, timeout=0, progress=lambda event: event["no such"])
        assert (await api.request(ask(n=2))).data == ["p 0", "p 1"]

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "the progress callback raised" in caplog.text


def test_a_bar_for_who_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    async def main(progress: bool | None) -> str:
        monkeypatch.setattr(sys, "stderr", Terminal())
        async with OnlineAPI(Single(), {}, 3, timeout=0, progress=progress) as api:
            bar: Any = api._counters.watcher
            if bar is not None:
                bar.delay_s = 0
            await together(api, *(ask(f"{i}", id=f"{i}") for i in range(9)))
            return sys.stderr.getvalue()  # type: ignore[attr-defined]

    assert "requests" in asyncio.run(main(None))
    assert asyncio.run(main(False)) == ""
    with pytest.raises(TypeError, match="progress must be None, a bool or callable"):
        OnlineAPI(Single(), {}, 3, progress=7)  # type: ignore[arg-type]
