"""Flags that several commands share, and how a parsed command becomes a configuration.

Each configuration flag sets one key of the configuration; what is not given is not set, so that the
file named by `--config` and the defaults stay as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pairfuse.config import load_config, parse_setting
from pairfuse.errors import ConfigError
from pairfuse.threads import set_threads

if TYPE_CHECKING:
    from pairfuse.commands.workspace import Workspace

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
#: Begins the name under which argparse keeps a configuration flag, before its key.
KEY = "key:"

#: Flag, the configuration key it sets, and the rest that argparse wants; in the order of --help.
FLAGS: Mapping[str, tuple[tuple[str, str, dict[str, Any]], ...]] = {
    "data": (
        ("--data", "data.root", {"metavar": "FOLDER", "help": "data set: a folder or a table"}),
        (
            "--reader",
            "data.reader",
            {
                "metavar": "NAME",
                "help": "auto, or a layout: guid-tag, mvsa, hateful-memes, snli-ve, vqa, fakeddit, "
                "crisis-mmd, parquet, news, table, class-folders",
            },
        ),
        (
            "--columns",
            "data.columns",
            {
                "metavar": "PART=NAME",
                "nargs": "+",
                "help": "columns that the reader takes: id=... text=title+body label=...",
            },
        ),
        ("--encoding", "data.encoding", {"metavar": "NAME", "help": "one encoding for all texts"}),
        (
            "--labels",
            "data.labels",
            {"metavar": "LABEL", "nargs": "+", "help": "the label vocabulary, in order"},
        ),
        (
            "--strict",
            "data.strict",
            {"action": "store_true", "help": "a missing or unreadable modality is an error"},
        ),
        (
            "--missing-label",
            "data.missing_labels",
            {"metavar": "WORD", "nargs": "+", "help": "words that stand for no label"},
        ),
        (
            "--follow-links",
            "data.follow_links",
            {"action": "store_true", "help": "read links that lead out of the data set's folder"},
        ),
        (
            "--image-root",
            "data.image_root",
            {"metavar": "FOLDER", "help": "where the paths of images in a table begin"},
        ),
        (
            "--split-file",
            "data.split_file",
            {"metavar": "FILE", "help": "a published split: a table with guid or line, and split"},
        ),
        (
            "--rare",
            "data.rare",
            {
                "metavar": "HOW",
                "help": "labels with too few pairs for the folds: refuse, drop, merge or keep",
            },
        ),
    ),
    "features": (
        (
            "--encoders",
            "features.encoders",
            {"metavar": "NAMES", "help": 'auto, "minilm ngram lexicon", text=<folder>, ...'},
        ),
        (
            "--pooling",
            "features.pooling",
            {
                "metavar": "HOW",
                "help": "auto, cls, mean, pooler, last2, last4, mean-of-layers; max with --tokens",
            },
        ),
        (
            "--tokens",
            "features.tokens",
            {"action": "store_true", "help": "also keep the features of each word piece and patch"},
        ),
        (
            "--max-length",
            "features.max_length",
            {"metavar": "N", "type": int, "help": "longest text, in tokens"},
        ),
        (
            "--truncation",
            "features.truncation",
            {"metavar": "HOW", "help": "what is kept of longer texts: head, or head-tail"},
        ),
        (
            "--precision",
            "features.precision",
            {"metavar": "NAME", "help": "auto, fp32, bf16 or fp16"},
        ),
        (
            "--batch-size",
            "features.batch_size",
            {"metavar": "N", "type": int, "help": "inputs encoded at a time (0: automatic)"},
        ),
        (
            "--workers",
            "features.workers",
            {"metavar": "N", "type": int, "help": "threads that read inputs (0: one per core)"},
        ),
        (
            "--threads",
            "features.threads",
            {"metavar": "N", "type": int, "help": "threads that compute (0: automatic)"},
        ),
        ("--device", "features.device", {"metavar": "NAMES", "help": "auto, cpu, cuda:0,cuda:1"}),
    ),
    "study": (
        ("--folds", "study.folds", {"metavar": "K", "type": int, "help": "folds of one repeat"}),
        (
            "--repeats",
            "study.repeats",
            {"metavar": "R", "type": int, "help": "how often the pairs are split into folds anew"},
        ),
        (
            "--n-models",
            "study.n_models",
            {"metavar": "M", "type": int, "help": "models trained on each fold"},
        ),
        (
            "--trials",
            "study.n_trials",
            {"metavar": "N", "type": int, "help": "trials per arm, those of earlier runs included"},
        ),
        (
            "--metric",
            "study.metric",
            {
                "metavar": "NAME",
                "help": "what the search maximises: macro_f1, accuracy, auroc, vqa_accuracy",
            },
        ),
        (
            "--nested",
            "study.nested",
            {"action": "store_true", "help": "ablate: search inside each fold (no optimism)"},
        ),
        (
            "--coverage",
            "study.coverage",
            {"metavar": "SHARE", "type": float, "help": "how often a prediction set is right"},
        ),
        ("--seed", "study.seed", {"metavar": "N", "type": int, "help": "same seed, same scores"}),
        ("--heads", "study.heads", {"metavar": "NAMES", "help": "heads to search"}),
        ("--storage", "study.storage", {"metavar": "URL", "help": "an Optuna storage"}),
    ),
    "run": (
        ("--cache", "cache", {"metavar": "FOLDER", "help": "where derived files are kept"}),
        ("--run", "run", {"metavar": "NAME", "help": "run folder below <cache>/runs"}),
    ),
}


def add_command(
    commands: Subparsers, name: str, about: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    """A command without a configuration; `about` is its line in `pairfuse --help`."""
    command = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
    command.add_argument("--verbose", action="store_true", help="log details of the work")
    command.set_defaults(run=run)
    return command


def add_configured(
    commands: Subparsers,
    name: str,
    about: str,
    run: Callable[[argparse.Namespace], None],
    groups: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """A command that works in a workspace: the flags of `data` and `run`, and of these groups."""
    command = add_command(commands, name, about, run)
    for group in ("data", *groups, "run"):
        section = command.add_argument_group(group)
        for flag, key, options in FLAGS[group]:
            section.add_argument(flag, dest=KEY + key, default=None, **options)
    command.add_argument("--config", type=Path, metavar="FILE", help="TOML of differences")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any other key"
    )
    return command


def workspace_of(parsed: argparse.Namespace, changes: Mapping[str, Any] | None = None) -> Workspace:
    """The workspace that the flags ask for.

    Args:
        parsed: Of a command that `add_configured` made.
        changes: What a command sets by flags of its own, by configuration key.

    Raises:
        ConfigError: The configuration cannot be made, or its run cannot have that name.
    """
    flags = {
        name.removeprefix(KEY): value
        for name, value in vars(parsed).items()
        if name.startswith(KEY) and value is not None
    }
    if "data.columns" in flags:
        flags["data.columns"] = dict(_column(text) for text in flags["data.columns"])
    settings = dict(parse_setting(text) for text in parsed.set)
    config = load_config(parsed.config, {**flags, **(changes or {}), **settings})
    set_threads(config.features.threads)  # before the workspace imports what computes
    from pairfuse.commands.workspace import Workspace

    workspace = Workspace(config)
    _ = workspace.folder  # a wrong name of a run is an error before any work
    return workspace


def _column(text: str) -> tuple[str, str]:
    part, equals, name = text.partition("=")
    if not equals:
        raise ConfigError(f"--columns {text!r} names no column; write it as text=body")
    return part, name
