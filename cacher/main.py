"""The application that serves all: ``uvicorn cacher.main:app`` or ``python -m cacher.main``."""

from __future__ import annotations

import gc
import sys

from cacher.config import settings
from cacher.niels_gpt.config import ChatSettings
from cacher.semantic.settings import SemanticSettings
from cacher.server.app import create_app
from cacher.server.journal import configure_logging

configure_logging(settings)
app = create_app(settings, SemanticSettings.from_env(), ChatSettings.from_env())
gc.freeze()  # what is here now stays: collections need not look at it while requests wait

if __name__ == "__main__":
    from cacher.cli.main import main

    sys.exit(main(["serve", *(["--reload"] if settings.DEBUG else []), *sys.argv[1:]]))
