"""Pairs of sentences: encoded as the library would where a tokenizer marks pairs, else one text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from encoders.test_every_encoder import build, cosine_distance, encode
from pairfuse.data.pairs import BETWEEN
from pairfuse.encoders.token_encoder import TokenEncoder
from toys.checkpoints import images

Make = Callable[[str], Path]

TEXTS = [("a cat sits", "on the mat"), ("dog", "the dog runs in the park"), ("red cats", "x " * 9)]
PAIRS = [BETWEEN.join(texts) for texts in TEXTS]
SINGLE = ["a cat", "the dog runs in the park", ""]


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "deberta-v3"])
def test_token_ids_are_those_of_the_library(kind: str, checkpoint: Make) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint(kind))
    loaded = build(kind, checkpoint, max_length=12).load("cpu")
    for texts, pair in zip(TEXTS, PAIRS, strict=True):
        cut = {"truncation": True, "max_length": 12}
        theirs = tokenizer(*texts, return_token_type_ids=True, **cut)
        found = loaded.prepare(pair)
        assert found.value == theirs["input_ids"]
        assert found.types == theirs["token_type_ids"]
        assert found.truncated == (len(tokenizer(*texts)["input_ids"]) > 12)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_features_are_those_of_the_library_token_types_included(
    kind: str, checkpoint: Make
) -> None:
    from transformers import AutoModel, AutoTokenizer

    network = AutoModel.from_pretrained(checkpoint(kind)).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint(kind))
    found = encode(build(kind, checkpoint, pooling="cls"), [*PAIRS, *SINGLE])
    for texts, row in zip([*TEXTS, *((text,) for text in SINGLE)], found, strict=True):
        with torch.inference_mode():
            states = network(**tokenizer(*texts, return_tensors="pt")).last_hidden_state
        assert np.allclose(row, states[0, 0].numpy(), atol=1e-5)


def test_which_sentence_a_token_is_of_changes_the_features(checkpoint: Make) -> None:
    loaded = build("bert", checkpoint).load("cpu")
    pair = loaded.prepare(PAIRS[0])
    as_one = type(pair)(pair.value, pair.size)
    found, other = [np.asarray(loaded.encode([each])) for each in (pair, as_one)]
    assert np.abs(found - other).max() > 1e-3


@pytest.mark.parametrize("view", ["bert", "roberta", "minilm"])
def test_pairs_and_single_texts_do_not_depend_on_the_company(view: str, checkpoint: Make) -> None:
    encoder = build(view, checkpoint)
    mixed = [raw for both in zip(PAIRS, SINGLE, strict=True) for raw in both]
    together, alone = encode(encoder, list(mixed)), encode(encoder, list(mixed), batch=1)
    assert cosine_distance(together, alone).max() < 1e-4
    assert len(np.unique(alone.round(5), axis=0)) == len(mixed)


@pytest.mark.parametrize("view", ["bert", "roberta", "minilm"])
def test_a_single_text_says_nothing_of_sentences(view: str, checkpoint: Make) -> None:
    loaded = build(view, checkpoint).load("cpu")
    assert [loaded.prepare(text).types for text in SINGLE] == [()] * len(SINGLE)


def test_tokens_of_a_pair_are_kept(checkpoint: Make) -> None:
    encoder = build("bert", checkpoint, tokens=True)
    assert isinstance(encoder, TokenEncoder)
    loaded = encoder.load("cpu")
    prepared = [loaded.prepare(raw) for raw in PAIRS]
    found = loaded.encode(prepared)
    assert found.tokens.lengths.tolist() == [each.size for each in prepared]  # type: ignore[union-attr]
    assert found.features.tobytes() == encode(build("bert", checkpoint), list(PAIRS)).tobytes()  # type: ignore[union-attr]


OTHERS = ["ngram", "clip-text", "siglip-text", "chinese-clip-text", "flava-text", "vilt", "blip"]


@pytest.mark.parametrize("view", OTHERS)
def test_all_other_encoders_read_a_pair_as_two_lines(view: str, checkpoint: Make) -> None:
    encoder, picture = build(view, checkpoint), images(1)[0]
    lines = ["\n".join(texts) for texts in TEXTS]
    found, wanted = (
        encode(encoder, [(raw, picture) if encoder.modality == "joint" else raw for raw in raws])
        for raws in (PAIRS, lines)
    )
    assert found.tobytes() == wanted.tobytes()


def test_head_and_tail_of_a_pair_keep_what_each_token_is_of(checkpoint: Make) -> None:
    pair = BETWEEN.join(["a cat", "cat dog mat red park runs sits on the"])
    whole = build("bert", checkpoint).load("cpu").prepare(pair)
    cut = build("bert", checkpoint, max_length=8, truncation="head-tail").load("cpu").prepare(pair)
    assert cut.value == whole.value[:2] + whole.value[-6:]
    assert list(cut.types) == [0, 0, 1, 1, 1, 1, 1, 1]
    assert (cut.truncated, whole.truncated) == (True, False)
