"""Readers: each turns one published layout into raw rows; READERS is the table of them.

A reader is `(root, columns) -> raw rows`, with a test that knows its layout by the files that are
there. It reads label files and tables only; texts and images are opened later, by `load_dataset`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pairfuse.data.readers import folders, mvsa, parquet, published, tables, vqa
from pairfuse.data.readers.rows import NO_LABEL, RawRow
from pairfuse.errors import ConfigError, DataError

__all__ = ["DEFAULT_METRIC", "NO_LABEL", "READERS", "RawRow", "Reader", "find_reader", "read_rows"]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One layout: how it is read, how it is recognised, and what the manual says of it.

    Attributes:
        read: From the data set's folder and the columns that the user named to raw rows.
        fits: Whether a folder is of this layout.
        about: Which data sets are written so.
        files: What lies in the folder.
        label: Which column or file gives the label, and which the text.
        columns: What --columns may name.
        metric: What the publishers score by; a search maximises it unless told otherwise.
        read_from: For a layout that holds paths of images: the same, from another base folder.
    """

    read: Callable[[Path, Mapping[str, str]], Iterable[RawRow]]
    fits: Callable[[Path], bool]
    about: str
    files: str
    label: str
    columns: tuple[str, ...] = ()
    metric: str = "macro_f1"
    read_from: Callable[[Path, Mapping[str, str], Path], Iterable[RawRow]] | None = None


_COLUMNS = ("id", "text", "image", "label")

#: In the order in which they are tried: the layouts that are easiest to tell apart come first.
READERS: Mapping[str, Reader] = {
    "guid-tag": Reader(
        read=folders.read_guid_tag,
        fits=folders.is_guid_tag,
        about="one file of labels, texts and images named by guid; the demo set",
        files="`train.txt`, `test_without_label.txt` (`guid,tag`), `data/<guid>.txt`, `.jpg`",
        label="the tag",
    ),
    "mvsa": Reader(
        read=mvsa.read_mvsa,
        fits=mvsa.is_mvsa,
        about="MVSA-Single and MVSA-Multiple: sentiment of tweets",
        files="`labelResultAll.txt`, `data/<ID>.txt`, `.jpg`",
        label="made from the labels of text and image; no split lies in the folder",
        metric="accuracy",
    ),
    "hateful-memes": Reader(
        read=published.read_hateful_memes,
        fits=published.has_hateful_memes,
        about="Hateful Memes",
        files="`train.jsonl`, `dev_seen.jsonl`, `test_seen.jsonl` (and `*_unseen`, or `dev.jsonl`, "
        "`test.jsonl`), `img/`",
        label="`label` 0 or 1, `text`; a meme that two files hold is read once",
        columns=_COLUMNS,
        metric="auroc",
    ),
    "snli-ve": Reader(
        read=published.read_snli_ve,
        fits=published.has_snli_ve,
        about="SNLI-VE: does the picture entail the sentence?",
        files="`snli_ve_train.jsonl`, `_dev`, `_test`, `flickr30k_images/` "
        "(or `flickr30k-images/`, `images/`)",
        label="`gold_label`, `sentence2` (the hypothesis); rows labelled `-` are left out",
        columns=_COLUMNS,
        metric="accuracy",
    ),
    "vqa": Reader(
        read=vqa.read_vqa,
        fits=vqa.has_vqa,
        about="VQA v2: questions about pictures, answered by ten annotators",
        files="`v2_OpenEnded_mscoco_train2014_questions.json`, "
        "`v2_mscoco_train2014_annotations.json`, the same of `val2014`, questions of `test2015`, "
        "`train2014/COCO_train2014_000000000009.jpg` (or below `images/`)",
        label="`multiple_choice_answer`, one of the 1,000 most frequent of the training questions; "
        "other questions are left out",
        columns=("answers",),
        metric="vqa_accuracy",
    ),
    "fakeddit": Reader(
        read=published.read_fakeddit,
        fits=published.has_fakeddit,
        about="Fakeddit: fake news on Reddit",
        files="`multimodal_train.tsv`, `_validate`, `_test_public` (here or in "
        "`multimodal_only_samples/`), `public_image_set/<id>.jpg` (or `images/`)",
        label="`2_way_label`, `clean_title`",
        columns=_COLUMNS,
        metric="accuracy",
    ),
    "crisis-mmd": Reader(
        read=published.read_crisis_mmd,
        fits=lambda root: bool(published.crisis_tasks(root)),
        about="CrisisMMD: tweets about natural disasters",
        files="`task_<task>_text_img_<split>.tsv` (here or in `crisismmd_datasplit_*/`), "
        "`data_image/`",
        label="`label`, `tweet_text`; quotation marks do not enclose cells",
        columns=(*_COLUMNS, "task"),
        metric="accuracy",
    ),
    "parquet": Reader(
        read=parquet.read_parquet,
        read_from=parquet.read_parquet,
        fits=parquet.is_parquet,
        about="a set of the Hugging Face `datasets` library",
        files="what `save_to_disk` wrote, or `train-*.parquet`, `test-*.parquet` (here, in "
        "`data/`, or in a folder for each split)",
        label="`label` or the first `ClassLabel`, by its names; `text`",
        columns=parquet.PARTS,
    ),
    "news": Reader(
        read=tables.read_news,
        read_from=tables.read_news,
        fits=tables.is_news,
        about="a table of news articles",
        files="one table, or `train.csv`, `dev.csv`, `test.csv`, with `title`, `body`, `category`, "
        "perhaps `image`, `id`, `split`",
        label="`category`; title and body",
        columns=tables.PARTS,
        metric="accuracy",
    ),
    "table": Reader(
        read=tables.read_table,
        read_from=tables.read_table,
        fits=tables.is_table,
        about="a CSV, TSV or JSONL table under any column names",
        files="one table, or `train.csv`, `dev.csv`, `test.csv`",
        label="the columns `label` and `text`, or those that --columns names",
        columns=tables.PARTS,
    ),
    "class-folders": Reader(
        read=folders.read_class_folders,
        fits=folders.has_class_folders,
        about="one folder for each class",
        files="`<class>/<name>.txt`, `.jpg`, perhaps below `train/`, `val/`, `test/`; files in "
        "`test/` itself have no label",
        label="the folder's name; the guid is the path with dots",
    ),
}
#: The measure that a layout's publishers score by, which a search maximises unless told otherwise.
DEFAULT_METRIC: Mapping[str, str] = {name: reader.metric for name, reader in READERS.items()}


def find_reader(root: Path, name: str = "auto") -> str:
    """The name of the reader: the one that is named, or for "auto" the first one that fits.

    Raises:
        DataError: There is no such folder.
        ConfigError: Unknown reader.
    """
    if not _exists(root):
        raise DataError(f"no data set at {root}; name one with DATA=<folder>, or run `make demo`")
    if name not in {"auto", *READERS}:
        raise ConfigError(f"no reader {name!r}; choose one of auto, {', '.join(READERS)}")
    if name != "auto":
        return name
    return next((name for name, reader in READERS.items() if reader.fits(root)), "table")


def read_rows(
    root: Path, reader: str, columns: Mapping[str, str], image_root: Path | None = None
) -> Iterable[RawRow]:
    """Read the raw rows of a data set, by the named reader or the one that fits the folder.

    Args:
        root: Folder of the data set, or a table file.
        reader: A name in READERS, or "auto".
        columns: Part to column name.
        image_root: Base folder of the paths of images; None takes the reader's own.

    Raises:
        DataError: There is no such folder, or nothing in it that a reader knows.
        ConfigError: Unknown reader or column, or a base folder where no paths are read.
    """
    name = find_reader(root, reader)
    allowed = READERS[name].columns
    if columns and not allowed:
        raise ConfigError(
            f"{root} is not a table: leave out --columns, or name a table file "
            f"(it is read as {name})"
        )
    unknown = sorted(columns.keys() - set(allowed))
    if unknown:
        raise ConfigError(f"no column part {unknown[0]!r}; parts are {', '.join(allowed)}")
    if image_root is None:
        return READERS[name].read(root, columns)
    read_from = READERS[name].read_from
    if read_from is None:
        able = ", ".join(each for each, spec in READERS.items() if spec.read_from)
        raise ConfigError(
            f"--image-root is for tables with paths of images ({able}); {root} is read as {name}"
        )
    if not _exists(image_root):
        raise DataError(f"no folder {image_root}; --image-root names where paths of images begin")
    return read_from(root, columns, image_root)


def _exists(root: Path) -> bool:
    try:
        return root.exists()
    except OSError:  # a name that is too long
        return False
