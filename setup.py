"""Builds the extension: the core and the binding, with the flags that the Makefile uses, too."""

import re
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).parent
FLAGS = (ROOT / "tools/cflags.txt").read_text().split()
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "csrc").rglob("*.c")
    if path.relative_to(ROOT / "csrc").parts[0] != "tools"
)
HEADERS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob("*.h"))
VERSION = re.search(r'CCH_VERSION "([^"]+)"', (ROOT / "csrc/include/cacher.h").read_text())[1]

setup(
    version=VERSION,
    ext_modules=[
        Extension(
            "cacher._core",
            sources=SOURCES,
            depends=[*HEADERS, "tools/cflags.txt"],
            include_dirs=["csrc"],
            extra_compile_args=FLAGS,
            libraries=["json-c", "pthread", "m"],
        )
    ],
)
