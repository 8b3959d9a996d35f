"""Chat templates of model folders: what they make of messages, and what they cannot do."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import cacher
from cacher import hub
from cacher.pipelines.chat import ChatTemplate, template_of
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
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{% for i in range(10**9) %}{% endfor %}",
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


def test_without_jinja_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(cacher.MissingExtraError, match=r"pip install 'cacher\[chat\]'"):
        ChatTemplate("")
