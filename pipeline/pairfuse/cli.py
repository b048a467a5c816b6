"""Command line: flags become a configuration, a command becomes one call of a stage.

Nothing heavy is imported before a command is known, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairfuse import __version__
from pairfuse.commands.cache import add_actions, run_cache
from pairfuse.console import log, note, say, start_logging
from pairfuse.errors import PairfuseError

if TYPE_CHECKING:
    from pairfuse.commands.workspace import Workspace

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
        ("--labels", "data.labels", {"metavar": "LABEL", "nargs": "+", "help": "the vocabulary"}),
        (
            "--strict",
            "data.strict",
            {"action": "store_true", "help": "a missing or unreadable modality is an error"},
        ),
    ),
    "features": (
        (
            "--encoders",
            "features.encoders",
            {"metavar": "NAMES", "help": '"minilm ngram efficientnet-lite0", text=<folder>, ...'},
        ),
        (
            "--pooling",
            "features.pooling",
            {"metavar": "HOW", "help": "auto, cls, mean or pooler; with --tokens also max"},
        ),
        (
            "--tokens",
            "features.tokens",
            {"action": "store_true", "help": "keep word pieces and patches, too"},
        ),
        ("--max-length", "features.max_length", {"metavar": "N", "type": int, "help": "tokens"}),
        (
            "--truncation",
            "features.truncation",
            {"metavar": "HOW", "help": "what is kept of longer texts: head, or head-tail"},
        ),
        ("--precision", "features.precision", {"help": "auto, fp32, bf16 or fp16"}),
        ("--batch-size", "features.batch_size", {"metavar": "N", "type": int, "help": "0: auto"}),
        ("--workers", "features.workers", {"metavar": "N", "type": int, "help": "0: one a core"}),
        ("--device", "features.device", {"metavar": "NAMES", "help": "auto, cpu, cuda:0,cuda:1"}),
    ),
    "study": (
        ("--folds", "study.folds", {"metavar": "K", "type": int, "help": "folds"}),
        ("--repeats", "study.repeats", {"metavar": "R", "type": int, "help": "deals of the folds"}),
        ("--n-models", "study.n_models", {"metavar": "M", "type": int, "help": "models a fold"}),
        (
            "--trials",
            "study.n_trials",
            {"metavar": "N", "type": int, "help": "trials an arm, those of earlier runs included"},
        ),
        (
            "--metric",
            "study.metric",
            {"metavar": "NAME", "help": "searched for: macro_f1, accuracy, auroc, vqa_accuracy"},
        ),
        (
            "--nested",
            "study.nested",
            {"action": "store_true", "help": "ablate: search inside each fold, scores unsearched"},
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

#: Flags of `matrix` that name encoders of one kind; together they are --encoders.
MATRIX_KINDS = ("text", "image", "joint")

#: A full or closed disk is no bug: it gets one line, no traceback.
UNWRITABLE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    }
)

#: Command, what it does in one line, and the groups of flags that it takes.
COMMANDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "run": ("features, tune, train, ablate, predict, report", ("features", "study")),
    "check-data": ("say what the data set holds and what is wrong with it", ()),
    "features": ("extract what the feature store lacks", ("features",)),
    "tune": ("search for the best recipe with Optuna; resumes", ("features", "study")),
    "train": ("fit the best recipe on all folds, keep the ensemble", ("features", "study")),
    "ablate": ("does the image help? all arms, tests, verdict", ("features", "study")),
    "predict": ("write labels for the test pairs", ("features",)),
    "report": ("write the run's evidence as one HTML page", ("features", "study")),
    "matrix": ("every text, image and head side by side", ("features", "study")),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 after an error line, 2 after wrong usage."""
    parsed = _parser().parse_args(arguments)
    start_logging(verbose=parsed.verbose)
    _prepare_process()
    try:
        _run(parsed)
    except PairfuseError as error:
        note(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        note("stopped; what was finished is kept, the same command goes on from there")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno is None:  # no answer of the system: a bug
            raise
        log.info("the system's error", exc_info=True)
        note(f"error: {_system_words(error)}")
        return 1
    return 0


def _system_words(error: OSError) -> str:
    """What the system refused, by its own name, and what to do; nothing is taken for damaged."""
    place = error.filename or "a file"
    reason = f"{error.strerror}, {errno.errorcode.get(error.errno or 0, error.errno)}"
    if error.errno in UNWRITABLE:
        return (
            f"cannot write {error.filename or 'to the disk'} ({reason}); make room or name another "
            "place with --cache, then run again to resume"
        )
    return (
        f"the system failed at {place} ({reason}); nothing was removed: run the command again, and "
        "look at the disk if it stays"
    )


def _run(parsed: argparse.Namespace) -> None:
    if parsed.command == "demo":
        from pairfuse.commands.features import demo_stage

        demo_stage(Path(parsed.folder), world=parsed.world, noise=parsed.noise, seed=parsed.seed)
        return
    if parsed.command == "compare":
        from pairfuse.commands.matrix import compare_stage

        compare_stage(parsed.first, parsed.second, truth=parsed.truth, cache=parsed.cache)
        return
    if parsed.command == "encoders":
        _list_encoders(as_json=parsed.json)
        return
    if parsed.command == "cache":
        run_cache(parsed)
        return
    from pairfuse.commands.workspace import Workspace
    from pairfuse.config import load_config

    workspace = Workspace(load_config(parsed.config, _given(parsed)))
    _ = workspace.folder  # a wrong name of a run is an error before any work
    from pairfuse.commands import features as gathering

    early = {"check-data": gathering.check_data_stage, "features": gathering.features_stage}
    if parsed.command in early:
        early[parsed.command](workspace)
        return
    from pairfuse.commands import tune as stages
    from pairfuse.commands.matrix import matrix_stage

    command: Mapping[str, Callable[[Workspace], object]] = {
        "run": stages.run_stage,
        "tune": stages.tune_stage,
        "train": stages.train_stage,
        "ablate": stages.ablate_stage,
        "predict": lambda workspace: stages.predict_stage(
            workspace, parsed.out, cascade=parsed.cascade
        ),
        "report": stages.report_stage,
        "matrix": lambda workspace: matrix_stage(
            workspace, cost_only=(parsed.cost_only or "").split()
        ),
    }
    command[parsed.command](workspace)


def _given(parsed: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, by configuration key."""
    from pairfuse.config import parse_setting

    keys = {key for group in FLAGS.values() for _, key, _ in group}
    flags = {key: value for key, value in vars(parsed).items() if key in keys and value is not None}
    if "data.columns" in flags:
        flags["data.columns"] = dict(_column(text) for text in flags["data.columns"])
    if parsed.command == "matrix" and any(getattr(parsed, kind) for kind in MATRIX_KINDS):
        flags["features.encoders"] = _matrix_encoders(parsed)
    return {**flags, **dict(parse_setting(text) for text in parsed.set)}


def _matrix_encoders(parsed: argparse.Namespace) -> list[str]:
    """The encoders of all kinds; a folder or hub id is marked with its kind."""
    from pairfuse.encoders import ENCODERS

    return [
        name if name in ENCODERS or "=" in name else f"{kind}={name}"
        for kind in MATRIX_KINDS
        for name in (getattr(parsed, kind) or "").split()
    ]


def _column(text: str) -> tuple[str, str]:
    from pairfuse.errors import ConfigError

    part, equals, name = text.partition("=")
    if not equals:
        raise ConfigError(f"--columns {text!r} names no column; write it as text=body")
    return part, name


def _list_encoders(*, as_json: bool) -> None:
    from pairfuse.encoders.listing import list_encoders, table_lines

    listed = list_encoders()
    if as_json:
        say(json.dumps([each.as_dict() for each in listed], indent=2))
        return
    for line in table_lines(listed):
        say(line)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pairfuse",
        description="Classify pairs of one text and one image: extract features once, train many "
        "times.",
    )
    parser.add_argument("--version", action="version", version=f"pairfuse {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (about, groups) in COMMANDS.items():
        command = _command(commands, name, about)
        for group in ("data", *groups, "run"):
            _add_flags(command, group)
        command.add_argument("--config", type=Path, metavar="FILE", help="TOML of differences")
        command.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="any other key"
        )
        if name == "matrix":
            for kind in MATRIX_KINDS:
                command.add_argument(f"--{kind}", metavar="NAMES", help=f"{kind} encoders")
            command.add_argument(
                "--cost-only", metavar="NAMES", help="encoders to measure and not to train on"
            )
        if name == "predict":
            command.add_argument("--out", type=Path, metavar="FILE", help="where labels go")
            command.add_argument(
                "--cascade", action="store_true", help="encode images of unsure texts only"
            )
    demo = _command(commands, "demo", "draw a data set of known truth")
    demo.add_argument("folder", nargs="?", default="data/demo")
    demo.add_argument("--world", default="mixed", help="mixed, text, image, added or interaction")
    demo.add_argument(
        "--noise", type=float, default=0.0, metavar="SHARE", help="labels drawn again at random"
    )
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same files")
    compare = _command(commands, "compare", "test two runs, or two files of predictions, in pairs")
    for name in ("first", "second"):
        compare.add_argument(name, metavar="RUN", help="run, run/arm or a CSV of guid, tag, ...")
    compare.add_argument("--truth", type=Path, metavar="FILE", help="guid,tag, if the CSV has none")
    compare.add_argument("--cache", default="cache", metavar="FOLDER", help="where the runs are")
    encoders = _command(commands, "encoders", "list the encoders that have a name")
    encoders.add_argument("--json", action="store_true", help="as JSON")
    add_actions(_command(commands, "cache", "show, prove, hand over or remove stored features"))
    return parser


def _command(commands: Any, name: str, about: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about, allow_abbrev=False
    )
    command.add_argument("--verbose", action="store_true", help="say more about the work")
    return command


def _add_flags(command: argparse.ArgumentParser, group: str) -> None:
    section = command.add_argument_group(group)
    for flag, key, options in FLAGS[group]:
        section.add_argument(flag, dest=key, default=None, **options)


def _prepare_process() -> None:
    """Settings of this process alone: quiet libraries, pictures over the bound are errors."""
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message="Corrupt EXIF data")
    warnings.filterwarnings("ignore", message=".*Image size .* exceeds limit.*")
