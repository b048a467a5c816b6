"""Tiny random checkpoints in the real formats: what a user's folder holds, a few kilobytes each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    BitImageProcessorPil,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    ChineseCLIPConfig,
    ChineseCLIPImageProcessorPil,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    ConvNextConfig,
    ConvNextImageProcessorPil,
    ConvNextModel,
    DebertaV2Config,
    DebertaV2Model,
    Dinov2Config,
    Dinov2Model,
    DistilBertConfig,
    DistilBertModel,
    EfficientNetConfig,
    EfficientNetImageProcessorPil,
    EfficientNetModel,
    FlavaConfig,
    FlavaImageProcessorPil,
    FlavaModel,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetModel,
    RobertaConfig,
    RobertaModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    ViltConfig,
    ViltImageProcessorPil,
    ViltModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

MARKED = ["##s", "##ing"]
WORDS = ["a", "cat", "sits", "on", "the", "mat", "dog", "runs", "in", "park", "red", *MARKED]
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = MARKS + WORDS + [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
PATCHES = {**SMALL, "image_size": 32, "patch_size": 16}


def images(count: int = 6, seed: int = 0) -> list[Image.Image]:
    """Noise images of different shapes."""
    rng = np.random.default_rng(seed)
    sizes = [tuple(rng.integers(20, 90, 2)) for _ in range(count)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def bert(folder: Path, *, pooler: bool = True) -> Path:
    """A BERT with a WordPiece vocabulary, as `vocab.txt`, like the first checkpoints."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(PIECES), max_position_embeddings=40, **SMALL)
    BertModel(config, add_pooling_layer=pooler).save_pretrained(folder)
    return _word_pieces(folder)


def sentence_bert(folder: Path) -> Path:
    """The same as a sentence-transformers folder: mean pooling, then unit length."""
    bert(folder)
    kinds = ["Transformer", "Pooling", "Normalize"]
    (folder / "modules.json").write_text(
        json.dumps([{"type": f"sentence_transformers.models.{kind}"} for kind in kinds])
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return folder


def vit(folder: Path, *, pooler: bool = True) -> Path:
    torch.manual_seed(0)
    config = ViTConfig(image_size=32, patch_size=16, **SMALL)
    ViTModel(config, add_pooling_layer=pooler).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def resnet(folder: Path) -> Path:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1])
    ResNetModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = _fast_tokenizer()
    text = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 24}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    config = CLIPConfig(text_config=text, vision_config=PATCHES, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"shortest_edge": 32}
    CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def siglip(folder: Path) -> Path:
    """A SigLIP whose tokenizer is a `tokenizer.json`: sentencepiece is not needed."""
    torch.manual_seed(0)
    tokenizer = _fast_tokenizer()
    text = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    SiglipModel(SiglipConfig(text_config=text, vision_config=PATCHES)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def siglip2(folder: Path) -> Path:
    """A SigLIP with a Gemma tokenizer, which keeps capitals apart, as those of SigLIP 2."""
    siglip(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "GemmaTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def distilbert(folder: Path) -> Path:
    torch.manual_seed(0)
    sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    config = DistilBertConfig(vocab_size=len(PIECES), max_position_embeddings=40, **sizes)
    DistilBertModel(config).save_pretrained(folder)
    return _word_pieces(folder)


def roberta(folder: Path) -> Path:
    """A RoBERTa with byte pairs as `vocab.json` and `merges.txt`."""
    torch.manual_seed(0)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *letters, "ca", "cat", "<mask>"]
    config = RobertaConfig(vocab_size=len(pieces), max_position_embeddings=42, **SMALL)
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
    return folder


def xlm_r(folder: Path) -> Path:
    """An XLM-R, whose sentence pieces are a unigram model in `tokenizer.json`."""
    torch.manual_seed(0)
    marks = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [*marks, *(f"\u2581{word}" for word in WORDS), *"\u2581abcdefghijklmnopqrstuvwxyz"]
    pieces = [*dict.fromkeys(pieces), "<mask>"]
    config = XLMRobertaConfig(vocab_size=len(pieces), max_position_embeddings=42, **SMALL)
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    _saved(tokenizer, folder, "XLMRobertaTokenizer", pad_token="<pad>")
    return folder


def deberta_v3(folder: Path) -> Path:
    """A DeBERTa-v3 whose sentence pieces are `spm.model`, the only form at the hub."""
    from sentencepiece import SentencePieceTrainer

    torch.manual_seed(0)
    folder.mkdir()
    SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS)] * 50),
        model_prefix=str(folder / "spm"),
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3},
        **{"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
    )
    (folder / "spm.vocab").unlink()
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    shape = {"relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm"}
    shape |= {"share_att_key": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
    config = DebertaV2Config(
        vocab_size=64, max_position_embeddings=40, position_biased_input=False, **shape, **SMALL
    )
    DebertaV2Model(config).save_pretrained(folder)
    return folder


def dinov2(folder: Path) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(image_size=28, patch_size=14, **sizes)).save_pretrained(folder)
    size, crop = {"shortest_edge": 32}, {"height": 28, "width": 28}
    BitImageProcessorPil(size=size, crop_size=crop).save_pretrained(folder)
    return folder


def convnext(folder: Path) -> Path:
    torch.manual_seed(0)
    config = ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1])
    ConvNextModel(config).save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 64}, crop_pct=0.875).save_pretrained(folder)
    return folder


def efficientnet(folder: Path) -> Path:
    """Google's own EfficientNet in the form of transformers."""
    torch.manual_seed(0)
    config = EfficientNetConfig(
        **{
            "image_size": 32,
            "hidden_dim": 1280,
            "in_channels": [32, 8],
            "out_channels": [8, 8],
        },
        **{"kernel_sizes": [3, 3], "strides": [1, 2], "num_block_repeats": [1, 1]},
        **{"expand_ratios": [1, 2], "depthwise_padding": [], "width_coefficient": 1.0},
    )
    _stirred(EfficientNetModel(config)).save_pretrained(folder)
    EfficientNetImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def chinese_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": len(PIECES), "max_position_embeddings": 40}
    config = ChineseCLIPConfig(text_config=text, vision_config=PATCHES, projection_dim=12)
    ChineseCLIPModel(config).save_pretrained(folder)
    size, crop = {"height": 32, "width": 32}, {"height": 32, "width": 32}
    ChineseCLIPImageProcessorPil(size=size, crop_size=crop, do_center_crop=False).save_pretrained(
        folder
    )
    return _word_pieces(folder)


def flava(folder: Path) -> Path:
    """A FLAVA whose image settings have the names of its first release, as those at the hub."""
    torch.manual_seed(0)
    config = FlavaConfig(
        text_config={**SMALL, "vocab_size": len(PIECES), "max_position_embeddings": 40},
        image_config={**PATCHES, "mask_token": False},
        multimodal_config=SMALL,
        projection_dim=12,
    )
    FlavaModel(config).save_pretrained(folder)
    FlavaImageProcessorPil(
        size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    settings |= {"feature_extractor_type": "FlavaFeatureExtractor", "size": 32, "crop_size": 32}
    settings.pop("image_processor_type", None)
    path.write_text(json.dumps(settings))
    return _word_pieces(folder)


def vilt(folder: Path) -> Path:
    torch.manual_seed(0)
    config = ViltConfig(
        vocab_size=len(PIECES), max_position_embeddings=40, image_size=64, patch_size=32, **SMALL
    )
    _stirred(ViltModel(config)).save_pretrained(folder)
    ViltImageProcessorPil(size={"shortest_edge": 384}).save_pretrained(folder)
    return _word_pieces(folder)


def blip(folder: Path) -> Path:
    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": len(PIECES), "max_position_embeddings": 40}
    text |= {"encoder_hidden_size": 24, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = BlipConfig(
        text_config={**text, "sep_token_id": 3},
        vision_config={**PATCHES, "hidden_size": 24},
        image_text_hidden_size=12,
    )
    _stirred(BlipForImageTextRetrieval(config)).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return _word_pieces(folder)


def _stirred(network: Any) -> Any:
    """With weights so large that text and image show in what it gives."""
    for name, values in network.named_parameters():
        if values.ndim > 1:
            torch.nn.init.normal_(values, std=0.3)
        elif name.endswith("weight"):
            torch.nn.init.ones_(values)
    return network


def _word_pieces(folder: Path) -> Path:
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def _saved(tokenizer: Tokenizer, folder: Path, kind: str, **marks: str) -> None:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"tokenizer_class": kind}
    path.write_text(json.dumps(settings))


def _fast_tokenizer() -> PreTrainedTokenizerFast:
    words = ["<unk>", "<s>", "</s>", *WORDS]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    )
