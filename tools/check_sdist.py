"""Build the source distribution, install it in an empty environment, generate a sentence there."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAY = "import cacher; print(cacher.load('tales').state('Once upon').generate(12).text)"


def run(*command: str | Path, cwd: Path) -> None:
    """Run a command; raises CalledProcessError when it fails."""
    subprocess.run([str(part) for part in command], cwd=cwd, check=True)


def main() -> None:
    """Raise CalledProcessError when a step fails."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run(sys.executable, "-m", "build", "--sdist", "--outdir", work, ".", cwd=ROOT)
        (archive,) = work.glob("*.tar.gz")
        venv.create(work / "empty", with_pip=True)
        python = work / "empty/bin/python"
        run(
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            archive,
            cwd=work,
        )
        run(python, "-c", SAY, cwd=work)
        print(f"{archive.name}: {archive.stat().st_size / 1e6:.1f} MB, builds and runs on its own")


if __name__ == "__main__":
    main()
