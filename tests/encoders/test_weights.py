"""Weights that are not to be had end in one clear line, soon, with nothing written."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pairfuse.encoders import build_encoders, weights
from pairfuse.errors import EncoderError

Make = Callable[..., Path]


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Accepts every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def drop(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def retype(kind: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}))

    return change


WEIGHTS = "model.safetensors"
DAMAGES = [
    ("text", "bert", drop("config.json"), "is not a checkpoint: it has no config.json"),
    ("text", "bert", write("config.json", b"{"), "cannot be read as JSON"),
    ("text", "bert", write("config.json", b"[]"), "holds a JSON list"),
    ("text", "bert", write("config.json", b"{}"), "names no model_type"),
    ("text", "bert", drop(WEIGHTS), "holds no model.safetensors"),
    ("text", "bert", cut(WEIGHTS), "model.safetensors is cut short"),
    ("text", "bert", write(WEIGHTS, b""), "not a complete safetensors file"),
    ("text", "bert", write(WEIGHTS, b"\xff" * 64), "not a complete safetensors file"),
    ("text", "bert", write(WEIGHTS, b"\x02" + b"\0" * 7 + b"[]"), "is not a safetensors file"),
    ("text", "bert", only_a_pickle, "is a pickle, which is never read"),
    ("text", "bert", write("adapter_config.json", b"{}"), "is an adapter"),
    ("text", "vit", lambda folder: None, "holds no tokenizer files"),
    ("image", "bert", lambda folder: None, "holds no preprocessor_config.json"),
    ("image", "vit", drop("preprocessor_config.json"), "holds no preprocessor_config.json"),
    ("clip", "bert", lambda folder: None, "expected a dual encoder"),
    ("clip", "clip", cut(WEIGHTS), "model.safetensors is cut short"),
    ("joint", "bert", lambda folder: None, "expected one that reads a text with its image"),
    ("flava", "flava", drop("preprocessor_config.json"), "holds no preprocessor_config.json"),
    *(
        (name, "siglip", retype("siglip2"), "takes images of any size")
        for name in ("siglip2", "text", "image", "joint", "siglip2-agreement")
    ),
    ("joint", "bert", retype("visual_bert"), "reads regions that a detector"),
]


@pytest.mark.parametrize(("view", "kind", "damage", "message"), DAMAGES)
def test_a_damaged_folder_is_named(
    view: str, kind: str, damage: Callable[[Path], object], message: str, own_copy: Make
) -> None:
    damage(folder := own_copy(kind))
    with pytest.raises(EncoderError, match=message) as caught:
        build_encoders([f"{view}={folder}"], device="cpu")
    assert str(folder) in str(caught.value)


def test_a_shard_outside_the_folder_is_not_followed(own_copy: Make) -> None:
    folder = own_copy("bert")
    (folder / WEIGHTS).rename(folder.parent / "outside.safetensors")
    index = {"weight_map": {"a": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(EncoderError, match="lacks the weight file"):
        build_encoders([f"text={folder}"], device="cpu")


def test_weights_that_do_not_fit_their_config_are_refused(own_copy: Make) -> None:
    folder = own_copy("bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(EncoderError, match="lacks 16 trained tensors"):
        build_encoders([f"text={folder}"], device="cpu")[0].load("cpu")


def test_code_that_a_checkpoint_brings_is_not_run(own_copy: Make) -> None:
    folder = own_copy("bert")
    config = json.loads((folder / "config.json").read_text())
    own = {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}}
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    for model_type in ("bert", "unheard-of"):
        changed = {**config, **own, "model_type": model_type}
        (folder / "config.json").write_text(json.dumps(changed))
        try:
            build_encoders([f"text={folder}"], device="cpu")[0].load("cpu")
        except EncoderError:
            assert model_type == "unheard-of"
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("source", ["./models/none", "/nowhere/at/all", "a b", "~/none/x"])
def test_a_path_that_does_not_exist_is_not_taken_for_a_hub_id(source: str, online: None) -> None:
    with pytest.raises(EncoderError, match=f"folder {source} does not exist"):
        build_encoders([f"text={source}"], device="cpu")


@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize("spec", ["bert", "text=some/model", "resnet50"])
def test_an_unreachable_hub_ends_soon_and_writes_nothing(
    spec: str,
    silent: bool,
    silent_server: str,
    online: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = silent_server if silent else "http://127.0.0.1:9"
    # The library's own retries would take minutes: what ends a silent server is our own limit.
    monkeypatch.setattr(weights, "PREFLIGHT_SECONDS", 0.2 if silent else 4.0)
    reason = "no answer within" if silent else ""
    _serve_from(endpoint, monkeypatch)
    with pytest.raises(EncoderError, match=f"{endpoint}.* not reachable.*{reason}") as caught:
        weights.find_download("resnet50", f"{endpoint}/resnet50-11ad3fa6.pth") if (
            spec == "resnet50"
        ) else build_encoders([spec], device="cpu")
    assert "./models/" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def _serve_from(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    real = huggingface_hub.HfApi
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: real(endpoint=endpoint))


class FakeApi:
    """A hub with one repository, its files by revision."""

    def __init__(self, main: list[str], conversion: list[str] | None = None) -> None:
        self.revisions = {None: main, "refs/pr/7": conversion or []}
        self.author = weights.CONVERSION_AUTHOR

    def model_info(self, repository: str, *, revision: str | None = None, timeout: float) -> Any:
        names = [SimpleNamespace(rfilename=name) for name in self.revisions[revision]]
        return SimpleNamespace(siblings=names, sha=f"sha-of-{revision or 'main'}")

    def get_repo_discussions(self, repository: str, **filters: object) -> Iterator[Any]:
        yield SimpleNamespace(author="someone", status="open", num=3)
        yield SimpleNamespace(author=self.author, status="open", num=7)


@pytest.mark.parametrize(
    ("api", "revision"),
    [
        (FakeApi([WEIGHTS, "pytorch_model.bin"]), "sha-of-main"),
        (FakeApi(["pytorch_model.bin"], [WEIGHTS]), "sha-of-refs/pr/7"),
    ],
    ids=["main", "conversion"],
)
def test_what_the_hub_has_as_safetensors_is_downloaded(
    api: FakeApi,
    revision: str,
    checkpoint: Make,
    online: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub

    asked: list[object] = []

    def download(repository: str, *, revision: str, **patterns: object) -> str:
        asked.append((repository, revision))
        return str(checkpoint("bert"))

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert build_encoders(["bert"], device="cpu")[0].dim == 16
    assert asked == [("bert-base-uncased", revision)]


def test_a_repository_of_pickles_is_refused(online: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: FakeApi(["pytorch_model.bin"]))
    with pytest.raises(EncoderError, match="has no safetensors at the hub"):
        build_encoders(["beto"], device="cpu")


def test_a_cached_snapshot_is_used_without_the_hub(
    tmp_path: Path, own_copy: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "hub" / "models--bert-base-uncased"
    own_copy("bert", "hub/models--bert-base-uncased/snapshots/abc")
    half = own_copy("bert", "hub/models--bert-base-uncased/snapshots/def")
    (half / WEIGHTS).unlink()
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("def")
    (encoder,) = build_encoders(["bert"], device="cpu")
    assert encoder.dim == 16
    assert encoder.folder == root / "snapshots" / "abc"  # type: ignore[attr-defined]


@pytest.fixture
def file_server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_file_is_downloaded_once_and_checked(
    file_server: tuple[Path, str], online: None, tmp_path: Path
) -> None:
    folder, url = file_server
    name = f"net-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    (folder / name).write_bytes(b"weights")
    found = weights.find_download("net", f"{url}/{name}")
    assert found.read_bytes() == b"weights"
    (folder / name).unlink()
    assert weights.find_download("net", f"{url}/{name}") == found
    found.write_bytes(b"damaged")
    with pytest.raises(EncoderError, match="is damaged; delete it"):
        weights.find_download("net", f"{url}/{name}")


def test_a_download_with_other_bytes_leaves_nothing(
    file_server: tuple[Path, str], online: None, tmp_path: Path
) -> None:
    folder, url = file_server
    (folder / "net-00000000.pth").write_bytes(b"other")
    with pytest.raises(EncoderError, match="not those expected"):
        weights.find_download("net", f"{url}/net-00000000.pth")
    assert not list((tmp_path / "torch" / "hub" / "checkpoints").iterdir())
