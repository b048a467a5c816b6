"""Networks from one weight file: prepared as their makers do it, pickles never run."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pairfuse.encoders import build_encoders, fingerprint
from pairfuse.encoders.convnet import CONV_NETS, architecture_of, conv_net
from pairfuse.errors import EncoderError
from toys.checkpoints import images
from toys.encoders import standardised


@pytest.fixture(scope="session")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("torchvision") / "resnet18.pth"
    torch.save(resnet18(weights=None).state_dict(), file)
    return file


WEIGHT_FILES = {  # of torchvision, by what is known here
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
    "resnet50": "ResNet50_Weights.IMAGENET1K_V2",
    "resnet152": "ResNet152_Weights.IMAGENET1K_V2",
    "efficientnet-b0": "EfficientNet_B0_Weights.IMAGENET1K_V1",
    "vit_b_16": "ViT_B_16_Weights.IMAGENET1K_V1",
}


@pytest.mark.parametrize("name", WEIGHT_FILES)
def test_images_are_prepared_as_torchvision_prepares_them(name: str) -> None:
    from torchvision.models import get_weight

    for size in [(640, 480), (300, 901), (232, 232), (57, 40)]:
        picture = images(1)[0].resize(size, Image.Resampling.BICUBIC)
        expected = get_weight(WEIGHT_FILES[name]).transforms()(picture).numpy()
        difference = np.abs(standardised(picture, conv_net(name).crop) - expected)
        assert difference.max() < 1.5 / 255 / 0.224, size
        assert difference.mean() < 0.1 / 255 / 0.224, size


def test_lite_pixels_lie_between_minus_one_and_one() -> None:
    crop = CONV_NETS["efficientnet-lite0"].crop
    black, white = (standardised(Image.new("RGB", (9, 7), c), crop) for c in ("black", "white"))
    assert np.allclose(black, -127 / 128)
    assert np.allclose(white, 1)


def test_resnet18_is_read_from_a_state_dict(resnet18_file: Path) -> None:
    from torchvision.models import resnet18

    network = resnet18(weights=None)
    network.load_state_dict(torch.load(resnet18_file, weights_only=True))
    network.fc = torch.nn.Identity()
    pixels = standardised(images(1)[0], CONV_NETS["resnet18"].crop)
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(pixels)[None]).numpy()
    file, folder = resnet18_file, resnet18_file.parent
    for spec in (f"resnet18={file}", f"resnet18={folder}", f"image={folder}"):
        (encoder,) = build_encoders([spec], device="cpu", precision="fp32")
        loaded = encoder.load("cpu")
        found = loaded.encode([loaded.prepare(images(1)[0])])
        assert encoder.dim == 512
        assert np.allclose(found, expected, rtol=1e-3, atol=1e-4), spec


NAMED = {
    "resnet18-f37072fd.pth": "resnet18",
    "resnet152.pt": "resnet152",
    "ResNet50_mine.safetensors": "resnet50",
    "efficientnet_b0_rwightman-7f5810bc.pth": "efficientnet-b0",
    "wide_resnet50_2-95faca4d.pth": "wide_resnet50_2",
    "vit_b_16-c867db91.pth": "vit_b_16",
}


@pytest.mark.parametrize("name", NAMED)
def test_a_state_dict_is_of_the_network_in_its_name(name: str) -> None:
    assert architecture_of(Path(name)) == NAMED[name]


def test_a_state_dict_of_no_known_name_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"x")
    with pytest.raises(EncoderError, match="does not say which network it holds; name it"):
        build_encoders([f"image={tmp_path / 'weights.pth'}"], device="cpu")


def test_a_network_without_a_linear_classifier_is_refused(tmp_path: Path) -> None:
    (tmp_path / "squeezenet1_0-b66bff10.pth").write_bytes(b"x")
    [encoder] = build_encoders([f"image={tmp_path / 'squeezenet1_0-b66bff10.pth'}"], device="cpu")
    with pytest.raises(EncoderError, match="does not end in a linear classifier"):
        fingerprint(encoder)


@pytest.mark.parametrize(
    ("spec", "name", "classes", "width"),
    [
        ("resnet18={file}", "resnet18", 3, 512),
        ("image={file}", "mobilenet_v3_small", 1000, 1024),
        ("efficientnet={file}", "efficientnet_b0", 5, 1280),
    ],
)
def test_any_network_of_torchvision_is_read_without_its_classifier(
    spec: str, name: str, classes: int, width: int, tmp_path: Path
) -> None:
    from torchvision.models import get_model

    torch.manual_seed(0)
    network = get_model(name, weights=None, num_classes=classes).eval()
    torch.save(network.state_dict(), file := tmp_path / f"{name}-mine.pth")
    [encoder] = build_encoders([spec.format(file=file)], device="cpu", precision="fp32")
    loaded, seen = encoder.load("cpu"), []
    last = [each for each in network.modules() if isinstance(each, torch.nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    crop = conv_net(encoder.architecture).crop  # type: ignore[attr-defined]
    with torch.inference_mode():
        network(torch.from_numpy(standardised(images(1)[0], crop))[None])
    assert encoder.dim == width
    found = loaded.encode([loaded.prepare(images(1)[0])])
    assert np.allclose(found, seen[0].numpy(), rtol=1e-3, atol=1e-4)


def test_the_fingerprint_covers_the_bytes_of_the_file(resnet18_file: Path, tmp_path: Path) -> None:
    copied = tmp_path / "resnet18-other.pth"
    copied.write_bytes(resnet18_file.read_bytes())
    same = [
        build_encoders([f"resnet18={file}"], device="cpu")[0] for file in (resnet18_file, copied)
    ]
    assert fingerprint(same[0]) == fingerprint(same[1])
    copied.write_bytes(b"other")
    assert fingerprint(same[0]) != fingerprint(build_encoders([f"image={copied}"], device="cpu")[0])


class Trap:
    """Writes a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("wrap", [lambda trap: trap, lambda trap: {"conv1.weight": trap}])
def test_a_pickle_that_runs_code_is_refused_unrun(wrap: object, tmp_path: Path) -> None:
    file, trace = tmp_path / "weights.pth", tmp_path / "ran"
    torch.save(wrap(Trap(trace)), file)  # type: ignore[operator]
    with pytest.raises(EncoderError, match="holds no resnet18 weights"):
        build_encoders([f"resnet18={file}"], device="cpu")[0].load("cpu")
    file.write_bytes(pickle.dumps(Trap(trace)))
    with pytest.raises(EncoderError, match="holds no resnet18 weights"):
        build_encoders([f"resnet18={file}"], device="cpu")[0].load("cpu")
    assert not trace.exists()


def test_efficientnet_tells_pictures_apart() -> None:
    flat = [Image.new("RGB", (80, 60), colour) for colour in ("red", "green", "blue")]
    loaded = build_encoders(["efficientnet-lite0"], device="cpu")[0].load("cpu")
    features = loaded.encode([loaded.prepare(picture) for picture in flat + images(3)])
    assert np.isfinite(features).all()
    similarity = np.corrcoef(features)[~np.eye(6, dtype=bool)]
    assert similarity.max() < 0.99
    assert (features.std(axis=0) > 0).mean() > 0.5
