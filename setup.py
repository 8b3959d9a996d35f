"""Builds the extension: the core and the binding, with the flags that the Makefile uses, too."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
FLAGS = (ROOT / "tools/cflags.txt").read_text().split()
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "csrc").rglob("*.c")
    if path.relative_to(ROOT / "csrc").parts[0] != "tools"
)
HEADERS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob("*.h"))
VERSION = re.search(r'CCH_VERSION "([^"]+)"', (ROOT / "csrc/include/cacher.h").read_text())[1]


class Build(build_ext):
    """Compiles as many files at once as this process may use cores; setuptools has one at work."""

    def build_extensions(self):
        """Build with a compiler that takes one file per thread."""
        compile_files = self.compiler.compile

        def compile_at_once(sources, **options):
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                objects = pool.map(lambda source: compile_files([source], **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_at_once
        super().build_extensions()


setup(
    version=VERSION,
    cmdclass={"build_ext": Build},
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
