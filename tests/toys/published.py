"""Tiny data sets in the form in which the large ones are published, one for each reader."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toys.data import picture, saved, write_set


def write_pictures(folder: Path, names: Iterable[str]) -> None:
    """A picture of its own under each name; the ending says the format."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "PNG" if path.suffix == ".png" else "JPEG"
        path.write_bytes(saved(picture(number), kind))


def write_jsonl(path: Path, records: Sequence[Mapping[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def write_cells(path: Path, records: Sequence[Mapping[str, object]]) -> Path:
    """A CSV, or with .tsv a table parted by tabs, with quotes where they are needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, records[0], delimiter="\t" if path.suffix == ".tsv" else ",")
    writer.writeheader()
    writer.writerows(records)
    path.write_bytes(buffer.getvalue().encode())
    return path


def write_lines(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def meme(number: int, label: int | None = None, **more: object) -> dict[str, object]:
    """One line of Hateful Memes; the picture's name is padded, the id is not."""
    record: dict[str, object] = {"id": number, "img": f"img/{number:05}.png"}
    if label is not None:
        record["label"] = label
    return {**record, "text": f"words of meme {number}", **more}


def write_hateful_memes(root: Path) -> Path:
    write_pictures(root, [f"img/{number:05}.png" for number in (1726, 2, 3, 4, 5, 6)])
    write_jsonl(root / "train.jsonl", [meme(1726, 0), meme(2, 1)])
    write_jsonl(root / "dev_seen.jsonl", [meme(3, 1)])
    write_jsonl(root / "dev_unseen.jsonl", [meme(3, 1), meme(4, 0)])
    write_jsonl(root / "test_seen.jsonl", [meme(5)])
    write_jsonl(root / "test_unseen.jsonl", [meme(6, 1)])
    return root


def entailment(pair: str, gold: str, **more: object) -> dict[str, object]:
    """One line of SNLI-VE for a pair id as `111.jpg#0r1n`."""
    return {
        "Flickr30K_ID": pair.partition(".jpg")[0],
        "annotator_labels": [gold, "neutral"],
        "captionID": pair[:-3],
        "gold_label": gold,
        "pairID": pair,
        "sentence1": "A premise that the picture stands for.",
        "sentence1_binary_parse": "( A premise )",
        "sentence2": f"The hypothesis of {pair}.",
        **more,
    }


def write_snli_ve(root: Path) -> Path:
    write_pictures(root / "flickr30k_images", [f"{number}.jpg" for number in (111, 222, 333)])
    rows = [("111.jpg#0r1n", "neutral"), ("111.jpg#0r1e", "entailment"), ("111.jpg#1r1c", "-")]
    write_jsonl(root / "snli_ve_train.jsonl", [entailment(*row) for row in rows])
    write_jsonl(root / "snli_ve_dev.jsonl", [entailment("222.jpg#0r1c", "contradiction")])
    write_jsonl(root / "snli_ve_test.jsonl", [entailment("333.jpg#0r1e", "entailment")])
    return root


#: Question id to picture, most common answer and the ten answers; 42 is rare.
TRAIN_ANSWERS = {
    9000: (9, "yes", ["yes"] * 8 + ["no"] * 2),
    9001: (9, "no", ["no"] * 10),
    25000: (25, "yes", ["yes"] * 10),
    25001: (25, "42", ["42"] * 6 + ["yes"] * 4),
    25002: (25, "no", ["no"] * 5 + ["yes"] * 5),
}
VAL_ANSWERS = {42000: (42, "no", ["no"] * 9 + ["maybe"])}


def write_questions(root: Path, part: str, questions: Mapping[int, int]) -> None:
    """Question id to picture id, as the VQA challenge publishes them."""
    entries = [
        {"image_id": image, "question": f"Is this number {number}?", "question_id": number}
        for number, image in questions.items()
    ]
    head = {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {}}
    path = root / f"v2_OpenEnded_mscoco_{part}_questions.json"
    path.write_text(json.dumps({**head, "data_subtype": part, "questions": entries}))


def write_annotations(
    root: Path, part: str, answers: Mapping[int, tuple[int, str, Sequence[str]]]
) -> None:
    entries = [
        {
            "question_type": "is this",
            "multiple_choice_answer": common,
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": place}
                for place, answer in enumerate(given, 1)
            ],
            "image_id": image,
            "answer_type": "yes/no",
            "question_id": number,
        }
        for number, (image, common, given) in answers.items()
    ]
    path = root / f"v2_mscoco_{part}_annotations.json"
    path.write_text(json.dumps({"info": {}, "data_subtype": part, "annotations": entries}))


def write_vqa(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for part, answers in (("train2014", TRAIN_ANSWERS), ("val2014", VAL_ANSWERS)):
        images = {number: entry[0] for number, entry in answers.items()}
        write_questions(root, part, images)
        write_annotations(root, part, answers)
        write_pictures(root / part, [f"COCO_{part}_{i:012}.jpg" for i in set(images.values())])
    write_questions(root, "test2015", {1000: 1})
    write_pictures(root / "test2015", ["COCO_test2015_000000000001.jpg"])
    return root


def post(guid: str, two: int, six: int, title: str = "a cat in a suit") -> dict[str, object]:
    """One line of Fakeddit, with the columns that matter and some that do not."""
    return {
        "author": "someone",
        "clean_title": title,
        "created_utc": 1.5e9,
        "hasImage": True,
        "id": guid,
        "image_url": "https://example.org/x.jpg",
        "title": title.upper(),
        "2_way_label": two,
        "3_way_label": min(six, 2),
        "6_way_label": six,
    }


def write_fakeddit(root: Path) -> Path:
    tables = {
        "multimodal_train.tsv": [post("awxhir", 1, 0, 'the "good" dog'), post("98pbid", 0, 4)],
        "multimodal_validate.tsv": [post("c4hjfy", 0, 2)],
        "multimodal_test_public.tsv": [post("cozywbv", 1, 0)],
    }
    for name, posts in tables.items():
        write_cells(root / name, posts)
        write_pictures(root / "public_image_set", [f"{entry['id']}.jpg" for entry in posts])
    return root


CRISIS_HEADER = (
    "event_name\ttweet_id\timage_id\ttweet_text\timage\tlabel\tlabel_text\tlabel_image"
    "\tlabel_text_image"
)


def tweet(guid: str, label: str, text: str = "flood in town") -> str:
    """One line of CrisisMMD; quotation marks in it enclose nothing."""
    image = f"data_image/hurricane_irma/9_9_2017/{guid}.jpg"
    cells = ("hurricane_irma", guid[:-2], guid, text, image, label, label, "not_humanitarian")
    return "\t".join([*cells, "Negative"])


def write_crisis_mmd(root: Path) -> Path:
    rows = {
        "train": [
            tweet("905_0", "other_relevant_information", 'a " of 5 inches of rain'),
            tweet("905_1", "not_humanitarian"),
        ],
        "dev": [tweet("906_0", "not_humanitarian")],
        "test": [tweet("907_0", "other_relevant_information")],
    }
    for split, lines in rows.items():
        write_lines(root / f"task_humanitarian_text_img_{split}.tsv", CRISIS_HEADER, *lines)
        write_pictures(root, [line.split("\t")[4] for line in lines])
    return root


def write_mvsa(
    root: Path, rows: Mapping[str, Sequence[str]], header: str = "ID\ttext,image"
) -> Path:
    """`labelResultAll.txt` with these labels of each annotator, and a file each for every id."""
    lines = ("\t".join([guid, *votes]) for guid, votes in rows.items())
    write_lines(root / "labelResultAll.txt", header, *lines)
    write_pictures(root / "data", [f"{guid}.jpg" for guid in rows])
    for guid in rows:
        (root / "data" / f"{guid}.txt").write_text(f"tweet {guid}\n")
    return root


def write_mvsa_single(root: Path) -> Path:
    rows = {"1": ["positive,positive"], "2": ["neutral,negative"], "3": ["positive,negative"]}
    return write_mvsa(root, rows)


NEWS = [
    {"title": "A title,\n  of two lines", "body": "Body.\nMore.", "category": "sport"},
    {"title": "Another", "body": 'It is said: "No."', "category": "politics"},
]


def write_news(root: Path) -> Path:
    records = [{**row, "image": f"photos/{number}.jpg"} for number, row in enumerate(NEWS)]
    write_cells(root / "news.csv", records)
    write_pictures(root, [record["image"] for record in records])
    return root


def write_table(root: Path) -> Path:
    records = [
        {"id": "7", "text": "a cat", "image": "7.png", "label": "yes"},
        {"id": "8", "text": "a dog", "image": "8.png", "label": "no"},
    ]
    write_cells(root / "set.csv", records)
    write_pictures(root, ["7.png", "8.png"])
    return root


def write_class_folders(root: Path) -> Path:
    for guid in ("cat/1", "cat/2", "dog/1"):
        write_pictures(root, [f"{guid}.jpg"])
        (root / f"{guid}.txt").write_text(f"text of {guid}")
    return root


def write_guid_tag(root: Path) -> Path:
    return write_set(root, {"7": "positive", "8": "negative"}, test=["9"])


FEATURES = {
    "image": {"_type": "Image"},
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["calm", "angry"], "_type": "ClassLabel"},
}


def arrow_table(labels: Sequence[int | None], *, first: int = 0, noted: bool = True) -> Any:
    """A table as the `datasets` library makes it; its notes lie in the schema's metadata."""
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("text", pa.string()), ("label", pa.int64())])
    if noted:
        notes = json.dumps({"info": {"features": FEATURES}})
        schema = schema.with_metadata({"huggingface": notes})
    rows = [
        {
            "image": {"bytes": saved(picture(first + n)), "path": f"{n}.png"},
            "text": f"text {first + n}",
            "label": label,
        }
        for n, label in enumerate(labels)
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def write_parquet(root: Path) -> Path:
    import pyarrow.parquet as pq

    (root / "data").mkdir(parents=True)
    pq.write_table(arrow_table([0, 1]), root / "data" / "train-00000-of-00001.parquet")
    pq.write_table(arrow_table([-1], first=2), root / "data" / "test-00000-of-00001.parquet")
    return root


def save_to_disk(folder: Path, table: Any, split: str | None = "train") -> Path:
    """What `Dataset.save_to_disk` writes: a stream of Arrow batches and two notes."""
    import pyarrow as pa

    folder.mkdir(parents=True)
    name = "data-00000-of-00001.arrow"
    with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)
    state = {"_data_files": [{"filename": name}], "_fingerprint": "f", "_split": split}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    return folder


#: A tiny set for each reader, and what is to be read: guid, label, split; left-out rows excluded.
WRITERS: Mapping[str, Callable[[Path], Path]] = {
    "guid-tag": write_guid_tag,
    "mvsa": write_mvsa_single,
    "hateful-memes": write_hateful_memes,
    "snli-ve": write_snli_ve,
    "vqa": write_vqa,
    "fakeddit": write_fakeddit,
    "crisis-mmd": write_crisis_mmd,
    "parquet": write_parquet,
    "news": write_news,
    "table": write_table,
    "class-folders": write_class_folders,
}
EXPECTED: Mapping[str, Sequence[tuple[str, str | None, str]]] = {
    "guid-tag": [("7", "positive", "train"), ("8", "negative", "train"), ("9", None, "test")],
    "mvsa": [("1", "positive", "train"), ("2", "negative", "train")],
    "hateful-memes": [
        ("1726", "0", "train"),
        ("2", "1", "train"),
        ("3", "1", "val"),
        ("4", "0", "val"),
        ("5", None, "test"),
        ("6", "1", "test"),
    ],
    "snli-ve": [
        ("111.jpg#0r1n", "neutral", "train"),
        ("111.jpg#0r1e", "entailment", "train"),
        ("222.jpg#0r1c", "contradiction", "val"),
        ("333.jpg#0r1e", "entailment", "test"),
    ],
    "vqa": [
        ("9000", "yes", "train"),
        ("9001", "no", "train"),
        ("25000", "yes", "train"),
        ("25001", "42", "train"),
        ("25002", "no", "train"),
        ("42000", "no", "val"),
        ("1000", None, "test"),
    ],
    "fakeddit": [
        ("awxhir", "1", "train"),
        ("98pbid", "0", "train"),
        ("c4hjfy", "0", "val"),
        ("cozywbv", "1", "test"),
    ],
    "crisis-mmd": [
        ("905_0", "other_relevant_information", "train"),
        ("905_1", "not_humanitarian", "train"),
        ("906_0", "not_humanitarian", "val"),
        ("907_0", "other_relevant_information", "test"),
    ],
    "parquet": [
        ("train-1", "calm", "train"),
        ("train-2", "angry", "train"),
        ("test-1", None, "test"),
    ],
    "news": [("news-1", "sport", "train"), ("news-2", "politics", "train")],
    "table": [("7", "yes", "train"), ("8", "no", "train")],
    "class-folders": [
        ("cat.1", "cat", "train"),
        ("cat.2", "cat", "train"),
        ("dog.1", "dog", "train"),
    ],
}
