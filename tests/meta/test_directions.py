"""Which parts of the package know which: HTTP stands on the rest, and nothing on HTTP."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cacher"
# What the files of a pattern may import of the package.
ALLOWED = {
    "schemas/*.py": ("cacher.schemas", "cacher.errors"),
    "client.py": ("cacher.connection",),
    "semantic/client.py": ("cacher.connection", "cacher.checks", "cacher.errors"),
    "connection.py": ("cacher.checks", "cacher.errors"),
}
ABOVE = (
    "server/", "cli/", "main.py", "demo.py", "semantic/server.py", "niels_gpt/main.py",
    "niels_gpt/sse.py",
)  # fmt: skip


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return {name for name in found if name.split(".")[0] == "cacher"}


@pytest.mark.parametrize("pattern", ALLOWED)
def test_what_stands_apart_imports_little(pattern: str) -> None:
    paths = sorted(PACKAGE.glob(pattern))
    assert paths
    for path in paths:
        assert [name for name in imports(path) if not name.startswith(ALLOWED[pattern])] == [], path


def test_nothing_below_knows_the_server() -> None:
    for path in PACKAGE.rglob("*.py"):
        if not path.relative_to(PACKAGE).as_posix().startswith(ABOVE):
            assert not {name for name in imports(path) if name.startswith("cacher.server")}, path
