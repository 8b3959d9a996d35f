"""Promises of the package as a whole: what it exports, what it loads, what its examples print."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import cacher
import cacher.chat
import cacher.pipelines
import cacher.semantic
import cacher.stores
from cacher import _core

ROOT = Path(__file__).parents[2]
PACKAGES = (cacher, cacher.chat, cacher.pipelines, cacher.semantic, cacher.stores)
MODULES = [
    *(package.__name__ for package in PACKAGES[1:]),
    *sorted(
        f"{package.__name__}.{module.name}"
        for package in PACKAGES
        for module in pkgutil.iter_modules(package.__path__)
        if not module.ispkg
    ),
]
HEAVY = (
    "numpy",
    "fastapi",
    "pydantic",
    "httpx",
    "huggingface_hub",
    "tqdm",
    "torch",
    "asyncio",
    "IPython",
)


def test_importing_is_light() -> None:
    code = f"import sys, cacher; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_benchmarks_find_what_they_import() -> None:
    """Other engines may be missing; names of ours may not."""
    code = """
import importlib, pathlib, sys
sys.path[:0] = ["benchmarks", ""]
for name in sorted(path.stem for path in pathlib.Path("benchmarks").glob("*.py")):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] in ("cacher", "tests"):
            raise
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_exports_are_sorted_complete_and_there() -> None:
    assert cacher.__all__ == sorted(cacher.__all__)
    assert all(hasattr(cacher, name) for name in cacher.__all__)  # what is late comes now
    public = {
        name
        for name, value in vars(cacher).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(cacher.__all__) - {"hub", "__version__"}


def test_every_error_of_the_tree_is_exported_and_drawn() -> None:
    from cacher import errors

    classes = {
        name for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.CacherError)
    }  # fmt: skip
    assert classes <= set(cacher.__all__)
    assert errors.__doc__ is not None
    for name in classes:
        assert name in errors.__doc__
        assert getattr(errors, name).__doc__


def stub_names() -> dict[str, set[str]]:
    tree = ast.parse((ROOT / "cacher/_core.pyi").read_text())
    found: dict[str, set[str]] = {"": set()}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found[""].add(node.name)
            found[node.name] = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            found[""].add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[""].add(node.target.id)
    return found


def test_stubs_are_the_extension() -> None:
    stubs = stub_names()
    there = {name for name in vars(_core) if not name.startswith("__")} | {"__version__"}
    assert {
        name for name in stubs[""] if not name.startswith("_") or name == "__version__"
    } == there
    for name, methods in stubs.items():
        if name:
            public = {m for m in vars(getattr(_core, name)) if not m.startswith("__")}
            assert {m for m in methods if not m.startswith("__")} == public, name


def test_extension_types_cannot_be_made_wrongly() -> None:
    for name in ("Array", "State", "Decoder"):
        with pytest.raises(TypeError, match="cannot create"):
            getattr(_core, name)()
    with pytest.raises(TypeError):
        type("Mine", (_core.State,), {})
    for name in ("Model", "Tokenizer", "Batch"):
        with pytest.raises(TypeError):
            getattr(_core, name)()
    with pytest.raises(TypeError, match="immutable"):
        _core.State.note = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["cacher", *MODULES])
def test_examples_print_what_they_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cacher.registry._registered", {})  # an example registers a model
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_everything_public_is_documented_with_an_example() -> None:
    with_examples = (cacher.Model, cacher.State, cacher.Tokenizer, cacher.StreamDecoder,
                     cacher.StateConfig)  # fmt: skip
    for name in cacher.__all__:
        value = getattr(cacher, name)
        if inspect.isfunction(value):
            assert ">>>" in (value.__doc__ or ""), name
        elif inspect.isclass(value):
            assert value.__doc__, name
            for method, function in inspect.getmembers(value, inspect.isfunction):
                if not method.startswith("_"):
                    documented = inspect.getdoc(function)  # what overrides may inherit it
                    assert documented, f"{name}.{method}"
                    assert value not in with_examples or ">>>" in documented, method


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        assert version("cacher") == cacher.__version__
    except PackageNotFoundError:
        pytest.skip("the package runs from its folder")
