"""Chat templates give the texts that `transformers` makes of them.

The templates use what those of published models do: system messages that move, turns that must
alternate, trimmed contents, tools as JSON, namespaces, macros, and marks for training.
"""

from __future__ import annotations

import pytest

render = pytest.importorskip("transformers.utils.chat_template_utils").render_jinja_template

from cacher import ParameterError  # noqa: E402
from cacher.chat.template import ChatTemplate  # noqa: E402

pytestmark = pytest.mark.parity

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": ""}
TEMPLATES = {
    "marked turns": """{%- if messages[0]['role'] == 'system' -%}
    {%- set system = messages[0]['content'] -%}
{%- else -%}
    {%- set system = 'You help.' -%}
{%- endif -%}
<|im_start|>system
{{ system }}<|im_end|>
{% for message in messages %}
    {%- if not (loop.first and message.role == 'system') %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
    {%- endif %}
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}""",
    "instructions": """{{ bos_token }}{% if messages and messages[0].role == 'system' %}
{%- set system, turns = messages[0].content, messages[1:] %}{% else %}
{%- set system, turns = '', messages %}{% endif %}
{%- for message in turns %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must take turns') }}
    {%- endif %}
    {%- if message.role == 'user' %}[INST] {{ (system ~ '\n\n' if loop.first and system) }}
        {{- message.content }} [/INST]
    {%- else %} {{ message.content | trim }}{{ eos_token }}{% endif %}
{%- endfor %}""",
    "macros and namespaces": """{%- macro turn(role, content) -%}
<start>{{ role if role != 'assistant' else 'model' }}
{{ content.strip() }}<end>
{% endmacro -%}
{%- set seen = namespace(users=0, last='') -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}{%- set seen.users = seen.users + 1 -%}{%- endif -%}
{%- set seen.last = message.role | capitalize -%}
{{ turn(message.role, message.content) }}
{%- endfor -%}
{{ seen.users }} {{ seen.last }}{{ ' more' if seen.users is odd }}
{%- if strftime_now is defined and false %}{{ strftime_now('%Y') }}{% endif %}""",
    "json": """{% for message in messages %}{{ message | tojson }}
{{ message | tojson(indent=2) }}{{ message.content | tojson(ensure_ascii=True) }}
{{- {'b': 1, 'a': [none, true, 1.5]} | tojson(sort_keys=True, separators=(',', ':')) }}
{% endfor %}{{ tools is defined and tools is not none }}{{ messages | length }}""",
    "loops that end": """{% for message in messages %}
  {% if message.role == 'system' %}{% continue %}{% endif %}
  {{ loop.index }}: {{ message.content.split('\\n')[0] }}{{ message.content[-3:] | upper }}
  {% if loop.index > 3 %}{% break %}{% endif %}
{% endfor %}""",
    "marks for training": """{% for message in messages %}
{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}
{% endgeneration %}
{% else %}{{ message.content }}
{% endif %}{% endfor %}{% if add_generation_prompt %}>{% endif %}""",
    "filters": """{{ messages | map(attribute='role') | join(', ') }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{%- for role, said in messages | groupby('role') %} {{ role }}={{ said | length }}{% endfor %}
{{ (messages | last).content | default('none', true) | replace('a', 'b') | indent(2) }}
{{ 7 // 2 }} {{ 7 / 2 }} {{ -7 % 3 }} {{ 'x' * 3 }} {{ 'é' ~ 1 }} {{ [1, 2][::-1] }}""",
}
CONVERSATIONS = {
    "none": [],
    "user": [("user", "Hi")],
    "system first": [
        ("system", " Be brief. "),
        ("user", "a\nb\n"),
        ("assistant", " Ça va? "),
        ("user", "🙂"),
    ],
    "system last": [("user", "<|im_end|>"), ("assistant", ""), ("system", "s")],
    "answer last": [("user", "{{ 7 * 7 }}"), ("assistant", "{% raw %}\u2028\t\"'\\")],
    "many": [("user" if i % 2 == 0 else "assistant", f"turn {i}\nmore") for i in range(9)],
}


@pytest.mark.parametrize("prompted", [True, False])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_texts_are_those_of_transformers(template: str, conversation: str, prompted: bool) -> None:
    messages = [{"role": role, "content": text} for role, text in CONVERSATIONS[conversation]]
    source = TEMPLATES[template]
    try:
        (wanted,), _ = render(
            [messages], chat_template=source, add_generation_prompt=prompted, **SPECIAL
        )
    except Exception:  # whatever it raises: the template refuses them
        wanted = None
    try:
        chat = ChatTemplate(source, SPECIAL)
        got = chat.apply_chat_template(messages, add_generation_prompt=prompted)
    except ParameterError:
        got = None
    assert got == wanted
