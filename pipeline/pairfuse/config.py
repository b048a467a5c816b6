"""Configuration: defaults < a TOML file of differences < flags; frozen once it is made."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pairfuse.errors import ConfigError, shown
from pairfuse.files import MAX_FILE_BYTES
from pairfuse.recipe import Recipe

#: Encoders that come with the installation, for any language: no download, no network.
EMBEDDED = ("minilm", "ngram", "efficientnet-lite0")
#: How an arm's models become one: selected among heads and baselines, or the heads' plain mean.
Ensembling = Literal["mixture", "average"]
ENSEMBLES: tuple[Ensembling, ...] = ("mixture", "average")
#: What is done with labels that have too few different pairs for the folds.
RARE = ("refuse", "drop", "merge", "keep")
#: Above twice its own limit Pillow refuses a picture, whatever our bound says.
PILLOW_MAX_PIXELS = 178_956_970
#: What a search can maximise, with what it is called in sentences.
METRIC_NAMES: Mapping[str, str] = {
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "vqa_accuracy": "VQA accuracy",
}


@dataclass(frozen=True)
class DataConfig:
    """Which data set, and how its files are read."""

    root: str = "data/demo"
    reader: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "auto"
    labels: tuple[str, ...] = ()
    strict: bool = False
    missing_labels: tuple[str, ...] = ()
    follow_links: bool = False
    max_pixels: int = 64_000_000
    max_image_bytes: int = 32_000_000
    rare: str = "refuse"
    image_root: str = ""
    split_file: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= PILLOW_MAX_PIXELS:
            raise ConfigError(
                f"max_pixels is {shown(self.max_pixels)}; use 1 to {PILLOW_MAX_PIXELS}"
            )
        if not 1 <= self.max_image_bytes <= MAX_FILE_BYTES:
            raise ConfigError(
                f"max_image_bytes is {shown(self.max_image_bytes)}; use 1 to {MAX_FILE_BYTES}"
            )
        if self.rare not in RARE:
            raise ConfigError(f"rare is {shown(self.rare)}; choose one of {', '.join(RARE)}")


@dataclass(frozen=True)
class FeaturesConfig:
    """Which encoders, and how they run; 0 lets batch_size, workers and threads be chosen.

    The encoder `auto` stands for the embedded ones, and for `lexicon` where texts are English.
    With `tokens` the sequence that an encoder gives is kept beside its pooled vector.
    """

    encoders: tuple[str, ...] = ("auto",)
    pooling: str = "auto"
    max_length: int = 64
    truncation: str = "head"
    precision: str = "auto"
    device: str = "auto"
    batch_size: int = 0
    workers: int = 0
    threads: int = 0
    tokens: bool = False

    def __post_init__(self) -> None:
        for name, high in (
            ("batch_size", 1_000_000),
            ("workers", 1024),
            ("threads", 1024),
            ("max_length", 1_000_000),
        ):
            if not 0 <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {shown(getattr(self, name))}; use 0 to {high}")


@dataclass(frozen=True)
class StudyConfig:
    """How models are compared: folds, their repeats, models per fold, trials per arm.

    `metric` is what a search maximises, none for what the data set's publishers score by; `heads`
    are those to search, none for the usual six; `ensemble` selects among the best heads and the
    baselines what predicts best together ("mixture") or averages the heads alone ("average");
    `nested` searches inside each fold, so that no reported score was searched for; `coverage` is
    how often a conformal prediction set is to hold the true label.
    """

    folds: int = 5
    repeats: int = 2
    n_models: int = 2
    n_trials: int = 20
    metric: str = ""
    heads: tuple[str, ...] = ()
    ensemble: Ensembling = "mixture"
    nested: bool = False
    coverage: float = 0.9
    seed: int = 0
    storage: str = ""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("folds", 2, 100),
            ("repeats", 1, 100),
            ("n_models", 1, 100),
            ("coverage", 0.5, 0.999),
            ("n_trials", 1, 1_000_000),
            ("seed", 0, 2**31),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {shown(getattr(self, name))}; use {low} to {high}")
        if self.metric not in ("", *METRIC_NAMES):
            known = ", ".join(METRIC_NAMES)
            raise ConfigError(f"no metric {shown(self.metric)}; choose one of {known}")
        if self.ensemble not in ENSEMBLES:
            raise ConfigError(
                f"no ensemble {shown(self.ensemble)}; choose one of {', '.join(ENSEMBLES)}"
            )


@dataclass(frozen=True)
class Config:
    """Everything a command needs to know; `run` is the run folder's name, empty for the data's."""

    data: DataConfig = DataConfig()
    features: FeaturesConfig = FeaturesConfig()
    study: StudyConfig = StudyConfig()
    recipe: Recipe = field(default_factory=Recipe)
    cache: str = "cache"
    run: str = ""

    @property
    def run_folder(self) -> Path:
        """Where results lie: `<cache>/runs/<run>`."""
        name = self.run or _run_name(Path(self.data.root))
        if "/" in name or "\\" in name or name in {"", ".", ".."} or name.startswith("."):
            raise ConfigError(f"{shown(name)} cannot name a run; give a plain name with --run")
        return Path(self.cache) / "runs" / name


def _run_name(root: Path) -> str:
    """A folder's own name; of a table the folder's and its own, since many are called items.csv."""
    if not root.suffix or _is_folder(root):
        return root.resolve().name
    folder = root.resolve().parent.name.lstrip(".")
    return f"{folder}-{root.stem}" if folder else root.stem


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long
        return False


def load_config(path: Path | None, flags: Mapping[str, Any]) -> Config:
    """Make the configuration.

    Args:
        path: A TOML file of differences, or None.
        flags: Dotted key (`study.n_trials`) to value, from the command line.

    Raises:
        ConfigError: The file is not TOML, a key is unknown, a value is of the wrong type.
    """
    config = Config()
    if path is not None:
        config = _merged(config, _read_toml(path), f"{path}: ")
    for dotted, value in flags.items():
        nested: Any = value
        for part in reversed(dotted.split(".")):
            nested = {part: nested}
        config = _merged(config, nested, "")
    return config


def config_toml(config: Config) -> str:
    """The whole configuration as TOML; reading it back gives the same configuration."""
    import tomli_w

    return tomli_w.dumps(asdict(config))


def parse_setting(text: str) -> tuple[str, Any]:
    """`recipe.lr=0.01` to ("recipe.lr", 0.01); the value is read as TOML, or else as a word."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text!r} has no value; write it as recipe.lr=0.01")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):  # no TOML, or more digits or brackets than it takes
        return key.strip(), value.strip()


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML ({error})") from error


def _merged(config: Any, changes: Mapping[str, Any], where: str) -> Any:
    names = {part.name: getattr(config, part.name) for part in fields(config)}
    new: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1) or [", ".join(names)]
            place = f"{where[:-1]}: " if where.endswith(".") else where
            raise ConfigError(f"{place}unknown key {shown(key)}; did you mean {near[0]}?")
        old = names[key]
        if is_dataclass(old):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}{key} is a section, found {shown(value)}")
            new[key] = _merged(old, value, f"{where}{key}.")
        else:
            new[key] = _converted(old, value, f"{where}{key}")
    return replace(config, **new)


def _converted(old: Any, value: Any, where: str) -> Any:
    """The value as the type that the default has."""
    if "\0" in _text(value):
        raise ConfigError(f"{where} is {shown(value)}; it holds a null character")
    if isinstance(old, tuple):
        items = value.split() if isinstance(value, str) else value
        if isinstance(items, (list, tuple)) and all(isinstance(item, str) for item in items):
            return tuple(items)
        raise ConfigError(f"{where} is {shown(value)}; expected a list of words")
    if isinstance(old, Mapping):
        if isinstance(value, Mapping) and all(isinstance(v, str) for v in value.values()):
            return dict(value)
        raise ConfigError(f"{where} is {shown(value)}; expected a table of words")
    if isinstance(old, float) and type(value) is int and abs(value) < 2**63:
        return float(value)
    if type(value) is not type(old):
        raise ConfigError(f"{where} is {shown(value)}; expected {_WORDS[type(old)]}")
    if isinstance(value, float) and value != value:
        raise ConfigError(f"{where} is not a number")
    return value


def _text(value: Any) -> str:
    """All words in a value, joined."""
    if isinstance(value, str):
        return value
    inner = value.items() if isinstance(value, Mapping) else value
    return "".join(map(_text, inner)) if isinstance(value, (list, tuple, Mapping)) else ""


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
