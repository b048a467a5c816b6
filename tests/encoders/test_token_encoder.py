"""Tokens: every encoder with a sequence keeps it, and gives the same pooled features as without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from encoders.test_every_encoder import CASES, TEXTS, build, cosine_distance, encode, inputs
from pairfuse.encoders import Encoder, build_encoders, fingerprint
from pairfuse.encoders.network import with_tokens
from pairfuse.encoders.token_encoder import TokenEncoder
from pairfuse.encoders.tokens import Encoded, Tokens, join_found, offsets_of, pool_tokens
from pairfuse.errors import ConfigError, EncoderError
from toys.checkpoints import images

Make = Callable[[str], Path]

#: View to the width of a token and, for pictures, how many there are.
SEQUENCES = {
    "bert": (16, 0),
    "sentence-bert": (16, 0),
    "minilm": (384, 0),
    "clip-text": (16, 0),
    "siglip-text": (16, 0),
    "vit": (16, 5),
    "headless-vit": (16, 5),
    "resnet": (24, 1),
    "efficientnet-lite0": (1280, 49),
    "clip-image": (16, 5),
    "siglip-image": (16, 4),
}


def encoded(encoder: Encoder, raws: list[object], batch: int = 64) -> Encoded:
    loaded = encoder.load("cpu")
    prepared = [loaded.prepare(raw) for raw in raws]
    parts = [prepared[start : start + batch] for start in range(0, len(prepared), batch)]
    features, tokens = join_found([loaded.encode(part) for part in parts])
    assert tokens is not None
    return Encoded(features, tokens)


@pytest.mark.parametrize("view", SEQUENCES)
def test_tokens_are_those_promised_and_pooled_features_those_of_the_plain_encoder(
    view: str, checkpoint: Make
) -> None:
    plain, encoder = build(view, checkpoint), build(view, checkpoint, tokens=True)
    assert isinstance(encoder, TokenEncoder)
    raws = inputs(encoder)
    together = encoded(encoder, raws)
    assert together.features.tobytes() == encode(plain, raws).tobytes()

    width, count = SEQUENCES[view]
    assert together.tokens.values.dtype == np.float16
    assert together.tokens.values.shape[1] == encoder.token_dim == width
    loaded = encoder.load("cpu")
    sizes = [loaded.prepare(raw).size for raw in raws]
    assert together.tokens.lengths.tolist() == ([count] * 6 if count else sizes)

    alone = encoded(encoder, raws, batch=1)
    assert (together.tokens.offsets == alone.tokens.offsets).all()
    one, other = (each.tokens.values.astype(np.float32) for each in (together, alone))
    assert cosine_distance(one, other).max() < 1e-4


def test_word_pieces_are_the_networks_own_last_states(checkpoint: Make) -> None:
    from transformers import BertModel, BertTokenizerFast

    pieces = BertTokenizerFast.from_pretrained(checkpoint("bert"))(TEXTS[2], return_tensors="pt")
    with torch.inference_mode():
        hidden = BertModel.from_pretrained(checkpoint("bert")).eval()(**pieces).last_hidden_state
    tokens = encoded(build("bert", checkpoint, tokens=True), list(TEXTS)).tokens
    assert np.allclose(tokens.row(2), hidden[0].numpy(), atol=2e-3)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_patches_and_cells_are_the_networks_own_last_states(kind: str, checkpoint: Make) -> None:
    from transformers import AutoImageProcessor, AutoModel

    folder, picture = checkpoint(kind), images()[0]
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(picture, return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).eval()(**pixels).last_hidden_state[0]
    if kind == "resnet":
        hidden = hidden.flatten(1).T  # (D, H, W) → (H * W, D)
    tokens = encoded(build(kind, checkpoint, tokens=True), [picture]).tokens
    assert cosine_distance(tokens.values.astype(np.float32), hidden.numpy()).max() < 1e-3


def test_cells_lie_row_by_row() -> None:
    maps = torch.arange(12.0).reshape(1, 2, 2, 3)  # (B, D, H, W)
    found = with_tokens(lambda: np.zeros((1, 2), np.float32), maps, (), "toy", 2)()
    assert isinstance(found, Encoded)
    assert found.tokens.values.tolist() == maps[0].flatten(1).T.tolist()


@pytest.mark.parametrize("view", ["bert", "vit", "clip-image", "efficientnet-lite0"])
def test_the_fingerprint_differs_in_saying_tokens_alone(view: str, checkpoint: Make) -> None:
    plain, kept = build(view, checkpoint), build(view, checkpoint, tokens=True)
    assert kept.made_from == {**plain.made_from, "tokens": "float16"}
    assert fingerprint(kept) != fingerprint(plain)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_a_view_pooled_from_tokens_shares_the_store(pooling: str, checkpoint: Make) -> None:
    kept = build("bert", checkpoint, tokens=True)
    pooled = build("bert", checkpoint, tokens=True, pooling=pooling)
    assert fingerprint(pooled) == fingerprint(kept)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_pooling_stored_tokens_is_what_the_plain_encoder_pools(
    pooling: str, checkpoint: Make
) -> None:
    tokens = encoded(build("bert", checkpoint, tokens=True), list(TEXTS)).tokens
    plain = encode(build("bert", checkpoint, pooling=pooling), list(TEXTS))
    assert np.allclose(pool_tokens(tokens, pooling), plain, atol=2e-3)  # type: ignore[arg-type]


def test_each_pooling_is_of_the_rows_own_tokens() -> None:
    rows = [np.array([[1, -2], [3, 4]]), np.array([[5, 6]])]
    tokens = Tokens(np.concatenate(rows).astype(np.float16), offsets_of([2, 1]))
    found = {how: pool_tokens(tokens, how).tolist() for how in ("cls", "mean", "max")}
    assert found["cls"] == [[1, -2], [5, 6]]
    assert found["mean"] == [[2, 1], [5, 6]]
    assert found["max"] == [[3, 4], [5, 6]]


def test_an_encoder_without_a_sequence_stays_as_it_is() -> None:
    [plain], [kept] = build_encoders(["ngram"]), build_encoders(["ngram"], tokens=True)
    assert fingerprint(plain) == fingerprint(kept)


@pytest.mark.parametrize("view", ["resnet", "efficientnet-lite0", "siglip-image", "clip-text"])
def test_cls_is_refused_where_no_token_stands_for_the_whole(view: str, checkpoint: Make) -> None:
    with pytest.raises(ConfigError, match="has no token that stands for the whole; use --pooling"):
        build(view, checkpoint, tokens=True, pooling="cls")


def test_max_pooling_without_tokens_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"'max' is not known.*add --tokens"):
        build_encoders(["ngram"], pooling="max")


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_tokens_that_float16_does_not_hold_are_refused(value: float) -> None:
    wait = with_tokens(
        lambda: np.zeros((1, 2), np.float32), torch.full((1, 3, 2), value), (2,), "toy", 2
    )
    with pytest.raises(EncoderError, match="float16 does not hold; run without --tokens"):
        wait()


def test_padding_that_is_no_number_is_not_looked_at() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [float("nan"), 0.0]]])
    found = with_tokens(lambda: np.zeros((1, 2), np.float32), hidden, (1,), "toy", 2)()
    assert isinstance(found, Encoded)
    assert found.tokens.values.tolist() == [[1, 2]]


def test_every_encoder_of_one_modality_but_the_ngrams_gives_a_sequence(checkpoint: Make) -> None:
    for view in CASES:
        encoder = build(view, checkpoint, tokens=True)
        gives = view not in ("ngram", "lexicon") and encoder.modality in ("text", "image")
        assert isinstance(encoder, TokenEncoder) == gives, view
        if gives and view not in SEQUENCES:
            assert len(encoded(encoder, inputs(encoder)[:2]).tokens) == 2, view
