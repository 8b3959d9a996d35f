"""The checkpoint of the chat model: found or downloaded, loaded, and looked into."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cacher import _core
from cacher.config import Settings
from cacher.errors import ModelNotFoundError
from cacher.niels_gpt.config import ChatSettings

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.niels_gpt.speaker import Sizes
    from cacher.registry import Registry


TOKENIZERS = ("spm.model", "tokenizer/spm.model")  # where one is looked for, from the checkpoint


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what is in a checkpoint that torch.save wrote; nothing in it is run.

    A file that cannot be loaded as a model is refused here, too.

    Args:
        path: The file.

    Returns:
        ``model_cfg`` and ``train_cfg`` (dicts of plain values), ``step``, ``best_val_loss``: as
        they are in the file, None where they are not; ``generation`` (1 or 2); ``tensors``: by name
        a pair of the shape and a buffer of float32 numbers, row by row, for ``numpy.asarray``.

    Raises:
        FileError: The file cannot be read.
        ModelFormatError: It is damaged, or no checkpoint of such a model.
        UnsupportedModelError: It asks for something that is no part of a checkpoint; it is named.

    Example:
        >>> import cacher
        >>> from cacher.niels_gpt.checkpoint import read_checkpoint
        >>> read_checkpoint("/nowhere/best.pt")
        Traceback (most recent call last):
        ...
        cacher.errors.FileError: /nowhere/best.pt: No such file or directory
    """
    return _core.read_checkpoint(path)


def ensure_checkpoint(settings: ChatSettings | None = None) -> Path:
    """Return where the checkpoint is; one that is not here is downloaded, whole or not at all.

    The tokenizer that the repository has for it comes before, unless the settings name one.

    Args:
        settings: None: those of the environment.

    Raises:
        ModelNotFoundError: It is not here, and cannot be had; the message says what was tried.
    """
    settings = settings or ChatSettings.from_env()
    path = settings.checkpoint
    if path.exists():
        return path
    tried = f"there is no checkpoint {str(path)!r}"
    if not settings.CKPT_REPO_ID:
        raise ModelNotFoundError(f"{tried}, and CKPT_REPO_ID names no repository to get it from")
    where = f"{settings.CKPT_FILENAME!r} of the repository {settings.CKPT_REPO_ID!r}"
    try:
        import huggingface_hub as _  # noqa: F401
    except ImportError:
        raise ModelNotFoundError(
            f"{tried}; to download {where}: pip install 'cacher[hub]'"
        ) from None
    try:
        if not settings.TOKENIZER_PATH:
            beside = PurePosixPath(settings.CKPT_FILENAME).parent
            for name in TOKENIZERS:
                if _download(settings, str(beside / name), optional=True) is not None:
                    break
        target = _download(settings, settings.CKPT_FILENAME)
    except Exception as error:  # of the network, the hub, the disk: all of them end the same way
        raise ModelNotFoundError(f"{tried}, and {where} cannot be downloaded: {error}") from error
    return target or path


def _download(settings: ChatSettings, name: str, *, optional: bool = False) -> Path | None:
    """Bring a file of the repository into its folder; None: there is no such file, and may be."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    target = Path(settings.CKPT_DIR, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".download-", dir=settings.CKPT_DIR) as folder:
        try:
            found = hf_hub_download(
                settings.CKPT_REPO_ID, name, local_dir=folder, token=settings.HF_TOKEN or None
            )
        except EntryNotFoundError:
            if optional:
                return None
            raise
        os.replace(found, target)
    return target


def load_checkpoint(settings: ChatSettings, registry: Registry) -> Model:
    """Return the model of the checkpoint.

    Args:
        settings: Which it is.
        registry: What opens it as the server's settings say.

    Raises:
        ModelNotFoundError: There is none.
        ModelError, TokenizerError: It cannot be used.
        OSError: It cannot be opened.
    """
    path = ensure_checkpoint(settings)
    with path.open("rb"):  # a pipe keeps us waiting here, as it does whoever reads it
        pass
    return registry.open(path, name=path.resolve().name, tokenizer=settings.TOKENIZER_PATH or None)


def load_model() -> tuple[Model, Sizes]:
    """Return the model that the environment names, and its sizes."""
    from cacher.niels_gpt.speaker import sizes_of
    from cacher.registry import Registry

    model = load_checkpoint(ChatSettings.from_env(), Registry(Settings.from_env()))
    return model, sizes_of(model)
