from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from pairfuse.config import (
    Config,
    DataConfig,
    FeaturesConfig,
    StudyConfig,
    config_toml,
    load_config,
    parse_setting,
)
from pairfuse.errors import ConfigError
from pairfuse.recipe import Recipe


def load(tmp_path: Path, toml: str, **flags: Any) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(toml, "utf-8")
    return load_config(path, {key.replace("__", "."): value for key, value in flags.items()})


def test_without_file_and_flags_there_are_the_defaults() -> None:
    assert load_config(None, {}) == Config()


def test_flags_beat_the_file_and_the_file_beats_defaults(tmp_path: Path) -> None:
    toml = "cache = 'there'\n[study]\nn_trials = 7\nfolds = 3\n[recipe]\nlr = 0.5\n"
    config = load(tmp_path, toml, study__folds=4)
    assert (config.study.n_trials, config.study.folds) == (7, 4)
    assert (config.recipe.lr, config.cache) == (0.5, "there")
    assert config.study.n_models == Config().study.n_models


def test_a_flag_changes_its_key_alone() -> None:
    config = load_config(None, {"features.max_length": 32, "recipe.head": "gated"})
    expected = Config(features=FeaturesConfig(max_length=32), recipe=Recipe(head="gated"))
    assert config == expected


UNKNOWN = {
    "top": ("cahce = 'x'", "unknown key 'cahce'; did you mean cache?"),
    "section": ("[recipes]\nlr = 1", "unknown key 'recipes'; did you mean recipe?"),
    "key": ("[recipe]\nweight_deacy = 1", "unknown key 'weight_deacy'; did you mean weight_decay?"),
    "nothing near": (
        "[study]\nxyzzy = 1",
        "did you mean folds, repeats, n_models, n_trials, metric, heads, ensemble, nested, "
        "coverage, seed, storage?",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_key_is_an_error_that_names_the_nearest(name: str, tmp_path: Path) -> None:
    toml, reason = UNKNOWN[name]
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml)
    assert reason in str(caught.value)
    assert "config.toml" in str(caught.value)


def test_an_unknown_flag_key_is_an_error_too() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'epoch'; did you mean epochs\?"):
        load_config(None, {"recipe.epoch": 3})


WRONG_TYPES = {
    "word for number": ("[study]\nfolds = 'five'", "study.folds is 'five'; expected a whole num"),
    "float for whole": ("[study]\nfolds = 5.0", "study.folds is 5.0; expected a whole number"),
    "true for whole": ("[study]\nfolds = true", "study.folds is True; expected a whole number"),
    "true for number": ("[recipe]\nlr = true", "recipe.lr is True; expected a number"),
    "number for word": ("cache = 3", "cache is 3; expected a word"),
    "number for switch": ("[data]\nstrict = 1", "data.strict is 1; expected true or false"),
    "number for list": ("[data]\nlabels = 3", "data.labels is 3; expected a list of words"),
    "numbers in list": ("[data]\nlabels = [1, 2]", "expected a list of words"),
    "list for table": ("[data]\ncolumns = ['a']", "expected a table of words"),
    "number in table": ("[data.columns]\nid = 3", "expected a table of words"),
    "value for section": ("recipe = 3", "recipe is a section, found 3"),
    "section for value": ("[cache]\nx = 1", "expected a word"),
    "not a number": ("[recipe]\nlr = nan", "recipe.lr is not a number"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_an_error_that_shows_it(name: str, tmp_path: Path) -> None:
    toml, reason = WRONG_TYPES[name]
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml)
    assert reason in str(caught.value)


def test_a_whole_number_may_stand_for_a_number(tmp_path: Path) -> None:
    lr = load(tmp_path, "[recipe]\nlr = 1\n").recipe.lr
    assert isinstance(lr, float)
    assert lr == 1.0


def test_a_list_may_be_written_as_words(tmp_path: Path) -> None:
    assert load(tmp_path, "[features]\nencoders = 'a  b'").features.encoders == ("a", "b")
    assert load(tmp_path, "[features]\nencoders = ['a', 'b']").features.encoders == ("a", "b")


BROKEN_FILES = {
    "not toml": b"[study\n",
    "a word": b"folds\n",
    "twice": b"cache = 'a'\ncache = 'b'\n",
    "not utf-8": b"cache = '\xff\xfe'\n",
    "deep": b"x = " + b"[" * 100_000,
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_broken_file_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(BROKEN_FILES[name])
    with pytest.raises(ConfigError, match=r"config\.toml is not TOML"):
        load_config(tmp_path / "config.toml", {})


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent cannot be read"):
        load_config(tmp_path / "absent", {})


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeffcache = 'x'").cache == "x"


EVERYTHING = Config(
    data=DataConfig("a/b", "table", {"id": "key", "text": 'odd "name"\n'}, "cp1252", ("é", "b")),
    features=FeaturesConfig(("clip", "text=./models/x y"), device="cuda:1"),
    study=StudyConfig(folds=3, seed=2**31, storage="sqlite:///x.db"),
    recipe=Recipe(lr=1e-7, views=("a", "b"), balance="smote", dropout=0, monitor="loss"),
    cache="C:\\cache",
    run="one",
)


@pytest.mark.parametrize("config", [Config(), EVERYTHING], ids=["defaults", "everything"])
def test_a_written_configuration_reads_back_the_same(config: Config, tmp_path: Path) -> None:
    assert load(tmp_path, config_toml(config)) == config


SETTINGS = {
    "recipe.lr=0.01": ("recipe.lr", 0.01),
    "study.folds = 3": ("study.folds", 3),
    "recipe.head=gated": ("recipe.head", "gated"),
    "data.strict=true": ("data.strict", True),
    "recipe.views=['a', 'b']": ("recipe.views", ["a", "b"]),
    "data.encoding='cp1252'": ("data.encoding", "cp1252"),
    "study.storage=sqlite:///x?a=b": ("study.storage", "sqlite:///x?a=b"),
    "run=": ("run", ""),
}


@pytest.mark.parametrize("text", SETTINGS)
def test_a_setting_is_a_key_and_a_value(text: str) -> None:
    assert parse_setting(text) == SETTINGS[text]


def test_a_setting_without_value_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"--set 'recipe\.lr' has no value"):
        parse_setting("recipe.lr")


RUN_NAMES = ["a/b", "../x", "..", ".", "a\\b", "/abs", ".hidden"]


@pytest.mark.parametrize("name", RUN_NAMES)
def test_a_run_name_that_is_a_path_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a run; give a plain name with --run"):
        _ = Config(run=name).run_folder


ROOTS = {"data/demo": "demo", "data/demo/": "demo", "data/set.csv": "data-set", "/x/y z": "y z"}
ROOTS |= {"/a/.b/items.csv": "b-items", "/items.csv": "items"}


@pytest.mark.parametrize("root", ROOTS)
def test_a_run_is_named_after_its_data(root: str) -> None:
    config = Config(data=DataConfig(root=root), cache="c")
    assert config.run_folder == Path("c/runs") / ROOTS[root]
    assert replace(config, run="mine").run_folder == Path("c/runs/mine")


def test_a_folder_whose_name_has_a_point_keeps_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "v1.0").mkdir()
    config = Config(data=DataConfig(root=str(tmp_path / "v1.0")))
    assert config.run_folder.name == "v1.0"


def test_data_in_the_root_folder_cannot_name_a_run() -> None:
    with pytest.raises(ConfigError, match="cannot name a run"):
        _ = Config(data=DataConfig(root="/")).run_folder


BOUNDS = {
    "hidden_dim": (0, 1, 65537),
    "dropout": (-0.1, 0, 0.96),
    "lr": (-1e-9, 0.1, 10.5),
    "weight_decay": (-1.0, 0, 11.0),
    "label_smoothing": (-0.1, 0.9, 0.91),
    "balance_strength": (-0.1, 1, 1.1),
    "n_components": (0, 1, 65537),
    "whitening": (-0.1, 1, 1.1),
    "epochs": (0, 1, 100_001),
    "patience": (0, 1, 100_001),
    "batch_size": (0, 1, 1_000_001),
    "modality_dropout": (-0.1, 0.2, 0.96),
    "grad_accumulation_steps": (0, 1, 10_001),
    "warmup_ratio": (-0.1, 1, 1.1),
    "max_grad_norm": (-1.0, 0, 1e10),
    "balance": ("over", "smote", "SMOTE"),
    "monitor": ("f1", "loss", ""),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_recipe_stays_within_its_bounds(name: str) -> None:
    below, good, above = BOUNDS[name]
    assert getattr(Recipe(**{name: good}), name) == good
    for bad in (below, above):
        with pytest.raises(ConfigError, match=name):
            Recipe(**{name: bad})


def test_every_number_of_a_recipe_has_bounds() -> None:
    numbers = {part.name for part in fields(Recipe) if isinstance(part.default, (int, float))}
    assert numbers <= BOUNDS.keys()


@pytest.mark.parametrize(
    "bad",
    [
        {"folds": 1},
        {"repeats": 0},
        {"n_models": 0},
        {"n_trials": 0},
        {"coverage": 1.5},
        {"seed": -1},
    ],
)
def test_a_study_stays_within_its_bounds(bad: dict[str, int]) -> None:
    [(name, value)] = bad.items()
    with pytest.raises(ConfigError, match=f"{name} is {value}; use"):
        load_config(None, {f"study.{name}": value})


def test_a_metric_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no metric 'f1'; choose one of macro_f1, accuracy"):
        load_config(None, {"study.metric": "f1"})


def test_an_ensemble_is_a_mixture_or_an_average(tmp_path: Path) -> None:
    assert load(tmp_path, "").study.ensemble == "mixture"
    assert load(tmp_path, "[study]\nensemble = 'average'").study.ensemble == "average"
    with pytest.raises(ConfigError, match="no ensemble 'luck'; choose one of mixture, average"):
        load_config(None, {"study.ensemble": "luck"})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_recipe_takes_no_number_that_is_none(bad: float) -> None:
    with pytest.raises(ConfigError, match="lr is"):
        Recipe(lr=bad)
