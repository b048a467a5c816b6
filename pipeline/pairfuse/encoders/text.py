"""Text encoders from a checkpoint folder: its tokenizer, its network, one vector per text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from pairfuse.data.pairs import BETWEEN, Modality
from pairfuse.encoders import checkpoint_folder
from pairfuse.encoders.base import EncoderInput, EncoderOutput, Precision, plain_text
from pairfuse.encoders.network import load_network, quiet, to_device, to_host, with_tokens
from pairfuse.encoders.truncation import (
    TextTokenizer,
    Truncation,
    in_fingerprint,
    marks_pairs,
    set_length,
    whole_length,
)
from pairfuse.errors import ConfigError, EncoderError

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Literal["cls", "mean", "pooler", "last2", "last4", "mean-of-layers"]
POOLINGS = ("auto", *get_args(Pooling))
#: Poolings that read more than the last layer, and how many of the last they join; 0 of all.
LAYERS: Mapping[str, int] = {"last2": 2, "last4": 4, "mean-of-layers": 0}

#: Room for the tokenizer's own marks and at least one token of text.
MIN_LENGTH = 4

#: Networks trained with a summary token in front; all others are averaged unless told otherwise.
CLS_TYPES = frozenset(
    {
        "albert",
        "bert",
        "camembert",
        "convbert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "mpnet",
        "modernbert",
        "rembert",
        "roberta",
        "roformer",
        "squeezebert",
        "xlm-roberta",
        "xlm-roberta-xl",
    }
)
#: Networks whose first positions are reserved, so that 514 positions hold 512 tokens.
OFFSET_TYPES = frozenset(
    {
        "camembert",
        "ibert",
        "mpnet",
        "roberta",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)
WIDTH_KEYS = ("hidden_size", "d_model", "dim", "n_embd")
DEPTH_KEYS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")


@dataclass(frozen=True)
class TextEncoder:
    """A text network known by its folder; `load` brings it to a device."""

    name: str
    folder: Path
    pooling: Pooling
    normalize: bool
    max_length: int
    precision: Precision
    modality: Modality = "text"
    batch_size: int = 64
    truncation: Truncation = "head"

    @property
    def dim(self) -> int:
        """Width of the network's last layer, or of the several that are joined."""
        return self.token_dim * (LAYERS.get(self.pooling) or 1)

    @cached_property
    def token_dim(self) -> int:
        """Width of a word piece in the last layer."""
        width = checkpoint_folder.setting(
            self.folder, checkpoint_folder.read_config(self.folder), *WIDTH_KEYS
        )
        if width is None:
            raise EncoderError(f"{self.folder}/config.json gives no width ({WIDTH_KEYS[0]})")
        return width

    @property
    def has_summary(self) -> bool:
        """As with `--pooling cls`, which takes the first word piece of any network."""
        return True

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """Digests of weights, tokenizer and config, and how tokens become one vector."""
        return {
            "kind": "text",
            "weights": checkpoint_folder.weights_digest(
                checkpoint_folder.weight_files(self.folder)
            ),
            "tokenizer": checkpoint_folder.tokenizer_digest(self.folder),
            "config": checkpoint_folder.config_digest(checkpoint_folder.read_config(self.folder)),
            "pooling": self.pooling,
            "normalize": self.normalize,
            "max_length": self.max_length,
            **in_fingerprint(self.truncation),
            "precision": self.precision,
        }

    def load(self, device: str) -> LoadedText:
        """Read the weights onto a device, frozen."""
        network = load_network(
            self.folder, self.precision, device, untrained=_unused_parts(self.pooling)
        )

        def features(
            ids: Tensor, mask: Tensor, types: Tensor | None = None
        ) -> tuple[Tensor, Tensor]:
            type_ids = {} if types is None or not typed else {"token_type_ids": types}
            output = network(
                input_ids=ids,
                attention_mask=mask,
                output_hidden_states=self.pooling in LAYERS,
                **type_ids,
            )
            return pool(output, mask, self.pooling), output.last_hidden_state

        typed = (getattr(network.config, "type_vocab_size", 0) or 0) > 1
        tokenizer, pad_id = load_tokenizer(self.folder, self.max_length, self.truncation)
        return LoadedText(
            name=self.name,
            dim=self.dim,
            device=device,
            tokenizer=tokenizer,
            pad_id=pad_id,
            features=features,
            normalize=self.normalize,
            reads_pairs=marks_pairs(tokenizer),
        )


@dataclass(frozen=True)
class LoadedText:
    """A tokenizer and a function from token ids to features; for single and joint ones.

    The function gives features (B, D), and the sequence (B, T, D') where there is one; with a
    `token_dim` its word pieces are kept, padding is not. With `reads_pairs` it is also given which
    sentence each token is of, in a batch that holds pairs of sentences.
    """

    name: str
    dim: int
    device: str
    tokenizer: TextTokenizer
    pad_id: int
    features: Callable[..., Tensor | tuple[Tensor, Tensor]]
    normalize: bool = False
    pad_to: int = 0
    token_dim: int = 0
    reads_pairs: bool = False

    def keeping_tokens(self, width: int) -> LoadedText:
        """The same network, whose sequence is kept too."""
        return replace(self, token_dim=width)

    def prepare(self, raw: Any) -> EncoderInput:
        """Token ids of one text, cut at the maximal length; sets nothing, so safe in threads."""
        return tokenised(raw, self.tokenizer, self.pad_id, self.name, pairs=self.reads_pairs)

    def encode(self, batch: Sequence[EncoderInput]) -> EncoderOutput:
        """Features (B, D) of texts padded to the longest among them, or to `pad_to`."""
        return self.launch(batch)()

    def launch(self, batch: Sequence[EncoderInput]) -> Callable[[], EncoderOutput]:
        """Begin to encode prepared texts; the result waits for their features."""
        import torch

        with torch.inference_mode():
            on_device = padded(batch, self.pad_id, self.pad_to, self.device)
            found = self.features(*on_device)
            pooled, hidden = found if isinstance(found, tuple) else (found, None)
            if self.normalize:
                pooled = torch.nn.functional.normalize(pooled.float(), dim=-1)
            fetch = to_host(pooled, self.name, self.dim)
            if not self.token_dim:
                return fetch
            sizes = [prepared.size for prepared in batch]
            return with_tokens(fetch, hidden, sizes, self.name, self.token_dim)


def tokenised(
    raw: Any, tokenizer: TextTokenizer, pad_id: int, name: str, *, pairs: bool = False
) -> EncoderInput:
    """Token ids of one text, or of a pair of sentences; `name` is the encoder's, for messages."""
    parts = str(raw).split(BETWEEN, 1) if pairs else [str(raw)]
    try:
        encoding = tokenizer.encode(*map(plain_text, parts))
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise EncoderError(
            f"the tokenizer of encoder {name} cannot read a text "
            f"({checkpoint_folder.first_line(error)}); copy its checkpoint again"
        ) from None
    ids = encoding.ids or [pad_id]
    types = encoding.type_ids if len(parts) > 1 else ()
    return EncoderInput(
        ids,
        size=len(ids),
        truncated=bool(encoding.overflowing),
        types=types,
        length=whole_length(encoding, tokenizer),
    )


def padded(batch: Sequence[EncoderInput], pad_id: int, pad_to: int, device: str) -> list[Tensor]:
    """Token ids and their mask, (B, T) each, T being the longest text or `pad_to`.

    Where there is a pair of sentences, also which one each token is of.
    """
    import torch

    longest = max(pad_to, *(prepared.size for prepared in batch), 1)
    ids = torch.full((len(batch), longest), pad_id)  # (B, T)
    mask = torch.zeros_like(ids)
    for row, prepared in enumerate(batch):
        ids[row, : prepared.size] = torch.tensor(prepared.value)
        mask[row, : prepared.size] = 1
    out = [ids, mask]
    if any(prepared.types for prepared in batch):
        types = torch.zeros_like(ids)
        for row, prepared in enumerate(batch):
            types[row, : len(prepared.types)] = torch.tensor(prepared.types, dtype=ids.dtype)
        out.append(types)
    return [to_device(each.numpy(), device) for each in out]


def build_text(
    name: str,
    folder: Path,
    *,
    pooling: str,
    max_length: int,
    precision: Precision,
    truncation: Truncation = "head",
) -> TextEncoder:
    """Describe the text network in a folder; its own recipe decides what `auto` pooling means."""
    config = checkpoint_folder.read_config(folder)
    if config.get("is_encoder_decoder"):
        raise EncoderError(f"encoder {name}: {config['model_type']} needs a decoder's input")
    checkpoint_folder.weight_files(folder)
    checkpoint_folder.tokenizer_digest(folder)
    own, normalize = own_recipe(folder, config, strict=pooling == "auto")
    chosen = own if pooling == "auto" else cast(Pooling, pooling)
    if chosen in LAYERS:
        _check_depth(name, checkpoint_folder.setting(folder, config, *DEPTH_KEYS), chosen)
    positions = checkpoint_folder.setting(folder, config, "max_position_embeddings", "n_positions")
    if positions and config["model_type"] in OFFSET_TYPES:
        padding = config.get("pad_token_id")
        positions -= (padding if isinstance(padding, int) else 1) + 1
    length = usable_length(max_length, positions)
    return TextEncoder(name, folder, chosen, normalize, length, precision, truncation=truncation)


def _check_depth(name: str, depth: int | None, pooling: Pooling) -> None:
    if depth is None or depth < LAYERS[pooling]:
        found = "a number of layers that is not known" if depth is None else f"{depth} layers"
        raise ConfigError(
            f"encoder {name} has {found}, too few for pooling {pooling}; use cls, mean or auto"
        )


def usable_length(max_length: int, positions: int | None) -> int:
    """The maximal length in tokens that a network with so many positions can take."""
    if max_length < MIN_LENGTH:
        raise ConfigError(f"max_length is {max_length}, it must be {MIN_LENGTH} or more")
    return min(max_length, positions) if positions else max_length


def own_recipe(folder: Path, config: dict[str, Any], *, strict: bool) -> tuple[Pooling, bool]:
    """Pooling and whether to scale to unit length, as the checkpoint says or its family implies."""
    fallback: Pooling = "cls" if config["model_type"] in CLS_TYPES else "mean"
    listing = folder / "modules.json"
    if not listing.is_file():
        return fallback, False
    text = listing.read_text("utf-8", "replace")
    normalize = ".Normalize" in text
    if strict and ".Dense" in text:
        raise EncoderError(f"{folder} ends in a Dense layer, not applied here; give a pooling")
    settings = folder / "1_Pooling" / "config.json"
    if not settings.is_file():
        return fallback, normalize
    found = checkpoint_folder.read_json(settings)
    if found.get("pooling_mode_mean_tokens") or found.get("pooling_mode") == "mean":
        return "mean", normalize
    if found.get("pooling_mode_cls_token") or found.get("pooling_mode") == "cls":
        return "cls", normalize
    if strict:
        raise EncoderError(f"{settings} asks for a pooling not known here; give mean or cls")
    return fallback, normalize


def load_tokenizer(
    folder: Path, max_length: int, truncation: Truncation = "head"
) -> tuple[TextTokenizer, int]:
    """A private tokenizer, truncation set once, and its padding id.

    The fast tokenizers of transformers change their state on each call, which fails in threads
    ("Already borrowed"); this one is set here and only read afterwards.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        # SigLIP's own class needs sentencepiece; its tokenizer.json says the same without
        has_json = (folder / "tokenizer.json").is_file()
        siglip = checkpoint_folder.read_config(folder)["model_type"] == "siglip"
        family: Any = PreTrainedTokenizerFast if has_json and siglip else AutoTokenizer
        with quiet():
            loaded = family.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            tokenizer = Tokenizer.from_str(loaded.backend_tokenizer.to_str())
        if siglip and _is_gemma(folder):
            _lowercase(tokenizer)
        tokenizer.no_padding()
        cut = set_length(tokenizer, max_length, truncation)
    except Exception as error:
        raise EncoderError(
            f"the tokenizer in {folder} cannot be used ({_why(folder, error)}); "
            "a tokenizer.json is needed"
        ) from None
    pad_id = loaded.pad_token_id
    return cut, 0 if pad_id is None else int(pad_id)


def _why(folder: Path, error: Exception) -> str:
    pieces = [name for name in checkpoint_folder.TOKENIZER_FILES if name.endswith(".model")]
    found = [name for name in pieces if (folder / name).is_file()]
    if found and find_spec("sentencepiece") is None:
        return f"{found[0]} is read after `pip install sentencepiece protobuf`"
    return checkpoint_folder.first_line(error)


def _is_gemma(folder: Path) -> bool:
    """Whether a tokenizer is Gemma's, as that of SigLIP 2 is."""
    path = folder / "tokenizer_config.json"
    named = str(checkpoint_folder.read_json(path).get("tokenizer_class")) if path.is_file() else ""
    return named.startswith(("Gemma", "Siglip2"))


def _lowercase(tokenizer: Any) -> None:
    """SigLIP 2 was trained on lower-case texts, which its tokenizer.json does not say."""
    from tokenizers import normalizers

    own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])


def pool(output: Any, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector per text, (B, T, D) → (B, D); padding does not enter the mean.

    Of several layers each has its mean over tokens: unit vectors side by side, (B, layers · D), or
    the mean of all layers; what goes into the first of them is not one.
    """
    if pooling == "pooler":
        if getattr(output, "pooler_output", None) is None:
            raise EncoderError("this network has no pooler; use pooling cls or mean")
        pooled: Tensor = output.pooler_output
        return pooled
    hidden: Tensor = output.last_hidden_state
    if pooling == "cls":
        return hidden[:, 0]
    if pooling not in LAYERS:
        return _mean(hidden, mask)
    import torch

    layers = [_mean(layer, mask) for layer in output.hidden_states[1:][-LAYERS[pooling] :]]
    if pooling == "mean-of-layers":
        return torch.stack(layers).mean(0)
    unit = [torch.nn.functional.normalize(layer, dim=-1) for layer in layers]
    return torch.cat(unit, dim=-1)


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    kept = mask.unsqueeze(-1).float()  # (B, T, 1)
    return (hidden.float() * kept).sum(1) / kept.sum(1).clamp_min(1)


def _unused_parts(pooling: Pooling) -> tuple[str, ...]:
    return () if pooling == "pooler" else ("pooler.",)
