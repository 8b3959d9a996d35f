"""The pages are true: their examples run, links and paths lead somewhere, commands exist."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from cacher.config import Settings
from tests.meta.examples import run_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "cacher").glob("models/*/README.md")),
]
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
CODE = re.compile(r"`([^`\n]+)`|^```\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What looks like a file of this repository: a known folder, then a path.
REPOSITORY_PATH = re.compile(
    r"\b(?:cacher|csrc|tests|docs|tools|benchmarks|notebooks)/[\w./-]*\w(?![\w<*])"
)
COMMAND = re.compile(r"\bmake ((?:[a-z]+(?:-[a-z]+)* ?)+)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code(page: Path) -> str:
    """Everything on a page that is set as code."""
    return "\n".join(short or block for short, block in CODE.findall(page.read_text()))


@every_page
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(page, tmp_path) >= page.read_text().count("\n```python\n")


def test_a_wrong_output_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    example = "```python\nprint(1)\n\nprint(22)\n```\nis\n"
    for output in ("```text\n1\n22\n```\n", "```text\n1...2\n```\n", "```json\n122\n```\n"):
        page.write_text(example + output)
        assert run_page(page, tmp_path) == 1
    for output in ("```text\n122\n```\n", "```text\n1\n```\n", "```json\n12\n```\n"):
        page.write_text(example + output)
        with pytest.raises(AssertionError, match="printed was"):
            run_page(page, tmp_path)


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert broken == []


@every_page
def test_paths_are_those_of_the_tree(page: Path) -> None:
    def there(path: str) -> bool:
        found = ROOT / path
        return found.exists() or any(found.parent.glob(f"{found.name}.*"))  # `gen/plan`: .c and .h

    assert [path for path in REPOSITORY_PATH.findall(code(page)) if not there(path)] == []


@every_page
def test_make_targets_exist(page: Path) -> None:
    makefiles = [ROOT / "Makefile", *(ROOT / "mk").glob("*.mk")]
    targets = set(re.findall(r"^([a-z-]+):", "\n".join(m.read_text() for m in makefiles), re.M))
    named = {word for words in COMMAND.findall(code(page)) for word in words.split()}
    assert named <= targets


def test_the_page_on_the_api_names_settings_and_all_errors() -> None:
    page = (ROOT / "docs/api.md").read_text()
    settings = set(re.findall(r"\bCACHER_([A-Z_]+[A-Z])\b", page))
    assert len(settings) > 15
    assert settings <= {item.name for item in fields(Settings)}
    source = "\n".join(path.read_text() for path in (ROOT / "cacher/server").rglob("*.py"))
    codes = set(re.findall(r'\b[45]\d\d,\s*"([a-z_]+)"', source)) - {"http_error"}
    assert len(codes) > 20
    assert {code for code in codes if f"`{code}`" not in page} == set()


@every_page
def test_nothing_names_a_machine(page: Path) -> None:
    assert re.findall(r"(?:/home/|/root/|/work/|/Users/)\S+", page.read_text()) == []


def test_the_pages_hold_code_to_check() -> None:
    """The patterns above find something: they would pass on anything otherwise."""
    together = "\n".join(code(page) for page in PAGES)
    assert len(REPOSITORY_PATH.findall(together)) > 30
    assert {"demo", "test", "bench"} <= {w for ws in COMMAND.findall(together) for w in ws.split()}


def test_readme_begins_with_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.index("make demo") < text.index("make test") < 1200
