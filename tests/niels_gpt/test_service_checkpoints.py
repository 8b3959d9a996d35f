"""Chats of niels-gpt checkpoints: the documented vectors over HTTP, both generations, pieces."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import cacher
from cacher.niels_gpt.checkpoint import load_model
from cacher.niels_gpt.generation import stream_chat_events
from cacher.niels_gpt.main import create_app
from cacher.niels_gpt.model import GPT
from tests.models import niels, pieces
from tests.niels_gpt.chat import (
    HI,
    Chat,
    Process,
    Reference,
    events,
    reply,
    served,
    standing_in,
    tokens,
    traces,
    until,
)
from tests.niels_gpt.vectors import VECTORS, Vectors


@pytest.fixture(scope="module", params=[1, 2])
def generation(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


@pytest.fixture(scope="module")
def service(generation: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """A service that has loaded the small model's checkpoint."""
    path = niels.write_checkpoint(tmp_path_factory.mktemp("small") / "best.pt", generation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CKPT_PATH", str(path))
        app = create_app()
    with served(app) as found:
        until(lambda: app.state.model_ready)
        yield found


@pytest.fixture
def want(generation: int) -> Vectors:
    return VECTORS[generation]


def test_91_the_documented_stream(service: Chat, generation: int, want: Vectors) -> None:
    raw = service.raw(max_new_tokens=12)
    assert tokens(events(raw)) == want.greedy
    first = want.greedy[0]
    assert raw.startswith(f'event: token\ndata: {{"step":0,"token_id":{first},'.encode())
    row = traces(service.stream(trace_layer=1, max_new_tokens=1))[0]["attn"][0]
    np.testing.assert_allclose([*row[:8], *row[-4:]], want.attention, atol=5e-4)
    if generation == 1:
        assert raw.startswith(
            b'event: token\ndata: {"step":0,"token_id":16,"token_text":"\\u0010",'
            b'"token_display":"\\\\x10"}\n\n'
        )
        assert reply(service.stream()) == "\x10\ufffd\x10Fi\ufffd\ufffd\ufffd"
        assert service.look(head=1)["attn"][3][:4] == pytest.approx(
            [0.0413, 0.1678, 0.7309, 0.06], abs=5e-4
        )


def test_110_the_documented_draws(service: Chat, want: Vectors) -> None:
    found = service.stream(temperature=0.9, top_k=50, seed=42)
    assert tokens(found) == want.sampled
    first = traces(found)[0]
    assert first["entropy"] == pytest.approx(want.entropy, abs=5e-4)
    probs = [item["prob"] for item in first["topk"][:3]]
    assert probs == pytest.approx(want.probabilities, abs=5e-4)


def test_49_62_streams_and_matrices_equal_those_of_the_reference(
    service: Chat, generation: int
) -> None:
    with standing_in(Reference(generation)) as plain:
        for options in ({}, {"temperature": 1, "top_k": None, "seed": 5, "trace_layer": 1}):
            ours, theirs = (one.stream(max_new_tokens=10, **options) for one in (service, plain))
            assert tokens(ours) == tokens(theirs)
            assert reply(ours) == reply(theirs)
            for a, b in zip(traces(ours), traces(theirs), strict=True):
                np.testing.assert_allclose(a["attn"], b["attn"], atol=1e-4)
                assert a["entropy"] == pytest.approx(b["entropy"], abs=1e-3)
        ours, theirs = (
            one.look([{"role": "user", "content": "x" * 30}], head=1, max_new_tokens=3)
            for one in (service, plain)
        )
        np.testing.assert_allclose(ours.pop("attn"), theirs.pop("attn"), atol=1e-4)
        assert ours == theirs


def test_2_a_checkpoint_becomes_ready(tmp_path: Path) -> None:
    niels.write_checkpoint(tmp_path / "best.pt", 1)
    with Process(CKPT_DIR=str(tmp_path)) as chat:
        until(lambda: chat.http.get("/health").text == '{"ok":true,"model_ready":true}')
        assert tokens(chat.stream()) == VECTORS[1].greedy[:8]


def test_the_models_of_the_library_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = niels.write_checkpoint(tmp_path / "other.pt", 2)
    monkeypatch.setenv("CKPT_PATH", str(path))
    model, cfg = load_model()
    assert (cfg.V, cfg.T, cfg.L, cfg.H) == (256, 24, 2, 2)

    async def first(model: Any) -> int:
        events = stream_chat_events(model, messages=HI, max_new_tokens=1, temperature=0)
        found = [data["token_id"] async for name, data in events if name == "token"]
        return int(found[0])

    assert asyncio.run(first(model)) == asyncio.run(first(GPT(model))) == VECTORS[2].greedy[0]


def test_a_checkpoint_is_opened_as_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = niels.write_checkpoint(tmp_path / "small.pt", 1)
    for name, value in (
        ("CKPT_PATH", str(path)),
        ("CACHER_DTYPE", "int8"),
        ("CACHER_KV_DTYPE", "bf16"),
        ("CACHER_KV_BUDGET_MB", "7"),
    ):
        monkeypatch.setenv(name, value)
    model, _ = load_model()
    assert (model.name, model.info.dtype, model.info.kv_dtype) == ("small.pt", "int8", "bf16")
    assert model.stats.kv_budget_bytes == 7 * 2**20


SIZE = niels.Size(V=512, T=48, C=16, L=2, H=2, d_ff=32)


@pytest.fixture(scope="module")
def with_pieces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[cacher.Model, Chat]]:
    """A service of a generation 2 model with pieces."""
    folder = tmp_path_factory.mktemp("pieces")
    pieces.write_model(folder / "spm.model", SIZE.V)
    weights = niels.random_tensors(2, SIZE, scale=0.4)
    path = niels.write_checkpoint(folder / "best.pt", 2, size=SIZE, weights=weights)
    model = cacher.load(path)
    with served(create_app(model=model)) as found:
        yield model, found


def test_pieces_are_read_between_special_tokens_which_are_never_drawn(
    with_pieces: tuple[cacher.Model, Chat],
) -> None:
    model, chat = with_pieces
    special = model.tokenizer.chat_tokens
    ids = chat.look()["token_ids"]
    assert ids[0] == special["usr"]
    assert ids[-2:] == [special["eot"], special["asst"]]
    never = set(model._core.suppressed())
    assert never >= set(special.values()) - {special["eot"]}
    assert special["eot"] not in never
    for seed in range(6):  # hot, and beyond the window, too
        found = chat.stream(temperature=50, top_k=None, seed=seed, max_new_tokens=70)
        assert not never & set(tokens(found))
        for data in traces(found):
            assert all(t["prob"] == 0 for t in data["topk"] if t["token_id"] in never)
        assert reply(found) == model.tokenizer.decode(tokens(found)).strip()
    state = model.state("a")
    assert not never & {t for run in state.multi(40, temperature=50.0) for t in run.token_ids}
    assert not never & {t for beam in state.beam(8, max_tokens=2).beams for t in beam.token_ids}


def test_eot_ends_an_answer_and_is_not_sent(with_pieces: tuple[cacher.Model, Chat]) -> None:
    model, chat = with_pieces
    eot = model.tokenizer.chat_tokens["eot"]
    ended = []
    for seed in range(40):
        found = chat.stream(temperature=50, top_k=None, seed=seed, max_new_tokens=60)
        assert eot not in tokens(found)
        ended.append(len(tokens(found)) < 60)
    assert 0 < sum(ended) < 40  # of some, a few of them behind a full window


class Hub(BaseHTTPRequestHandler):
    """The part of the hub that gives files of a repository."""

    files: ClassVar[dict[str, bytes]] = {}
    tokens: ClassVar[set[str | None]] = set()

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        self.tokens.add(self.headers["Authorization"])
        name = self.path.split("?")[0].removeprefix("/someone/model/resolve/main/")
        content = self.files.get(name)
        self.send_response(404 if content is None else 200)
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", f'"{len(content or b"")}"')
        self.send_header("Content-Length", str(len(content or b"")))
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if with_body:
            self.wfile.write(content or b"")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def test_4_a_checkpoint_that_is_not_here_is_downloaded(tmp_path: Path) -> None:
    content = niels.write_checkpoint(tmp_path / "there.pt", 2).read_bytes()
    Hub.files = {"best.pt": content}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        environment = {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "secret",
            "CKPT_DIR": str(tmp_path / "new" / "folder"), "CKPT_REPO_ID": "someone/model",
        }  # fmt: skip
        process = Process(**environment)
        with process as chat:
            until(lambda: chat.http.get("/health").json()["model_ready"] or "cannot" in process.log)
            assert tokens(chat.stream()) == VECTORS[2].greedy[:8], process.log
        assert "Bearer secret" in Hub.tokens
        hub.shutdown()
    folder = tmp_path / "new" / "folder"
    assert (folder / "best.pt").read_bytes() == content
    left = [path for path in folder.rglob("*") if path.is_file()]
    assert left == [folder / "best.pt"]


@pytest.mark.parametrize("place", ["spm.model", "tokenizer/spm.model"])
def test_4_its_tokenizer_is_downloaded_with_it(tmp_path: Path, place: str) -> None:
    there = tmp_path / "there"
    there.mkdir()
    pieces.write_model(there / "spm.model", SIZE.V)
    weights = niels.random_tensors(2, SIZE)
    file = niels.write_checkpoint(there / "best.pt", 2, size=SIZE, weights=weights)
    usr = cacher.load(file).tokenizer.chat_tokens["usr"]
    spm = (there / "spm.model").read_bytes()
    Hub.files = {"run/best.pt": file.read_bytes(), f"run/{place}": spm}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        environment = {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path / "home"), "CKPT_REPO_ID": "someone/model",
            "CKPT_DIR": str(tmp_path / "new"), "CKPT_FILENAME": "run/best.pt",
        }  # fmt: skip
        process = Process(**environment)
        with process as chat:
            until(lambda: chat.http.get("/health").json()["model_ready"] or "cannot" in process.log)
            assert chat.look()["token_ids"][0] == usr, process.log
        hub.shutdown()
    assert (tmp_path / "new" / "run" / place).read_bytes() == spm
