"""One sample cache in one process: reads a cell per line on stdin, answers with what it measured.

    python benchmarks/sample_caches.py cacher|cachesaver FOLDER

The same lines drive both, as the guide of cachesaver shows it: an OnlineAPI or a LocalAPI around a
model, on a cache object with a folder, which is a diskcache with its defaults there and a
`cacher.pipelines.Cache` with its own here; one `asyncio.gather` over all requests.  A request is a
prompt and nothing else, which is what cachesaver takes least time for.  An answer has 1 KB and is
stored when its request returns: it then outlives the process, and neither waits for the disk
(SQLite's `synchronous=NORMAL`).  Every answer is checked.  There are always as many requests as
fill all batches: a last batch that is not full waits for its time, in both.  FOLDER is on the disk
and is filled.

A cell is {"op": one of the public methods of `Driver`, ...its arguments}.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import itertools
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

QUESTION = "Continue the story in which the following happens, in the same voice: scene number "
ANSWER = 13 * "The harbour was quiet at that hour, and the boats lay still on the grey water. "
WAIT_S = 30.0  # the default of both: every batch is full before
SLOW_WAIT_S = 0.1
SLOW_MODEL_S = 0.005  # for a batch
FAR_MODEL_S = 0.02  # for a call


def drawn(i: int) -> str:
    """Return the i-th answer of a model: 1 KB."""
    return f"{i:08}: {ANSWER}"[:1024]


class Model:
    """Answers at once, no two requests alike."""

    def __init__(self, response: type) -> None:
        self.calls = 0
        self._response = response
        self._texts = map(drawn, itertools.count())

    async def request(self, request: Any) -> Any:
        self.calls += 1
        return self._response(data=list(itertools.islice(self._texts, request.n)))


class SlowModel(Model):
    """Takes its time for a batch, however many are in it."""

    def __init__(self, response: type) -> None:
        super().__init__(response)
        self.sizes: list[int] = []

    async def batch_request(self, batch: Any) -> list[Any]:
        self.sizes.append(len(batch.requests))
        await asyncio.sleep(SLOW_MODEL_S)
        return [await self.request(request) for request in batch.requests]


class FarModel(Model):
    """Takes its time for each call, and signs its answers with its process."""

    async def request(self, request: Any) -> Any:
        await asyncio.sleep(FAR_MODEL_S)
        answer = await super().request(request)
        return answer._replace(data=[f"{os.getpid()}, {text}" for text in answer.data])


def check(is_right: bool, what: str) -> None:
    if not is_right:
        raise RuntimeError(f"wrong answers: {what}")


def resident() -> int:
    """Return how many bytes of this process are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def filled(count: int, batch: int) -> int:
    """Return the least number from count on that fills all batches."""
    return -(-count // batch) * batch


class Driver:
    """Drives the pipelines of a package; its public methods are the cells."""

    def __init__(self, package: str, folder: Path) -> None:
        self._typedefs = importlib.import_module(f"{package}.typedefs")
        self._pipelines = importlib.import_module(f"{package}.pipelines")
        self._cache = self._pipelines.Cache  # there it is diskcache's
        self._folder = folder
        self._places = map(str, itertools.count())

    # ---- the cells

    def unique(self, count: int, batch: int) -> dict[str, float]:
        """Return requests a second when each prompt is new, and when each is cached."""
        requests = [self._request(i) for i in range(filled(count, batch))]
        with self._place() as place:
            model, bought, cold = self._run(place, requests, batch)
            check(model.calls == len(set(bought)) == len(requests), "each prompt is bought once")
            model, replayed, cached = self._run(place, requests, batch)
            check(model.calls == 0 and replayed == bought, "a replay gives the same")
        return {"new prompts": cold, "cached prompts": cached}

    def duplicates(self, count: int, batch: int, share: int, namespaces: int) -> dict[str, float]:
        """Return requests a second when so many share a prompt, from so many namespaces."""
        count = filled(count, batch)
        requests = [self._request(i // share, number=i, namespace=f"run {i % namespaces}")
                    for i in range(count)]  # fmt: skip
        random.Random(count).shuffle(requests)
        with self._place() as place:
            _, texts, rate = self._run(place, requests, batch)
        bought = {(*request.args, text) for request, text in zip(requests, texts, strict=True)}
        samples = {(i // share, i % share // namespaces) for i in range(count)}
        check(len(bought) == len(samples), "namespaces share samples, and no two of one do")
        what = f"{1 - 1 / share:.0%} duplicates, {namespaces} namespace{'s' * (namespaces > 1)}"
        return {what: rate}

    def several(self, count: int, batch: int, n: int) -> dict[str, float]:
        """Return requests a second when each wants n samples of a new prompt."""
        requests = [self._request(i, n=n) for i in range(filled(count, batch))]
        with self._place() as place:
            _, texts, rate = self._run(place, requests, batch)
        check(len(set(texts)) == n * len(requests), "samples differ")
        return {f"{n} samples of new prompts": rate}

    def slow(self, count: int, batch: int) -> dict[str, float]:
        """Return requests a second of a model that takes its time for a batch."""
        requests = [self._request(i) for i in range(filled(count, batch))]

        async def run(place: Path) -> float:
            async with self._local(place, SlowModel(self._typedefs.Response), batch) as api:
                return (await timed(api, requests))[1]

        with self._place() as place:
            rate = len(requests) / asyncio.run(run(place))
        return {f"a model of {1e3 * SLOW_MODEL_S:.0f} ms a batch": rate}

    def fullness(self, batch: int, each: int) -> float:
        """Return how full batches are while four times as many callers ask, so often each."""
        model = SlowModel(self._typedefs.Response)

        async def run(place: Path) -> None:
            async with self._local(place, model, batch) as api:

                async def caller(number: int) -> None:
                    for i in range(each):
                        await api.request(self._request(each * number + i))

                await asyncio.gather(*map(caller, range(4 * batch)))

        with self._place() as place:
            asyncio.run(run(place))
        return 4 * batch * each / (batch * len(model.sizes))

    def idle(self, count: int, batch: int) -> dict[str, list[float]]:
        """Return the seconds of a request when there is no other, new and cached."""
        requests = [self._request(i) for i in range(count)]

        async def run(place: Path) -> list[float]:
            model = Model(self._typedefs.Response)
            async with self._online(place, model, batch, timeout=0) as api:
                return [(await timed(api, [request]))[1] for request in requests]

        with self._place() as place:
            return {"new": asyncio.run(run(place)), "cached": asyncio.run(run(place))}

    def beside(self, count: int, batch: int) -> list[float]:
        """Return the seconds of cached answers while another request waits for its batch."""
        requests = [self._request(i) for i in range(count)]

        async def run(place: Path) -> list[float]:
            model = SlowModel(self._typedefs.Response)
            async with self._local(place, model, batch, timeout=2.0) as api:
                waits = asyncio.create_task(api.request(self._request(count)))
                await asyncio.sleep(0.05)
                seconds = [(await timed(api, [request]))[1] for request in requests]
                check(not waits.done(), "cached answers came while another waited")
                await waits
                return seconds

        with self._place() as place:
            self._run(place, requests, batch=1)
            return asyncio.run(run(place))

    def memory(self, count: int, prompts: int, batch: int) -> list[int]:
        """Return the bytes in memory after a tenth of so many cached requests, and after all."""
        each = count // prompts
        requests = [self._request(i) for i in range(prompts)]

        async def run(place: Path) -> list[int]:
            model, found = Model(self._typedefs.Response), []
            async with self._online(place, model, batch) as api:
                for turn in range(each):
                    await timed(api, requests)
                    if turn + 1 in (each // 10, each):
                        found.append(resident())
            check(model.calls == 0, "everything is cached")
            return found

        with self._place() as place:
            cache = self._cache(place)
            for i, request in enumerate(requests):
                texts = [f"{i}, {k}: {ANSWER[:80]}" for k in range(each)]
                cache.set(self._typedefs.hash(request), texts)
            cache.close()
            return asyncio.run(run(place))

    def shared(self, place: str, count: int, batch: int, at: float) -> dict[str, Any]:
        """Return how often the model was called, and the answers; other processes do the same.

        Begins at that time of the clock.
        """
        requests = [self._request(i) for i in range(filled(count, batch))]
        model = FarModel(self._typedefs.Response)

        async def run() -> list[str]:
            async with self._online(place, model, batch) as api:
                await asyncio.sleep(at - time.time())
                return (await timed(api, requests))[0]

        return {"texts": asyncio.run(run()), "calls": model.calls}

    # ---- what they share

    def _request(
        self, i: int, *, n: int = 1, number: int | None = None, namespace: str = "run"
    ) -> Any:
        number = i if number is None else number
        return self._typedefs.Request(
            args=(f"{QUESTION}{i}",), kwargs={}, n=n, request_id=f"{number:06}",
            namespace=namespace,
        )  # fmt: skip

    @contextmanager
    def _place(self) -> Iterator[Path]:
        """Give a new folder, which is removed in the end."""
        place = self._folder / next(self._places)
        place.mkdir(parents=True)
        try:
            yield place
        finally:
            shutil.rmtree(place)

    def _online(self, place: str | Path, model: Model, batch: int, timeout: float = WAIT_S) -> Any:
        return self._pipelines.OnlineAPI(
            model, self._cache(place), batch_size=batch, timeout=timeout
        )

    def _local(
        self, place: Path, model: SlowModel, batch: int, timeout: float = SLOW_WAIT_S
    ) -> Any:
        return self._pipelines.LocalAPI(
            model, self._cache(place), batch_size=batch, timeout=timeout
        )

    def _run(
        self, place: Path, requests: Sequence[Any], batch: int
    ) -> tuple[Model, list[str], float]:
        """Return the model, the texts, and requests a second of a fresh OnlineAPI."""
        model = Model(self._typedefs.Response)

        async def run() -> tuple[list[str], float]:
            async with self._online(place, model, batch) as api:
                return await timed(api, requests)

        texts, seconds = asyncio.run(run())
        return model, texts, len(requests) / seconds


async def timed(api: Any, requests: Sequence[Any]) -> tuple[list[str], float]:
    """Return the texts of requests that are made at once, and the seconds they took together."""
    gc.collect(0 if len(requests) == 1 else 2)
    began = time.perf_counter()
    answers = await asyncio.gather(*[api.request(request) for request in requests])
    seconds = time.perf_counter() - began
    for request, answer in zip(requests, answers, strict=True):
        check(len(answer.data) == len(answer.cached) == request.n, "one for each sample")
    return [text for answer in answers for text in answer.data], seconds


def main(package: str, folder: Path) -> None:
    """Answer cells until stdin ends."""
    driver = Driver(package, folder)
    print("ready", flush=True)
    for line in sys.stdin:
        cell = json.loads(line)
        print(json.dumps(getattr(driver, cell.pop("op"))(**cell)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
