"""Published sets made of tables: Hateful Memes, SNLI-VE, Fakeddit, CrisisMMD.

Each is one `TableLayout`: which columns play which part, where its pictures lie, which labels there
are. Columns can be chosen otherwise with --columns; the files are read line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pairfuse.data.pairs import Split
from pairfuse.data.readers.rows import SPLITS, RawRow, first_folder, label_error
from pairfuse.data.readers.tables import Names, listed, open_table, parted, table_row
from pairfuse.errors import ConfigError, DataError

Files = Sequence[tuple[Path, Split]]


@dataclass(frozen=True)
class TableLayout:
    """How a published table is written.

    `columns` gives for each part the names it may have. The image cell is a path from the root, or
    with `pictures` (names that their folder may have) the name of a picture, `ending` left away.
    `labels` gives the vocabulary of a label column, `left_out` the reason why a label is none.
    """

    columns: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    ending: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    quoted: bool = True


MEMES = TableLayout(
    {"id": ("id",), "text": ("text",), "image": ("img",), "label": ("label",)},
    labels={"label": ("0", "1")},
)
MEMES_FILES: Mapping[str, Split] = {
    "train.jsonl": "train",
    "dev.jsonl": "val",
    "dev_seen.jsonl": "val",
    "dev_unseen.jsonl": "val",
    "test.jsonl": "test",
    "test_seen.jsonl": "test",
    "test_unseen.jsonl": "test",
}
SNLI_VE = TableLayout(
    {
        "id": ("pairID",),
        "text": ("sentence2",),
        "image": ("Flickr30K_ID", "Flickr30kID", "Flikr30kID"),
        "label": ("gold_label",),
    },
    labels={"gold_label": ("entailment", "neutral", "contradiction")},
    pictures=("flickr30k_images", "flickr30k-images", "images"),
    ending=".jpg",
    left_out={"-": "no gold label: the annotators did not agree"},
)
SNLI_VE_FILES: Mapping[str, Split] = {
    "snli_ve_train.jsonl": "train",
    "snli_ve_dev.jsonl": "val",
    "snli_ve_test.jsonl": "test",
}
FAKEDDIT = TableLayout(
    {"id": ("id",), "text": ("clean_title",), "image": ("id",), "label": ("2_way_label",)},
    labels={
        f"{count}_way_label": tuple(str(label) for label in range(count)) for count in (2, 3, 6)
    },
    pictures=("public_image_set", "images"),
    ending=".jpg",
)
FAKEDDIT_FILES: Mapping[str, Split] = {
    "multimodal_train.tsv": "train",
    "multimodal_validate.tsv": "val",
    "multimodal_test_public.tsv": "test",
}
#: Tweets hold quotation marks that enclose nothing.
CRISIS_MMD = TableLayout(
    {"id": ("image_id",), "text": ("tweet_text",), "image": ("image",), "label": ("label",)},
    quoted=False,
)
_CRISIS_FILE = re.compile(r"task_(\w+?)_text_img_(?:(agreed)_lab_)?(train|dev|test)\.tsv")


def read_hateful_memes(root: Path, columns: Mapping[str, str]) -> list[RawRow]:
    """`train.jsonl`, `dev_seen.jsonl`, `test_seen.jsonl`, ... and `img/`; test may lack labels.

    Many memes of `dev_unseen.jsonl` are in `dev_seen.jsonl` too; the first mention is taken.
    """
    files = named_files([root], MEMES_FILES)
    if "image" not in columns and not (root / "img").is_dir():
        raise DataError(f"no folder {root / 'img'}; it should hold the pictures of the memes")
    return _first_mentions(layout_rows(MEMES, root, files, columns))


def has_hateful_memes(root: Path) -> bool:
    """Whether the training file is there, and the pictures' folder or a row that names it."""
    path = root / "train.jsonl"
    if not path.is_file() or (root / "img").is_dir():
        return path.is_file()
    try:
        _, records = open_table(path)
        first = next(records, ("", {}))[1]
    except DataError:
        return False
    return {"id", "text"} <= first.keys() and first.get("img", "").startswith("img/")


def read_snli_ve(root: Path, columns: Mapping[str, str]) -> list[RawRow]:
    """`snli_ve_train.jsonl`, `_dev`, `_test` and the Flickr30k pictures; the text is sentence2.

    Rows with the gold label `-` are left out.
    """
    return list(layout_rows(SNLI_VE, root, named_files([root], SNLI_VE_FILES), columns))


def has_snli_ve(root: Path) -> bool:
    """Whether the training file is there."""
    return (root / "snli_ve_train.jsonl").is_file()


def read_fakeddit(root: Path, columns: Mapping[str, str]) -> list[RawRow]:
    """`multimodal_train.tsv`, `_validate`, `_test_public` and pictures `<id>.jpg`.

    The label is `2_way_label`; another by `--columns label=6_way_label`.
    """
    folders = [root, root / "multimodal_only_samples"]
    return list(layout_rows(FAKEDDIT, root, named_files(folders, FAKEDDIT_FILES), columns))


def has_fakeddit(root: Path) -> bool:
    """Whether the training file is there, or in the folder that it is published in."""
    name = "multimodal_train.tsv"
    return (root / name).is_file() or (root / "multimodal_only_samples" / name).is_file()


def read_crisis_mmd(root: Path, columns: Mapping[str, str]) -> list[RawRow]:
    """`task_<task>_text_img_<split>.tsv` of one task; pictures by their path from the root.

    Where several tasks are there, `--columns task=humanitarian` names one (`humanitarian_agreed`
    for the files of agreed labels); `label=label_image` takes another column of labels.
    """
    tasks = crisis_tasks(root)
    task = columns.get("task", next(iter(tasks)) if len(tasks) == 1 else "")
    if not tasks:
        raise DataError(f"{root} holds no task_<task>_text_img_train.tsv of CrisisMMD")
    if task not in tasks:
        raise ConfigError(
            f"{root} holds the tasks {', '.join(tasks)}; choose one: --columns task={min(tasks)}"
        )
    others = {part: name for part, name in columns.items() if part != "task"}
    return list(layout_rows(CRISIS_MMD, root, tasks[task], others))


def crisis_tasks(root: Path) -> dict[str, list[tuple[Path, Split]]]:
    """The files of each CrisisMMD task, below the root or in the folders they are published in."""
    folders = [root, *sorted(root.glob("crisismmd_datasplit*"))]
    tasks: dict[str, list[tuple[Path, Split]]] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("task_*.tsv"))):
        if found := _CRISIS_FILE.fullmatch(path.name):
            task, agreed, split = found.groups()
            name = f"{task}_{agreed}" if agreed else task
            tasks.setdefault(name, []).append((path, SPLITS[split]))
    order = list(dict.fromkeys(SPLITS.values()))
    return {t: sorted(tasks[t], key=lambda file: order.index(file[1])) for t in sorted(tasks)}


def named_files(folders: Iterable[Path], names: Mapping[str, Split]) -> Files:
    """Those of the named files that are there, in order.

    Raises:
        DataError: The first, which is the one for training, is not there.
    """
    tried = list(folders)
    first = next(iter(names))
    folder = next((folder for folder in tried if (folder / first).is_file()), None)
    if folder is None:
        raise DataError(f"{tried[0]} holds no {first}; give the folder where it lies as DATA")
    found = ((folder / name, split) for name, split in names.items())
    return [(path, split) for path, split in found if path.is_file()]


def layout_rows(
    layout: TableLayout, root: Path, files: Files, columns: Mapping[str, str]
) -> Iterator[RawRow]:
    """Rows of published tables, in the order of the files."""
    named = bool(layout.pictures) and "image" not in columns
    folder = first_folder(root, layout.pictures, "pictures") if named else root
    for path, split in files:
        header, records = open_table(path, quoted=layout.quoted)
        names = _layout_names(layout, path, header, columns, split)
        known = layout.labels.get(names["label"][0], ()) if "label" in names else ()
        for where, record in records:
            row = table_row(folder, where, record, names, split)
            yield _judged(layout, _pictured(row, layout.ending) if named else row, known)


def _layout_names(
    layout: TableLayout,
    path: Path,
    header: Sequence[str],
    named_columns: Mapping[str, str],
    split: Split,
) -> Names:
    names: dict[str, tuple[str, ...]] = {}
    for part, usual in layout.columns.items():
        wanted = parted(named_columns[part], header) if part in named_columns else usual[:1]
        if part not in named_columns:
            wanted = tuple(name for name in usual if name in header)[:1] or usual[:1]
        absent = [name for name in wanted if name not in header]
        if absent and part == "label" and split == "test" and part not in named_columns:
            continue
        if absent:
            kind = ConfigError if part in named_columns else DataError
            raise kind(f"{path} has no column {absent[0]!r}; it has {listed(header)}")
        names[part] = wanted
    return names


def _pictured(row: RawRow, ending: str) -> RawRow:
    """The row with the ending that its picture's name lacks."""
    if row.image is None or row.image.name.lower().endswith(ending):
        return row
    return replace(row, image=row.image.with_name(row.image.name + ending))


def _judged(layout: TableLayout, row: RawRow, known: Sequence[str]) -> RawRow:
    if row.label is None:
        return row
    if row.label in layout.left_out:
        return replace(row, left_out=layout.left_out[row.label])
    wrong = label_error(row.label, known) if known else ""
    return replace(row, errors=(*row.errors, wrong)) if wrong else row


def _first_mentions(rows: Iterable[RawRow]) -> list[RawRow]:
    """Rows whose guid was in an earlier file are left out; twice in one file is an error later."""
    seen: dict[str, str] = {}
    out = []
    for row in rows:
        file = row.where.partition(" ")[0]
        first = seen.setdefault(row.guid, file)
        out.append(row if first == file else replace(row, left_out=f"in {first} already"))
    return out
