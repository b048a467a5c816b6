"""Where weights come from: a local folder, a package, the hub's cache, the hub; never a long wait.

Nothing is written before a short look at the server has answered; loading is by local path.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pairfuse.encoders import archives, checkpoint_folder
from pairfuse.errors import EncoderError
from pairfuse.files import temporary_name

T = TypeVar("T")

#: The look at a server may take this long in all, whatever it does; one reply REPLY_SECONDS.
PREFLIGHT_SECONDS = 10.0
REPLY_SECONDS = 3.0

NO_DOWNLOAD = 'ENCODERS="minilm ngram efficientnet-lite0"'

#: What is fetched of a repository: weights as safetensors, configuration, tokenizer.
WANTED = ["*.json", "*.txt", "*.model", "model.safetensors", "model-*.safetensors"]
UNWANTED = ["onnx/*", "openvino/*", "coreml/*", "*/*.safetensors", "*.md"]
CONVERSION_AUTHOR = "SFconvertbot"

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)


def find_folder(name: str, source: str, *, key: str = "") -> Path:
    """The local folder of a checkpoint: given, inside a package, cached, or downloaded now.

    Args:
        name: The encoder, for messages.
        source: A folder, `package:folder`, `archive:name` or a hub id.
        key: What stands before `=` when a user gives a source; the name if not said.

    Raises:
        EncoderError: Says where was looked and what to do instead.
    """
    if source.startswith("package:"):
        return package_path(name, source)
    if source.startswith("archive:"):
        return archives.unpacked(name, archives.ARCHIVES[source.removeprefix("archive:")])
    local = Path(source).expanduser()
    if local.is_dir():
        return local
    if local.exists():
        raise EncoderError(f"encoder {name}: {source} is a file, expected a checkpoint folder")
    if not _HUB_ID.fullmatch(source):
        raise EncoderError(f"encoder {name}: folder {source} does not exist, nor is it a hub id")
    return _cached(source) or _downloaded(name, source, key or name)


def package_path(name: str, source: str) -> Path:
    """The path `package:a/b*` inside an installed package, which is not imported."""
    package, _, inner = source.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EncoderError(
            f"encoder {name}: package {package} is not installed; run `pip install {package}`"
        )
    found = sorted(Path(spec.origin).parent.glob(inner))
    if not found:
        raise EncoderError(f"encoder {name}: package {package} lacks {inner}; install it again")
    return found[0]


def find_download(name: str, url: str) -> Path:
    """One file in torch's hub cache, downloaded now if it is not there.

    The file's name ends in the first digits of its sha256, as torchvision's do; it is checked.
    """
    file_name = url.rpartition("/")[2]
    target = _torch_cache() / file_name
    if not target.is_file():
        looked = f"not in {target.parent}"
        if _offline():
            raise _not_found(name, file_name, f"{looked}, HF_HUB_OFFLINE is set")
        request = urllib.request.Request(url, method="HEAD")
        try:
            _bounded(lambda: urllib.request.urlopen(request, timeout=REPLY_SECONDS).close())
        except Exception as error:
            raise _not_found(name, file_name, f"{looked}, {_unreachable(url, error)}") from None
        _fetch(name, url, target)
    expected = target.stem.rpartition("-")[2]
    if not checkpoint_folder.file_digest(target).startswith(expected):
        raise EncoderError(f"encoder {name}: {target} is damaged; delete it and run again")
    return target


def is_here(source: str) -> bool:
    """Whether the weights of a table's source are on this machine; no server is asked."""
    if source.startswith("package:"):
        try:
            return package_path("", source).exists()
        except EncoderError:
            return False
    if source.startswith("archive:"):
        return archives.is_here(archives.ARCHIVES[source.removeprefix("archive:")])
    if source.startswith("https:"):
        return (_torch_cache() / source.rpartition("/")[2]).is_file()
    return _cached(source) is not None


def _cached(repository: str) -> Path | None:
    """A complete copy in the hub's cache; the main branch first, then the newest other one."""
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    main = root / "refs" / "main"
    newest = sorted(root.glob("snapshots/*"), key=lambda path: path.stat().st_mtime, reverse=True)
    if main.is_file():
        newest.insert(0, root / "snapshots" / main.read_text().strip())
    return next((snapshot for snapshot in newest if _complete(snapshot)), None)


def _complete(snapshot: Path) -> bool:
    inputs = (
        *checkpoint_folder.TOKENIZER_FILES,
        "preprocessor_config.json",
        "processor_config.json",
    )
    if not any((snapshot / name).is_file() for name in inputs):
        return False
    try:
        checkpoint_folder.read_config(snapshot)
        checkpoint_folder.weight_files(snapshot)
    except EncoderError:
        return False
    return True


def _downloaded(name: str, repository: str, key: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    looked = f"no folder of that name, no complete copy in {constants.HF_HUB_CACHE}"
    if _offline():
        raise _not_found(name, repository, f"{looked}, HF_HUB_OFFLINE is set", key)
    try:
        revision = _bounded(lambda: _safetensors_revision(repository))
    except (RepositoryNotFoundError, HFValidationError):
        looked = f"{looked}, the hub has no public model of that name"
        raise _not_found(name, repository, looked, key) from None
    except Exception as error:
        reason = _unreachable(constants.ENDPOINT, error)
        raise _not_found(name, repository, f"{looked}, {reason}", key) from None
    if revision is None:
        raise EncoderError(
            f"encoder {name}: {repository} has no safetensors at the hub, and pickles are never "
            f"read; convert it (save_pretrained does) and give {_folder_hint(name, key)}"
        )
    try:
        found = snapshot_download(
            repository, revision=revision, allow_patterns=WANTED, ignore_patterns=UNWANTED
        )
    except Exception as error:
        raise EncoderError(
            f"encoder {name}: download of {repository} broke off "
            f"({checkpoint_folder.first_line(error)}); run again to resume, "
            f"or give {_folder_hint(name, key)}"
        ) from None
    return Path(str(found))


def _safetensors_revision(repository: str) -> str | None:
    """The commit that holds safetensors: main, or the hub's own open conversion of main."""
    from huggingface_hub import HfApi

    api = HfApi()
    info = api.model_info(repository, timeout=REPLY_SECONDS)
    if _has_safetensors(info):
        return info.sha or "main"
    conversions = api.get_repo_discussions(
        repository, author=CONVERSION_AUTHOR, discussion_type="pull_request"
    )
    for conversion in conversions:
        if conversion.author != CONVERSION_AUTHOR or conversion.status != "open":
            continue
        reference = f"refs/pr/{conversion.num}"
        info = api.model_info(repository, revision=reference, timeout=REPLY_SECONDS)
        if _has_safetensors(info):
            return info.sha or reference
    return None


def _has_safetensors(info: Any) -> bool:
    names = {entry.rfilename for entry in info.siblings or ()}
    return bool(names & {"model.safetensors", "model.safetensors.index.json"})


def _bounded(ask: Callable[[], T]) -> T:
    """The answer of `ask`, or TimeoutError after PREFLIGHT_SECONDS; what hangs is a daemon."""
    answers: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(ask())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True, name="pairfuse-preflight")
    thread.start()
    thread.join(PREFLIGHT_SECONDS)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {PREFLIGHT_SECONDS:.0f} s")
    return answers[0]


def _fetch(name: str, url: str, target: Path) -> None:
    """Download one file under a temporary name, check its digest, rename it."""
    temporary = target.parent / temporary_name()
    digest = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=15) as reply, temporary.open("xb") as file:
            while chunk := reply.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if not digest.hexdigest().startswith(target.stem.rpartition("-")[2]):
            raise OSError("the bytes that came are not those expected")
        temporary.replace(target)
    except OSError as error:
        raise EncoderError(
            f"encoder {name}: download of {url} broke off ({checkpoint_folder.first_line(error)}); "
            f"run again, or give {_folder_hint(name)}"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _offline() -> bool:
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in {"1", "TRUE", "YES", "ON"} for name in names)


def _torch_cache() -> Path:
    """Torch's own folder for downloaded weights, by its own rules, without importing it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def _unreachable(server: str, error: BaseException) -> str:
    return f"{server} not reachable ({checkpoint_folder.first_line(error)})"


def _folder_hint(name: str, key: str = "") -> str:
    return f"a local folder, e.g. {key or name}=./models/{name}"


def _not_found(name: str, wanted: str, looked: str, key: str = "") -> EncoderError:
    return EncoderError(
        f"encoder {name}: weights of {wanted} not found ({looked}); "
        f"give {_folder_hint(name, key)}, or use what needs no download: {NO_DOWNLOAD}"
    )
