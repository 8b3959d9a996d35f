"""Chat templates of model folders: what they make of messages, and what they cannot do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cacher
from cacher import hub
from cacher.chat.rendering import renderer
from cacher.chat.template import ChatTemplate, template_of
from cacher.pipelines.llm import LocalLLM
from cacher.typedefs import Request

MESSAGES = [{"role": "user", "content": "Who <is> it?"}, {"role": "assistant", "content": "A fox."}]
CHATML = """{%- for message in messages %}
{%- if message.role == "tool" %}{{ raise_exception("no tools here") }}{% endif %}
<|{{ message.role }}|>
{{ message.content | trim }}{{ eos_token }}
{% endfor -%}
{% if add_generation_prompt %}<|assistant|>
{% endif %}"""
RENDERED = "<|user|>\nWho <is> it?</s>\n<|assistant|>\nA fox.</s>\n"


def test_a_template_is_rendered_as_its_model_expects() -> None:
    chat = ChatTemplate(CHATML, {"eos_token": "</s>"})
    assert chat.apply_chat_template(MESSAGES, add_generation_prompt=False) == RENDERED
    assert chat.apply_chat_template(MESSAGES) == RENDERED + "<|assistant|>\n"
    listed = ChatTemplate("{{ messages | tojson }}{% for m in messages %}{% break %}{% endfor %}")
    assert json.loads(listed.apply_chat_template(MESSAGES)) == MESSAGES


def test_what_a_template_refuses_is_said() -> None:
    chat = ChatTemplate(CHATML)
    with pytest.raises(cacher.ParameterError, match="no tools here"):
        chat.apply_chat_template([{"role": "tool", "content": ""}])
    with pytest.raises(cacher.ModelFormatError, match="cannot be read"):
        ChatTemplate("{% for %}")


@pytest.mark.parametrize(
    "code",
    [
        "{% generation %}{{ messages[0].content }}{% endgeneration %}",
        "{{ messages[0].content if strftime_now is not defined }}",
        "{{ messages[0]['content'] | replace('x', 'y') | safe }}",
    ],
)
def test_what_templates_use_is_there(code: str) -> None:
    assert ChatTemplate(code).apply_chat_template(MESSAGES) == "Who <is> it?"


def test_tojson_has_the_options_that_templates_use() -> None:
    chat = ChatTemplate("{{ {'b': 'é', 'a': 1} | tojson(sort_keys=true, separators=(',', ':')) }}")
    assert chat.apply_chat_template([]) == '{"a":1,"b":"é"}'
    chat = ChatTemplate("{{ ['é'] | tojson(ensure_ascii=true, indent=1) }}")
    assert chat.apply_chat_template([]) == '[\n "\\u00e9"\n]'


@pytest.mark.parametrize(
    "code",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_template_reads_and_changes_nothing_else(code: str) -> None:
    messages = [dict(message) for message in MESSAGES]
    try:
        text = ChatTemplate(code).apply_chat_template(messages)
    except cacher.ParameterError:
        text = ""
    assert text == ""
    assert messages == MESSAGES


BOMBS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "power": "{{ 10 ** (10 ** 9) }}",
    "macros": "{% macro m(n) %}{{ m(n - 1) if n }}{{ m(n - 1) if n }}{% endmacro %}{{ m(60) }}",
    "range": "{% for i in range(10 ** 9) %}{% endfor %}",
    "string": "{{ 'x' * 10 ** 9 }}",
    "center": "{{ 'x' | center(10 ** 9) }}",
    "format": "{{ '%999999999d' % 1 }}",
    "list": "{{ (range(99999) | list) * 99999 }}",
    "doubled": "{% set n = namespace(s='x') %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}"
    "{% endfor %}",
    "nested": "{% set n = namespace(s=['xxxx']) %}{% for i in range(40) %}"
    "{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
    "blocks": "{% set s %}xxxxxxxxxx{% endset %}" + "{% set s %}{{ s }}{{ s }}{% endset %}" * 30,
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "characters": "{% for i in range(99999) %}{{ 'x' * 99 }}{% endfor %}",
    "crash": "{{ " + "(" * 9999 + "1" + ")" * 9999 + " }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_that_takes_too_much_is_refused(name: str) -> None:
    begun = time.monotonic()
    with pytest.raises((cacher.ParameterError, cacher.ModelFormatError), match="the chat template"):
        ChatTemplate(BOMBS[name]).apply_chat_template(MESSAGES)
    assert time.monotonic() - begun < 10  # a second of computing, and what others take of the cores
    assert ChatTemplate("{{ messages[0].role }}").apply_chat_template(MESSAGES) == "user"


def test_a_template_that_computes_for_ever_keeps_nobody_else() -> None:
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(ChatTemplate(BOMBS["loops"]).apply_chat_template, MESSAGES)
        ticks = 0
        while not ended.done():
            time.sleep(0.01)
            ticks += 1
        assert ticks >= 20
        with pytest.raises(cacher.ParameterError, match="computes for over 1 s"):
            ended.result()


def test_a_long_conversation_is_no_burden() -> None:
    chat = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}")
    content = "é🙂\ud800\u2028\n" * 20_000
    assert chat.apply_chat_template([{"role": "user", "content": content}] * 3) == content * 3


def test_messages_that_are_no_json_are_refused() -> None:
    messages: list[Any] = [{"role": "user", "content": object()}]
    with pytest.raises(cacher.ParameterError, match="messages must be what JSON can hold"):
        ChatTemplate("x").apply_chat_template(messages)
    messages[0]["content"] = messages
    with pytest.raises(cacher.ParameterError, match="Circular"):
        ChatTemplate("x").apply_chat_template(messages)


def test_a_process_that_was_killed_is_started_again() -> None:
    chat = ChatTemplate("{{ messages[0].role }}")
    first = renderer._process
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert chat.apply_chat_template(MESSAGES) == "user"
    assert renderer._process is not first
    renderer.close()
    renderer.close()
    assert chat.apply_chat_template(MESSAGES) == "user"


def test_a_process_that_cannot_be_started_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = ChatTemplate("{{ messages[0].role }}")
    renderer.close()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(cacher.ModelError, match=r"could be started: .*/nowhere/python"):
            chat.apply_chat_template(MESSAGES)
    assert chat.apply_chat_template(MESSAGES) == "user"


def test_threads_and_forked_children_render() -> None:
    chat = ChatTemplate("{{ messages[0].content }}")

    def render(number: int) -> str:
        return chat.apply_chat_template([{"role": "user", "content": str(number)}])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(render, range(100))) == [str(i) for i in range(100)]
    child = os.fork()
    if child == 0:
        os._exit(0 if render(7) == "7" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert render(8) == "8"


def folder_with(folder: Path, options: Any, **files: str) -> str:
    for file in hub.find("tales").iterdir():
        if file.name != "tokenizer_config.json":
            (folder / file.name).symlink_to(file)
    (folder / "tokenizer_config.json").write_text(
        options if isinstance(options, str) else json.dumps(options)
    )
    for name, text in files.items():
        (folder / name.replace("_jinja", ".jinja")).write_text(text)
    return str(folder)


def test_a_folder_with_a_template_is_a_chat_model(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }} {% endfor %}fox:"
    )
    options = {"chat_template": template, "eos_token": {"content": "\n"}}
    folder = folder_with(tmp_path, options)
    llm = LocalLLM(folder, temperature=0, max_new_tokens=6, threads=1)
    asked = Request(prompt="Who?", n=1, request_id="1", namespace=None)
    wanted = llm.model.generate("user: Who?\n fox:", 6, temperature=0).text
    assert asyncio.run(llm.request(asked)).data == [wanted]


def test_where_folders_have_their_templates(tmp_path: Path) -> None:
    def found(name: str, options: Any, **files: str) -> str | None:
        folder = tmp_path / name
        folder.mkdir()
        chat = template_of(folder_with(folder, options, **files))
        return None if chat is None else chat.apply_chat_template([])

    assert found("none", {}) is None
    several = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]
    assert found("list", {"chat_template": several}) == "d"
    assert found("file", {"chat_template": "old"}, chat_template_jinja="new") == "new"
    with pytest.raises(cacher.ModelFormatError, match="must be a string, got int"):
        found("number", {"chat_template": 5})
    with pytest.raises(cacher.ModelFormatError, match="cannot be read"):
        found("damaged", "{")
    (tmp_path / "list" / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(cacher.ModelFormatError, match=r"chat_template\.jinja cannot be read"):
        template_of(str(tmp_path / "list"))
    with pytest.raises(cacher.ModelFormatError, match="1048577 characters, allowed: at most"):
        ChatTemplate("x" * (2**20 + 1))


def test_without_jinja_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(cacher.MissingExtraError, match=r"pip install 'cacher\[chat\]'"):
        ChatTemplate("")
