"""Settings of the chat API, from the environment variables that its document names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cacher.config import Settings
from cacher.variables import (
    Parse,
    an_integer,
    any_text,
    comma_list,
    from_variables,
    model_name,
    variable,
)

TITLE = "niels-gpt Inference API"
ORIGINS = ("https://nielseriknandal.com", "http://localhost:3000", "http://localhost:5173")
BODY_BYTES = 2**20  # of a body, besides what escapes can make of a prompt
ESCAPED = 6  # bytes of JSON for one of a text


def _or(default: str) -> Parse:
    return lambda _name, text: text or default


_COUNT = an_integer(0, 10**9)


@dataclass(frozen=True, kw_only=True)
class ChatSettings:
    """Everything the chat API can be told.

    Attributes:
        API_HOST: Where ``python -m cacher.niels_gpt`` listens.
        API_PORT: And its port; 0 is any.
        DEVICE: Where models compute; all but ``cpu`` run on the CPU, with a warning.
        CHAT_MODEL_ID: A causal model of the package; None: the checkpoint below.
        CKPT_REPO_ID: Hub repository that a checkpoint which is not here is downloaded from; empty
            means never.
        CKPT_FILENAME: Name of the checkpoint's file.
        CKPT_DIR: Its folder, made when something is downloaded.
        CKPT_PATH: Its whole path; goes before the two.
        TOKENIZER_PATH: The file of its pieces; empty: what lies beside the checkpoint.
        MAX_PROMPT_BYTES: Most bytes of UTF-8 of the formatted messages.
        RATE_LIMIT_PER_MIN: Requests that an address gets back in a minute.
        RATE_LIMIT_BURST: Requests that it may have at once.
        ALLOWED_ORIGINS: Of browsers that may call, where the API is served alone.
        HF_TOKEN: For the hub.
    """

    API_HOST: str = variable("0.0.0.0", any_text)
    API_PORT: int = variable(8000, an_integer(0, 65_535))
    DEVICE: str = variable("cpu", any_text)
    CHAT_MODEL_ID: str | None = variable(None, model_name)
    CKPT_REPO_ID: str = variable("nnandal/niels-gpt", any_text)
    CKPT_FILENAME: str = variable("best.pt", _or("best.pt"))
    CKPT_DIR: str = variable("./checkpoints", _or("./checkpoints"))
    CKPT_PATH: str = variable("", any_text)
    TOKENIZER_PATH: str = variable("", any_text)
    MAX_PROMPT_BYTES: int = variable(16_384, _COUNT)
    RATE_LIMIT_PER_MIN: int = variable(10, _COUNT)
    RATE_LIMIT_BURST: int = variable(3, _COUNT)
    ALLOWED_ORIGINS: tuple[str, ...] = variable(ORIGINS, lambda _name, text: comma_list(text))
    HF_TOKEN: str = variable("", any_text)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> ChatSettings:
        """Read the variables.

        Raises:
            ParameterError: A value does not parse; the message names the variable.

        Example:
            >>> from cacher.niels_gpt.config import ChatSettings
            >>> ChatSettings.from_env({"ALLOWED_ORIGINS": " https://a.example , "}).ALLOWED_ORIGINS
            ('https://a.example',)
        """
        return from_variables(cls, "", environ)

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint is, or is to be."""
        return Path(self.CKPT_PATH or os.path.join(self.CKPT_DIR, self.CKPT_FILENAME))

    @property
    def max_body_bytes(self) -> int:
        """Bytes of a request: room for every prompt that is allowed, however it is written."""
        return BODY_BYTES + ESCAPED * self.MAX_PROMPT_BYTES


def alone(settings: Settings, chat: ChatSettings) -> Settings:
    """Return the server's settings of an application that serves nothing but the chat API.

    Args:
        settings: Models, the log, and what the API has no names for.
        chat: The rest.

    Example:
        >>> from cacher.config import Settings
        >>> from cacher.niels_gpt.config import ChatSettings, alone
        >>> alone(Settings(), ChatSettings()).ALLOWED_ORIGINS[0]
        'https://nielseriknandal.com'
    """
    return replace(
        settings,
        API_TITLE=TITLE,
        API_KEYS=(),
        API_KEY_REQUIRED=False,
        RATE_LIMIT="",  # the API has a limit of its own
        ENABLE_CORS=True,
        ALLOWED_ORIGINS=chat.ALLOWED_ORIGINS,
        ALLOWED_HOSTS=("*",),
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of a model, under the names of its checkpoint.

    Attributes:
        V: Vocabulary.
        T: Longest context.
        C: Width.
        L: Blocks.
        H: Heads.
        d_ff: Hidden width of the MLP.
        dropout: Of training; without effect.
        rope_theta: Base of the rotary angles.
    """

    V: int
    T: int
    C: int
    L: int
    H: int
    d_ff: int
    dropout: float = 0.0
    rope_theta: float = 10_000.0


#: As they were when this module was first imported.
defaults = ChatSettings.from_env()
API_HOST = defaults.API_HOST
API_PORT = defaults.API_PORT
DEVICE = defaults.DEVICE
CKPT_REPO_ID = defaults.CKPT_REPO_ID
CKPT_FILENAME = defaults.CKPT_FILENAME
CKPT_DIR = defaults.CKPT_DIR
CKPT_PATH = str(defaults.checkpoint)
MAX_PROMPT_BYTES = defaults.MAX_PROMPT_BYTES
RATE_LIMIT_PER_MIN = defaults.RATE_LIMIT_PER_MIN
RATE_LIMIT_BURST = defaults.RATE_LIMIT_BURST
ALLOWED_ORIGINS = list(defaults.ALLOWED_ORIGINS)
HF_TOKEN = defaults.HF_TOKEN or None
