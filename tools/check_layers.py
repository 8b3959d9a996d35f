"""Check what a compiler does not: layers, third-party headers, budgets, layout, tests.

Run by ``make lint`` and by pytest.  Prints one line per breach and exits with 1 when there is any.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"

# Which folders of csrc a folder may include from, besides its own and include/.
LAYERS = {
    "base": set(),
    "kern": {"base"},
    "io": {"base"},
    "kv": {"base"},
    "tok": {"base", "io"},
    "sim": {"base", "kern"},
    "model": {"base", "kern", "io", "kv"},
    "gen": {"base", "kern", "io", "kv", "sim", "model"},
    "open": {"base", "kern", "io", "kv", "tok", "sim", "model", "gen"},
    "tools": set(),
    "python": set(),
    "include": set(),
}

# Headers that only the files matching the pattern may include.
CONFINED = {
    r"json-c/": r"^io/json\.c$",
    r"cblas\.h": r"^sim/similarity\.c$",
    r"Python\.h|structmember\.h": r"^python/",
    r"immintrin\.h|arm_neon\.h": r"^kern/kern_\w+\.c$",
    r"cpuid\.h": r"^base/cpu\.c$",
}

# Included in the middle of a .c file, once per instruction set: not meant to compile alone.
TEMPLATES = {
    f"csrc/kern/simd_{part}.h"
    for part in ("avx512", "rows", "scan", "tiles", "attention", "products")
}

BUDGETS = {".c": 800, ".h": 250, ".py": 400}
EXCEPTIONS = {"csrc/include/cacher.h": 600, "csrc/tok/unicode_tables.c": 10**6}
TEST_BUDGET = 600
C_COLUMNS = 120

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)


def sources(suffixes: set[str], *folders: str) -> Iterator[Path]:
    """Yield the files below the folders that have one of the suffixes."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes and "__pycache__" not in path.parts:
                yield path


def layer_breaches() -> Iterator[str]:
    """Includes that go up, sideways, or to a library that one file alone may know."""
    for path in sources({".c", ".h"}, "csrc"):
        name = path.relative_to(CSRC).as_posix()
        layer = name.split("/")[0]
        for quote, included in INCLUDE.findall(path.read_text()):
            for pattern, allowed in CONFINED.items():
                if re.search(pattern, included) and not re.search(allowed, name):
                    yield f"csrc/{name}: includes <{included}>, allowed only in {allowed}"
            if quote == '"':
                target = included.split("/")[0]
                if target not in LAYERS[layer] | {layer, "include"}:
                    yield f"csrc/{name}: layer {layer} may not include {included}"


def budget_breaches() -> Iterator[str]:
    """Files that nobody reads in one sitting."""
    for path in sources({".c", ".h", ".py"}, "csrc", "cacher", "tests", "tools", "benchmarks"):
        name = path.relative_to(ROOT).as_posix()
        limit = TEST_BUDGET if name.startswith("tests/") else BUDGETS[path.suffix]
        lines = path.read_text().count("\n")
        limit = EXCEPTIONS.get(name, limit)
        if lines > limit:
            yield f"{name}: {lines} lines, at most {limit}: split it by responsibility"


def layout_breaches() -> Iterator[str]:
    """What is left to check where C is laid out by hand."""
    for path in sources({".c", ".h"}, "csrc", "tests", "benchmarks"):
        if path.stem.endswith("_tables"):
            continue  # generated
        for number, line in enumerate(path.read_text().splitlines(), 1):
            where = f"{path.relative_to(ROOT).as_posix()}:{number}"
            if len(line) > C_COLUMNS:
                yield f"{where}: {len(line)} columns, at most {C_COLUMNS}"
            if "\t" in line or line != line.rstrip():
                yield f"{where}: a tab, or blanks at the end"


def missing_tests() -> Iterator[str]:
    """Every C module with code of its own has a test of the same name."""
    for path in sources({".c"}, "csrc"):
        layer, *rest = path.relative_to(CSRC).parts
        if layer in {"python", "tools"} or len(rest) > 1 or path.stem.endswith("_tables"):
            continue
        if re.match(r"kern_\w+$", path.stem):
            continue  # one contract, tested for every instruction set by test_kernels.c
        if not list((ROOT / "tests/c" / layer).glob(f"test_{path.stem}*.c")):
            yield f"csrc/{layer}/{path.name}: no tests/c/{layer}/test_{path.stem}.c"


def headers_that_do_not_compile_alone() -> Iterator[str]:
    """Headers that lean on what others included before them."""
    flags = ["-std=c11", "-D_GNU_SOURCE", "-fsyntax-only", "-Icsrc", "-x", "c"]
    for path in sources({".h"}, "csrc"):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("csrc/python/") or name in TEMPLATES:
            continue
        done = subprocess.run(["gcc", *flags, name], cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            yield f"{name}: does not compile alone: {done.stderr.splitlines()[0]}"


def breaches() -> list[str]:
    """Return every breach, a line each."""
    return [
        *layer_breaches(),
        *budget_breaches(),
        *layout_breaches(),
        *missing_tests(),
        *headers_that_do_not_compile_alone(),
    ]


if __name__ == "__main__":
    found = breaches()
    print("\n".join(found) or "layers, budgets, tests and headers: in order")
    sys.exit(bool(found))
