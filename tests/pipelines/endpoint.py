"""An endpoint of OpenAI's API, over a real socket, that counts what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cacher


class Endpoint(ThreadingHTTPServer):
    """Answers with what a model says next; `calls` are the bodies that came."""

    daemon_threads = True

    def __init__(self, model: cacher.Model) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.model = model
        self.calls: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Answering(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.calls.append(body)
            seed = len(self.server.calls)
        said = self.server.model.state(body["messages"][-1]["content"]).multi(
            body.get("n", 1), body["max_tokens"], stop=body.get("stop"), seed=seed,
            temperature=body["temperature"],
        )  # fmt: skip
        choices = [
            {
                "index": i,
                "message": {"role": "assistant", "content": one.text.partition(".")[0]},
                "finish_reason": "stop" if one.finished else "length",
            }
            for i, one in enumerate(said)
        ]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = json.dumps(
            {
                "id": f"c-{seed}", "object": "chat.completion", "created": seed,
                "model": body["model"], "choices": choices, "usage": usage,
            }
        ).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def endpoint(model: cacher.Model) -> Iterator[Endpoint]:
    with Endpoint(model) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
