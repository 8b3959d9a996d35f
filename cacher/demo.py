"""``python -m cacher.demo``: a tour of a running server.

Creates a state, streams, searches by beams, looks at attention and at keys and values, shows that
equal seeds agree, and deletes what it made, whatever happens.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from cacher.client import CacherAPIError, CacherClient, StateDict

__all__ = ["CacherAPIError", "CacherClient", "main", "tour"]

TEXT = "Once upon a time there was a little fox who"
SHADES = " .:-=+*#%@"
LAYER = 5
THRESHOLD = 0.1
SHOWN_TOKENS = 16
START_SECONDS = 30.0


async def tour(client: CacherClient, model_id: str | None = None) -> None:
    """Walk through the routes, printing what they give.

    Args:
        client: Of a running server.
        model_id: None: the server's default model.

    Raises:
        CacherAPIError: A request failed.
    """
    states: list[str] = []
    try:
        await _walk(client, model_id or await _default_model(client), states)
    finally:
        deleted = 0
        for state_id in states:
            with suppress(CacherAPIError):
                await client.delete_state(state_id)
                deleted += 1
    if deleted < len(states):
        raise CacherAPIError(f"{len(states) - deleted} states could not be deleted")
    print("State deleted successfully")


async def _default_model(client: CacherClient) -> str:
    for model in await client.list_models():
        if model["default"]:
            return str(model["model_id"])
    raise CacherAPIError("the server has no default model: name one")


async def _walk(client: CacherClient, model_id: str, states: list[str]) -> None:
    state = await _create(client, model_id, states)
    _heading("20 tokens, as they come")
    print(state.text, end="", flush=True)
    await client.generate_tokens(state.id, 20, temperature=0.8, stream=True)
    print()
    _heading("beam search: 3 beams that differ")
    found = await client.generate_beam(state.id, 3, 30, diversity_penalty=0.5)
    for beam in found["beam_details"]:
        print(f"  {beam['score']:8.3f}  {' '.join(beam['text'].split())}")
    _heading(f"attention in layer {LAYER}")
    _show_attention(await client.analyze_attention(state.id, layer=LAYER, threshold=THRESHOLD))
    _heading("keys and values of layers 0 and 1")
    _show_cache(await client.inspect_cache(state.id, layer_range=[0, 1], format="object"))
    _heading("seed 42, twice")
    texts = []
    for _ in range(2):
        twin = await _create(client, model_id, states)
        texts.append((await client.generate_tokens(twin.id, 12, seed=42))["text"])
        print(f"  {texts[-1]!r}")
    if texts[0] != texts[1]:
        raise CacherAPIError("the same seed gave two texts")


async def _create(client: CacherClient, model_id: str, states: list[str]) -> StateDict:
    state = await client.create_state(model_id, TEXT, {"temperature": 0.7, "top_p": 0.9})
    states.append(state.id)
    return state


def _heading(text: str) -> None:
    print(f"\n{text}")


def _show_attention(found: dict[str, Any]) -> None:
    tokens = found["tokens"][:SHOWN_TOKENS]
    width = max(map(len, tokens))
    for token, row in zip(tokens, found["attention_pattern"], strict=False):
        shades = (SHADES[min(len(SHADES) - 1, int(x * len(SHADES)))] for x in row[:SHOWN_TOKENS])
        print(f"  {token.strip():>{width}}  {' '.join(shades)}")


def _show_cache(found: dict[str, Any]) -> None:
    for layer in found["cache_data"]["layer_data"]:
        heads, positions, size = layer["shape"]
        norm = layer["keys"]["norm"]
        print(f"  layer {layer['layer']}: {heads} x {positions} x {size}, norm of keys {norm:.1f}")


@contextmanager
def _server() -> Iterator[str]:
    """The address of a server of our own, on any free port."""
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "cacher",
                "serve",
                "--port",
                str(port),
                "--log-level",
                "warning",
            ],
            env={**os.environ, "CACHER_CACHE_DIR": folder},
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _run(base_url: str, model_id: str | None, *, wait: bool) -> None:
    async with CacherClient(base_url) as client:
        for _ in range(int(START_SECONDS * 20) if wait else 0):
            try:
                await client.list_models()
                break
            except CacherAPIError:
                await asyncio.sleep(0.05)
        await tour(client, model_id)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tour; 0 when all went well, 1 when something failed."""
    parser = argparse.ArgumentParser(prog="python -m cacher.demo", description=__doc__)
    parser.add_argument("--base-url", default="http://localhost:8000", help="a running server")
    parser.add_argument("--model", help="default: the server's default model")
    parser.add_argument("--serve", action="store_true", help="start and stop a server of its own")
    arguments = parser.parse_args(argv)
    try:
        if arguments.serve:
            with _server() as address:
                asyncio.run(_run(address, arguments.model, wait=True))
        else:
            asyncio.run(_run(arguments.base_url, arguments.model, wait=False))
    except CacherAPIError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
