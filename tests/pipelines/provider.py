"""A provider of OpenAI's API on a socket of this machine, which counts what it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Provider(ThreadingHTTPServer):
    """Answers with the numbers of its choices, in the order they were made."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.calls: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.choices = 0
        self.lock = threading.Lock()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def options(self) -> dict[str, Any]:
        """What a client needs to reach it."""
        return {"api_key": "k", "base_url": self.base_url, "max_retries": 0}

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.lock:
            self.calls.append(body)
            if body["model"] == "forbidden":
                error = {"message": "not for you", "type": "permission", "code": "forbidden"}
                return 403, {"error": error}
            first, self.choices = self.choices, self.choices + body["n"]
        return 200, {
            "id": f"chatcmpl-{first}",
            "object": "chat.completion",
            "created": 1_700_000_000 + first,
            "model": body["model"],
            "choices": [
                {
                    "index": index,
                    "message": {
                        "role": "assistant",
                        "content": f"answer {first + index}",
                        "reasoning_content": f"thought {first + index}",  # not of OpenAI's API
                    },
                    "logprobs": None,
                    "finish_reason": "stop",
                }
                for index in range(body["n"])
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": body["n"], "total_tokens": 9},
        }


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        assert self.path == "/v1/chat/completions"
        status, answer = self.server.answer(body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        pass


@contextmanager
def serving() -> Iterator[Provider]:
    with Provider() as provider:
        thread = threading.Thread(target=provider.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield provider
        finally:
            provider.shutdown()
            thread.join()
