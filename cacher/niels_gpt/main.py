"""The chat API as a server of its own: ``python -m cacher.niels_gpt``.

``uvicorn cacher.niels_gpt.main:app`` serves it, too.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cacher.cli.serve import require_server, serve
from cacher.errors import CacherError

if TYPE_CHECKING:
    from fastapi import FastAPI

DESCRIPTION = """Answers messages token by token, and shows what each token was drawn from and what
the model attended to."""


def create_app(*, model: Any = None, cfg: Any = None, load_on_startup: bool = True) -> FastAPI:
    """Return the application that serves nothing but the chat API, as the environment says.

    Its ``state`` has ``model``, ``cfg`` and ``model_ready``.

    Args:
        model: A causal model of the package, or a stand-in with ``forward_with_attn_trace``; None:
            the one that the environment names.
        cfg: Sizes of a stand-in: ``V``, ``T``, ``L``, ``H``.
        load_on_startup: False: without a model, nothing is ever loaded.

    Raises:
        ParameterError: A variable does not parse; the message names it.

    Example:
        >>> from cacher.niels_gpt.main import create_app
        >>> create_app(load_on_startup=False).title
        'niels-gpt Inference API'
    """
    from cacher.config import Settings
    from cacher.niels_gpt.config import ChatSettings, alone
    from cacher.server.alone_chat import OPERATIONS, ChatServices
    from cacher.server.app import assemble
    from cacher.server.journal import log

    chat = ChatSettings.from_env()
    if chat.DEVICE != "cpu":
        log.warning("DEVICE is %r: models compute on the CPU", chat.DEVICE)
    services = ChatServices(
        alone(Settings.from_env(), chat), chat, model, cfg, load=load_on_startup
    )
    app = assemble(services, OPERATIONS, DESCRIPTION)

    def show() -> None:
        speaker = services.chat.speaker
        app.state.model = None if speaker is None else speaker.model
        app.state.cfg = None if speaker is None else speaker.cfg
        app.state.model_ready = speaker is not None

    services.chat.on_ready = show
    show()
    return app


def __getattr__(name: str) -> object:
    """Make ``app`` when a server asks for it."""
    if name != "app":
        raise AttributeError(f"module 'cacher.niels_gpt.main' has no attribute {name!r}")
    import gc

    from cacher.config import Settings
    from cacher.server.journal import configure_logging

    configure_logging(Settings.from_env())
    made = globals()["app"] = create_app()
    gc.freeze()  # as of cacher.main
    return made


def main() -> int:
    """Serve until a signal; 0 when it ended as asked, 1 with a line where it could not begin."""
    try:
        require_server()
        from cacher.config import Settings
        from cacher.niels_gpt.config import ChatSettings

        settings, chat = Settings.from_env(), ChatSettings.from_env()
        serve(
            "cacher.niels_gpt.main:app", settings, chat.API_HOST, chat.API_PORT,
            reload=False, forwarded=False,
        )  # fmt: skip
    except CacherError as error:
        print(f"cacher: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0
