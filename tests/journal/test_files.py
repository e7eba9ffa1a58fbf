"""Result files: what each shows, and how they are brought in line with the journal."""

from __future__ import annotations

import csv
import datetime
import enum
import json
import os
import pathlib
import pickle
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from milepost.journal.files import failures
from milepost.journal.files.progress_csv import ProgressCsv
from milepost.journal.files.result_json import ResultJson
from milepost.journal.files.rows import Row
from milepost.journal.files.trial import TrialFiles
from milepost.journal.objects import digest
from milepost.storage import codec


class Colour(enum.Enum):
    RED = 1


class Store(dict[str, bytes]):
    def put(self, data: bytes) -> str:
        name = digest(data)
        self[name] = data
        return name


def row(value: dict[str, Any]) -> Row:
    store = Store()
    return Row(codec.encode(value, store.put), at=1.0, get_object=store.__getitem__)


def json_rows(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "result.json").read_text().splitlines()]


def csv_rows(directory: Path) -> list[dict[str, str]]:
    with open(directory / "progress.csv", newline="") as file:
        return list(csv.DictReader(file))


def trial_files(
    directory: Path, config: Any = None, kinds: tuple[str, ...] = ("json", "csv", "tensorboard")
) -> TrialFiles:
    store = Store()
    raw = msgspec.Raw(codec.encode(config if config is not None else {"lr": 0.1}, store.put))
    return TrialFiles(str(directory), raw, raw, kinds, store.__getitem__, print)


def test_result_json_shows_values_as_scripts_expect_them(tmp_path: Path) -> None:
    """Plain numbers for numpy's, lists for arrays, NaN for NaN, text for the rest; config last."""
    value = {
        "int": 1,
        "nested": {"a": [1, {"b": None}]},
        "nan": float("nan"),
        "inf": float("inf"),
        "f32": np.float32(0.5),
        "f32nan": np.float32("nan"),
        "i64": np.int64(3),
        "flag": np.bool_(True),
        "array": np.arange(4).reshape(2, 2),
        "tuple": (1, 2),
        "set": {1},
        "bytes": b"x",
        "path": pathlib.PurePosixPath("a/b"),
        "day": datetime.date(2026, 1, 2),
        "enum": Colour.RED,
        "complex": 1j,
        "when": np.datetime64("2026-01-02"),
        "keys": {2: "int", True: "bool", None: "none", (1, 2): "tuple"},
        "text": "zürich \ud800",
    }
    table = ResultJson(str(tmp_path), b'{"lr": 0.1}')
    table.add(row(value))
    table.flush()
    (shown,) = json_rows(tmp_path)
    assert np.isnan(shown.pop("nan"))
    assert np.isnan(shown.pop("f32nan"))
    assert shown == {
        "int": 1,
        "nested": {"a": [1, {"b": None}]},
        "inf": float("inf"),
        "f32": 0.5,
        "i64": 3,
        "flag": True,
        "array": [[0, 1], [2, 3]],
        "tuple": [1, 2],
        "set": "{1}",
        "bytes": "b'x'",
        "path": "a/b",
        "day": "2026-01-02",
        "enum": "Colour.RED",
        "complex": "1j",
        "when": "2026-01-02",
        "keys": {"2": "int", "true": "bool", "null": "none", "(1, 2)": "tuple"},
        "text": "zürich \ud800",
        "config": {"lr": 0.1},
    }


def test_large_arrays_are_lists_too(tmp_path: Path) -> None:
    """An array that the journal keeps as an object is shown in full, in every file that can."""
    array = np.arange(10_000.0).reshape(100, 100)
    files = trial_files(tmp_path)
    files.begin()
    files.add(row({"training_iteration": 1, "big": array, "deep": [{"ids": np.arange(9_000)}]}))
    files.flush()
    (shown,) = json_rows(tmp_path)
    assert shown["big"] == array.tolist()
    assert shown["deep"] == [{"ids": list(range(9_000))}]


def test_large_arrays_of_the_config_are_listed_once(tmp_path: Path) -> None:
    """params.json and params.pkl have them in full, rows name them by type and shape."""
    array = np.arange(10_000.0)
    files = trial_files(tmp_path, config={"table": array})
    files.begin()
    files.add(row({"loss": 1}))
    files.flush()
    assert json.loads((tmp_path / "params.json").read_text()) == {"table": array.tolist()}
    assert (pickle.loads((tmp_path / "params.pkl").read_bytes())["table"] == array).all()
    (shown,) = json_rows(tmp_path)
    assert shown["config"] == {"table": "array of type <f8 and shape (10000,)"}


def test_a_lost_array_is_named(tmp_path: Path) -> None:
    """Without its bytes an array is shown by type and shape, and the row is still written."""
    table = ResultJson(str(tmp_path), b"{}")
    table.add(Row(codec.encode({"big": np.zeros(9_000)}, Store().put), 1.0, {}.__getitem__))
    table.flush()
    assert json_rows(tmp_path)[0]["big"] == "array of type <f8 and shape (9000,)"


@pytest.mark.parametrize("value", [{}, {"a": 1}, {"a": {1, 2}}])
def test_each_row_is_one_line_with_config(tmp_path: Path, value: dict[str, Any]) -> None:
    """Whatever a row holds, its line is JSON of its own with the config that it ran with."""
    table = ResultJson(str(tmp_path), b"{}")
    table.add(row(value))
    table.config = b'{"lr": 2}'
    table.add(row(value))
    table.flush()
    first, second = json_rows(tmp_path)
    assert set(first) == {*value, "config"}
    assert (first["config"], second["config"]) == ({}, {"lr": 2})


def test_progress_csv_has_a_column_for_each_flat_key(tmp_path: Path) -> None:
    """Nested keys are joined by slashes; missing values are empty."""
    table = ProgressCsv(str(tmp_path))
    table.add(row({"a": 1, "n": {"x": 0.5, "y": None}, "s": 'say "hi",\nthen go'}))
    table.add(row({"a": 2}))
    table.flush()
    assert csv_rows(tmp_path) == [
        {"a": "1", "s": 'say "hi",\nthen go', "n/x": "0.5", "n/y": ""},
        {"a": "2", "s": "", "n/x": "", "n/y": ""},
    ]


def test_progress_csv_becomes_wider_for_new_keys(tmp_path: Path) -> None:
    """A key of a later row gets a column, also after the file was begun by somebody else."""
    table = ProgressCsv(str(tmp_path))
    table.add(row({"a": 1, "s": "x\ny"}))
    table.flush()
    table.add(row({"a": 2, "b": 3}))
    table.flush()
    again = ProgressCsv(str(tmp_path))
    again.add(row({"c": 4}))
    again.add(row({"a": 5, "d": 6}))
    again.flush()
    assert csv_rows(tmp_path) == [
        {"a": "1", "s": "x\ny", "b": "", "c": "", "d": ""},
        {"a": "2", "s": "", "b": "3", "c": "", "d": ""},
        {"a": "", "s": "", "b": "", "c": "4", "d": ""},
        {"a": "5", "s": "", "b": "", "c": "", "d": "6"},
    ]
    assert os.listdir(tmp_path) == ["progress.csv"]


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_tables_are_cut_after_any_row_from_any_length(tmp_path: Path, kind: str) -> None:
    """Cut at every byte, a table keeps its first whole rows, as many as wanted."""
    table = ResultJson(str(tmp_path), b"{}") if kind == "json" else ProgressCsv(str(tmp_path))
    name = "result.json" if kind == "json" else "progress.csv"
    for number in range(3):
        table.add(row({"n": number, "s": 'a "quoted"\nline'}))
    table.flush()
    path = tmp_path / name
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        for wanted in (0, 2, 3, 5):
            path.write_bytes(whole[:length])
            kept = table.keep(wanted)
            assert kept <= wanted
            left = path.read_bytes()
            assert whole.startswith(left)
            assert left.endswith(b"\n") or left == b""
            table.add(row({"n": 9, "s": "z"}))
            table.flush()
            rows = json_rows(tmp_path) if kind == "json" else csv_rows(tmp_path)
            assert [int(found["n"]) for found in rows] == [*range(kept), 9]
    path.write_bytes(whole)
    assert table.keep(3) == 3
    assert path.read_bytes() == whole
    path.unlink()
    assert table.keep(3) == 0


def test_params_are_readable_and_pickled(tmp_path: Path) -> None:
    """params.json is sorted and indented; params.pkl gives the values back."""
    config = {"z": 1, "a": {"colour": Colour.RED, "t": (1, 2)}, 3: "three"}
    files = trial_files(tmp_path, config)
    files.begin()
    text = (tmp_path / "params.json").read_text()
    assert json.loads(text) == {"z": 1, "a": {"colour": "Colour.RED", "t": [1, 2]}, "3": "three"}
    assert text.startswith('{\n  "3"')
    assert pickle.loads((tmp_path / "params.pkl").read_bytes()) == config
    files.reconfigure(msgspec.Raw(codec.encode({"z": 2})))
    assert json.loads((tmp_path / "params.json").read_text()) == {"z": 2}
    assert pickle.loads((tmp_path / "params.pkl").read_bytes()) == {"z": 2}


def test_params_of_code_that_is_not_importable_are_written(tmp_path: Path) -> None:
    """The pickle of a value is embedded as it is; only whoever loads it needs the code."""
    store = Store()
    raw = codec.encode({"f": Colour.RED}, store.put)
    form = json.loads(raw)["f"]
    store[form["v"]] = b"\x80\x04\x8c\x07missing\x8c\x01X\x93."
    files = TrialFiles(
        str(tmp_path), msgspec.Raw(raw), msgspec.Raw(b"{}"), ["json"], store.__getitem__, print
    )
    files.begin()
    with pytest.raises(ModuleNotFoundError, match="missing"):
        pickle.loads((tmp_path / "params.pkl").read_bytes())


def test_errors_are_appended_with_their_number(tmp_path: Path) -> None:
    """error.txt has each failure, error.pkl the last exception."""
    store = Store()
    name = store.put(pickle.dumps(ValueError("no")))
    files = TrialFiles(
        str(tmp_path), msgspec.Raw(b"{}"), msgspec.Raw(b"{}"), [], store.__getitem__, print
    )
    assert failures.last_number(str(tmp_path)) == 0
    files.fail(1, 0.0, "Traceback\nValueError: no\n", name)
    files.fail(2, 0.0, "killed by signal 9\nFailure # 7 (not a header)", None)
    text = (tmp_path / "error.txt").read_text()
    assert [line[:27] for line in text.splitlines() if line.startswith("Failure # ")] == [
        "Failure # 1 (occurred at 19",
        "Failure # 2 (occurred at 19",
        "Failure # 7 (not a header)",
    ]
    assert "ValueError: no" in text
    assert failures.last_number(str(tmp_path)) == 2
    assert repr(pickle.loads((tmp_path / "error.pkl").read_bytes())) == "ValueError('no')"
    assert sorted(os.listdir(tmp_path)) == ["error.pkl", "error.txt"]


def test_unwanted_files_are_not_written(tmp_path: Path) -> None:
    """Only the kinds that were asked for appear."""
    files = trial_files(tmp_path / "trial", kinds=("csv",))
    files.begin()
    files.add(row({"a": 1}))
    files.flush()
    files.end(2.0)
    assert os.listdir(tmp_path / "trial") == ["progress.csv"]


def test_each_table_is_completed_by_itself(tmp_path: Path) -> None:
    """Tables of different lengths all end with the rows that the journal knows."""
    rows = [row({"n": number}) for number in range(6)]
    files = trial_files(tmp_path)
    for number in range(4):
        files.add(rows[number])
    files.flush()
    # One table lost rows, the other has some that the journal does not know.
    ProgressCsv(str(tmp_path)).keep(2)
    result = ResultJson(str(tmp_path), b"{}")
    result.add(row({"n": 99}))
    result.add(row({"n": 98}))
    result.flush()
    again = trial_files(tmp_path)
    assert again.keep(5) == 2
    assert [found["n"] for found in json_rows(tmp_path)] == [0, 1, 2, 3, 99]
    again = trial_files(tmp_path)
    assert again.keep(4) == 2
    again.complete(1, rows[1:4])
    assert [found["n"] for found in json_rows(tmp_path)] == [0, 1, 2, 3]
    assert [found["n"] for found in csv_rows(tmp_path)] == ["0", "1", "2", "3"]
