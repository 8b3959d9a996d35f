"""The program that renders chat templates, in a process that `cacher.chat.rendering` starts.

A template is a program that comes with a model.  Jinja's sandbox keeps it from everything but its
messages, and the limits of a process keep it from taking too much: one that computes too long is
ended by the system, one that wants too much memory gets an error.

It takes requests and gives answers, each a line of JSON, until its input ends; it imports nothing
of the package.  Arguments: seconds of computing for a request, bytes of memory, most characters of
an answer, and then the folders to import from.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from functools import lru_cache
from typing import Any, NoReturn


def to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write a value as the filter ``tojson`` does where models are trained."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment() -> Any:
    """Return Jinja's sandbox with what chat templates use."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):  # type: ignore[misc]
        """What marks the tokens to train on; for a prompt it is as if it were not there."""

        tags = {"generation"}  # noqa: RUF012 - as Jinja has it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    def raise_exception(reason: object) -> NoReturn:
        raise TemplateError(str(reason))

    jinja = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    jinja.filters["tojson"] = to_json
    jinja.globals["raise_exception"] = raise_exception
    return jinja


def answer(compiled: Any, request: dict[str, Any], most: int) -> dict[str, str]:
    """Return the text, or what was wrong: with the template, or in rendering it."""
    try:
        template = compiled(request["source"])
    except Exception as error:  # whatever a parser may raise
        return {"unreadable": said_by(error)}
    if request["variables"] is None:
        return {"text": ""}
    try:
        text = template.render(**request["variables"])
    except MemoryError:
        return {"refused": "it wants too much memory"}
    except Exception as error:  # whatever a program may raise
        return {"refused": said_by(error)}
    if len(text) > most:
        return {"refused": f"it makes {len(text)} characters of them, allowed: at most {most}"}
    return {"text": text}


def said_by(error: Exception) -> str:
    """Return what an exception says, which may be long, or nothing."""
    return str(error)[:1000] or type(error).__name__


def main(seconds: float, memory: int, most: int) -> None:
    """Answer requests until there are no more."""
    compiled = lru_cache(8)(environment().from_string)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # at its end the system ends the process
        line_of_answer = json.dumps(answer(compiled, json.loads(line), most)).encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(line_of_answer + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.path[:] = sys.argv[4:]
    main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
