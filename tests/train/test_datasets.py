"""Datasets of training workers: what is accepted, how it is dealt out, and how it is read."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import rank, steps, trainer
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as MapStyle
from torch.utils.data import IterableDataset as StreamStyle

from milepost import train, tune
from milepost.train import DataConfig, DataParallelTrainer
from milepost.train.context import TrainContext, entered
from milepost.train.data.dataset import Dataset
from milepost.train.data.iterator import DataIterator
from milepost.train.data.part import Part, batched, shuffled
from milepost.train.data.shards import Shards

COLUMNS = {"x": np.arange(10.0), "y": np.arange(20).reshape(10, 2)}
ROWS = [{"x": float(n), "y": [2 * n, 2 * n + 1]} for n in range(10)]


class Squares(MapStyle):  # type: ignore[misc]
    def __init__(self, count: int = 6) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, n: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([float(n), n * n]), n


class Named(Squares):
    def __getitem__(self, n: int) -> Any:
        return {"n": n, "square": torch.tensor(n * n)}


class Flow(StreamStyle):  # type: ignore[misc]
    def __iter__(self) -> Iterator[Any]:
        return ((torch.tensor(n), n) for n in range(5))


class Countdown:
    """Can be iterated over again and again, and has no length."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(7, 0, -1))


class Own:
    """A dataset with the methods of Ray Data."""

    def streaming_split(self, n: int, *, equal: bool, locality_hints: Any) -> list[Any]:
        return [[each, n] for each in range(n)]

    def iterator(self) -> list[int]:
        return [1, 2, 3]


def numbers() -> Iterator[dict[str, int]]:
    for n in range(5):
        yield {"n": n}


def whole(data: Any) -> DataIterator:
    return Dataset("train", data).iterator()


def shares(data: Any, workers: int, equal: bool = True) -> list[list[Any]]:
    return [list(each) for each in Dataset("train", data).streaming_split(workers, equal=equal)]


def context(rank: int = 0, workers: int = 1, shards: Shards | None = None) -> TrainContext:
    return TrainContext(
        experiment_name="run",
        world_rank=rank,
        world_size=workers,
        local_rank=rank,
        local_world_size=workers,
        node_rank=0,
        storage=None,  # type: ignore[arg-type]
        _shards=shards,
    )


# --- dealing ----------------------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(1, 9), st.booleans())
def test_dealing(count: int, workers: int, equal: bool) -> None:
    """Each row goes to one worker at most, to as many each; a stream is dealt out the same way."""
    parts = [Part(each, workers, equal) for each in range(workers)]
    places = [list(part.places(count)) for part in parts]
    seen = sorted(place for each in places for place in each)
    sizes = {len(each) for each in places}
    if equal:
        assert seen == list(range(count - count % workers))
        assert len(sizes) == 1
    else:
        assert seen == list(range(count))
        assert max(sizes) - min(sizes) <= 1
    assert [list(part.of(range(count))) for part in parts] == places
    assert [list(part.places(count)) for part in parts] == places


@given(st.integers(0, 60), st.integers(1, 80), st.integers(0, 5))
def test_shuffling(count: int, size: int, seed: int) -> None:
    """All rows come, in the order of the seed; no row comes before the buffer could have it."""
    order = list(shuffled(range(count), size, seed))
    assert sorted(order) == list(range(count))
    assert order == list(shuffled(range(count), size, seed))
    assert all(row < place + size for place, row in enumerate(order))


def test_shuffling_without_a_seed() -> None:
    """Each time is another order, and Python's generator decides which."""
    random.seed(3)
    first, second = list(shuffled(range(50), 50, None)), list(shuffled(range(50), 50, None))
    assert first != second
    random.seed(3)
    assert list(shuffled(range(50), 50, None)) == first


@pytest.mark.parametrize(
    ("size", "drop_last", "expected"),
    [
        (2, False, [[0, 1], [2, 3], [4]]),
        (2, True, [[0, 1], [2, 3]]),
        (9, True, []),
        (5, True, [[0, 1, 2, 3, 4]]),
        (None, False, [[0, 1, 2, 3, 4]]),
        (None, True, [[0, 1, 2, 3, 4]]),
    ],
)
def test_batching(size: int | None, drop_last: bool, expected: list[list[int]]) -> None:
    """The last batch may be smaller, or left out."""
    assert list(batched(range(5), size, drop_last)) == expected


def test_fewer_rows_than_workers() -> None:
    """Nobody would get any; an empty dataset is nobody's mistake of counting."""
    with pytest.raises(ValueError, match="'train' has fewer rows than there are workers: 2 for 3"):
        shares([1, 2], 3)
    assert shares([1, 2], 3, equal=False) == [[{"item": 1}], [{"item": 2}], []]
    assert shares([], 2) == [[], []]


# --- kinds of data ----------------------------------------------------------------------------

ITEMS = [{"item": n} for n in range(4)]
KINDS = [
    ([0, 1, 2, 3], ITEMS),
    (range(4), ITEMS),
    ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 2}]),
    ({"a": [1, 2], "b": ["u", "v"]}, [{"a": 1, "b": "u"}, {"a": 2, "b": "v"}]),
    (np.arange(2), [{"data": 0}, {"data": 1}]),
    (torch.arange(2), [{"data": 0}, {"data": 1}]),
    (pd.Series([1.5, 2.5], name="s", index=[7, 8]), [{"s": 1.5}, {"s": 2.5}]),
    (pd.DataFrame({"a": [1, 2]}, index=[5, 9]), [{"a": 1}, {"a": 2}]),
    (pa.table({"a": [1, None], "b": [[1], []]}), [{"a": 1, "b": [1]}, {"a": None, "b": []}]),
    (Countdown(), [{"item": n} for n in range(7, 0, -1)]),
    (numbers, [{"n": n} for n in range(5)]),
    (Countdown, [{"item": n} for n in range(7, 0, -1)]),
    (lambda: {"a": [1, 2]}, [{"a": 1}, {"a": 2}]),
    (lambda: (n for n in range(4)), ITEMS),
]


@pytest.mark.parametrize(("data", "rows"), KINDS)
def test_rows(data: Any, rows: list[Any]) -> None:
    """Rows are dicts with plain values, in every epoch the same; shares are made of them."""
    iterator = whole(data)
    assert list(iterator) == list(iterator.iter_rows()) == list(iterator) == rows
    assert iterator.count() == len(rows)
    for each, share in enumerate(shares(data, 2)):
        assert share == rows[each : len(rows) // 2 * 2 : 2]
    again = pickle.loads(pickle.dumps(iterator)) if not callable(data) else iterator
    assert list(again) == rows


def test_samples_of_pytorch() -> None:
    """They come as they are, and so do those of a stream."""
    assert [n for _, n in shares(Squares(), 2)[1]] == [1, 3, 5]
    assert [n for _, n in shares(Flow(), 2)[0]] == [0, 2]
    both, labels = next(iter(whole(Squares()).iter_batches(batch_size=4)))
    assert both.shape == (4, 2)
    assert labels.tolist() == [0, 1, 2, 3]
    assert [len(n) for _, n in whole(Flow()).iter_batches(batch_size=2)] == [2, 2, 1]
    assert next(iter(whole(Named()).iter_batches(batch_size=2)))["square"].tolist() == [0, 1]


def test_several_samples_at_once() -> None:
    """A dataset that can have several at once is asked for them so."""

    class Many(Squares):
        def __getitem__(self, n: int) -> Any:
            raise AssertionError

        def __getitems__(self, several: list[int]) -> list[int]:
            return [10 * n for n in several]

    ((batch),) = whole(Many()).iter_batches(batch_size=6)
    assert batch.tolist() == [0, 10, 20, 30, 40, 50]


Raylike = type("Dataset", (Own,), {"__module__": "ray.data.dataset"})


def _three(a: int) -> list[int]:
    return [a]


WRONG = [
    ([1], TypeError, r"must be a dict of datasets by name, got a list"),
    ({1: [1]}, TypeError, "a name that is no text: 1"),
    ({"train": 3}, TypeError, "'train' is a int. Give a list"),
    ({"train": None}, TypeError, "'train' is a NoneType"),
    ({"train": "data.csv"}, TypeError, "got 'data.csv'. Load what is there"),
    ({"train": iter([1])}, TypeError, "list_iterator, which can be read only once.*without call"),
    ({"train": numbers()}, TypeError, "generator, which can be read only once"),
    ({"train": {1, 2}}, TypeError, "set, which has another order"),
    ({"train": DataLoader([1])}, TypeError, "DataLoader, whose batches cannot be dealt out"),
    ({"train": Raylike()}, TypeError, "Dataset of Ray, which only a cluster.*to_pandas"),
    ({"train": pa.array([1])}, TypeError, "Int64Array, whose rows.*pyarrow.table"),
    ({"train": {}}, ValueError, "dict without any column"),
    ({"train": {"a": [1], "b": [1, 2]}}, ValueError, "got rows: {'a': 1, 'b': 2}"),
    ({"train": {"a": "text"}}, TypeError, r"Its 'a' is 'text' \(str\)"),
    ({"train": {"a": np.array(1)}}, ValueError, "without dimensions"),
    ({"train": np.array(1)}, ValueError, "without dimensions"),
    ({"train": pd.DataFrame([[1, 2]], columns=["a", "a"])}, ValueError, r"same name: \['a'\]"),
    ({"train": _three}, TypeError, "called without arguments.*_three.*functools.partial"),
]


@pytest.mark.parametrize(("datasets", "error", "message"), WRONG)
def test_what_is_refused(datasets: Any, error: type, message: str) -> None:
    """The trainer says which dataset it is, why, and what to do."""
    with pytest.raises(error, match=message):
        DataParallelTrainer(steps, datasets=datasets)


def test_what_cannot_travel(tmp_path: Path) -> None:
    """It can be made in each worker instead."""
    with (tmp_path / "file").open("w") as file, pytest.raises(TypeError, match=r"\['valid'\]"):
        DataParallelTrainer(steps, datasets={"train": [1], "valid": [file]})


def test_names_that_are_not_there() -> None:
    """A config that names another dataset is an error of the trainer."""
    with pytest.raises(ValueError, match="Did you mean 'train'"):
        DataParallelTrainer(steps, datasets={"train": [1]}, dataset_config=DataConfig(["trian"]))


@pytest.mark.parametrize("returned", [3, "path", numbers])
def test_functions_that_return_no_data(returned: Any) -> None:
    """The error names the dataset."""
    with pytest.raises(TypeError, match="dataset 'train'"):
        whole(lambda: returned)


# --- batches ----------------------------------------------------------------------------------

SOURCES = [
    COLUMNS,
    ROWS,
    pd.DataFrame({"x": COLUMNS["x"], "y": list(COLUMNS["y"])}, index=range(90, 100)),
    pa.table({"x": COLUMNS["x"], "y": COLUMNS["y"].tolist()}),
    lambda: (dict(row) for row in ROWS),
]


@pytest.mark.parametrize("data", SOURCES)
def test_batches(data: Any) -> None:
    """In each format they have the same content, from whatever data."""
    iterator = whole(data)
    batches = iterator.iter_batches(batch_size=4)
    for _ in range(2):
        sizes = []
        for batch in batches:
            sizes.append(len(batch["x"]))
            assert isinstance(batch["x"], np.ndarray)
            assert batch["y"].shape == (len(batch["x"]), 2)
        assert sizes == [4, 4, 2]
    assert [len(b["x"]) for b in iterator.iter_batches(batch_size=4, drop_last=True)] == [4, 4]
    (frame,) = iterator.iter_batches(batch_size=None, batch_format="pandas")
    assert isinstance(frame, pd.DataFrame)
    assert frame["x"].tolist() == COLUMNS["x"].tolist()
    assert frame.index.tolist() == list(range(10))
    assert np.stack(frame["y"].tolist()).tolist() == COLUMNS["y"].tolist()
    (table,) = iterator.iter_batches(batch_size=10, batch_format="pyarrow")
    assert isinstance(table, pa.Table)
    assert table.column_names == ["x", "y"]
    assert table["y"].to_pylist() == COLUMNS["y"].tolist()
    assert iterator.to_pandas().equals(frame)
    schema = iterator.schema()
    assert schema is not None
    assert schema.names == ["x", "y"]
    assert [each.kind for each in schema.types] == ["f", "i"]
    (tensors,) = iterator.iter_torch_batches(device="cpu", batch_size=None)
    assert tensors["y"].tolist() == COLUMNS["y"].tolist()
    assert tensors["x"].dtype == torch.float64


@pytest.mark.parametrize("data", SOURCES)
def test_batches_are_copies(data: Any) -> None:
    """What a loop does to a batch or a row, no later epoch sees."""
    iterator = whole(data)
    for batch in iterator.iter_batches():
        batch["x"] *= 0
        batch["y"][:] = 0
    for batch in iterator.iter_torch_batches(device="cpu"):
        batch["x"].zero_()
    for row in iterator:
        row["x"] = None
    (batch,) = iterator.iter_batches()
    assert batch["x"].tolist() == COLUMNS["x"].tolist()
    assert batch["y"].tolist() == COLUMNS["y"].tolist()


@pytest.mark.parametrize("data", [*SOURCES, [1, 2, 3, 4]])
def test_shuffled_batches(data: Any) -> None:
    """A seed gives an order, in each iteration the same; all rows come."""
    shuffle: Any = {"local_shuffle_buffer_size": 5, "local_shuffle_seed": 1, "batch_size": 3}
    batches = whole(data).iter_batches(**shuffle)
    first, second = (
        [value for batch in batches for value in next(iter(batch.values())).tolist()]
        for _ in range(2)
    )
    assert first == second != sorted(first)
    assert sorted(first) == [next(iter(row.values())) for row in whole(data)]


def test_tensors(tmp_path: Path) -> None:
    """Their dtypes can be told, of all or by column; what no tensor can hold is named."""
    iterator = whole({**COLUMNS, "text": list("abcdefghij")})
    numeric = whole(COLUMNS)
    with entered(context()):
        (batch,) = numeric.iter_torch_batches()  # on the worker's device
        assert batch["x"].device.type == ("cuda" if torch.cuda.is_available() else "cpu")
        (batch,) = numeric.iter_torch_batches(dtypes=torch.float32)
        assert [each.dtype for each in batch.values()] == [torch.float32] * 2
        (batch,) = numeric.iter_torch_batches(dtypes={"x": torch.float16})
        assert [each.dtype for each in batch.values()] == [torch.float16, torch.int64]
        with pytest.raises(ValueError, match="column 'z'"):
            list(numeric.iter_torch_batches(dtypes={"z": torch.float16}))
        with pytest.raises(TypeError, match="column 'text' holds values of type <U1"):
            list(iterator.iter_torch_batches())
        (batch,) = iterator.iter_torch_batches(collate_fn=lambda b: torch.as_tensor(b["x"]))
        assert batch.tolist() == COLUMNS["x"].tolist()
        x, n = next(iter(whole(Squares()).iter_torch_batches(dtypes=torch.float16)))
        assert x.dtype == n.dtype == torch.float16
        (batch,) = whole(Squares(3)).iter_torch_batches(collate_fn=len)
        assert batch == 3
        (batch,) = whole(Named(3)).iter_torch_batches(dtypes={"n": torch.int8})
        assert batch["n"].dtype == torch.int8
        with pytest.raises(ValueError, match="without names"):
            list(whole(Squares()).iter_torch_batches(dtypes={"x": torch.int8}))


OPTIONS = [
    ("iter_batches", {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ("iter_batches", {"batch_size": "4"}, TypeError, "batch_size must be a whole number"),
    ("iter_batches", {"batch_format": "panda"}, ValueError, "Did you mean 'pandas'"),
    ("iter_batches", {"drop_last": "no"}, TypeError, "drop_last must be True or False"),
    ("iter_batches", {"local_shuffle_buffer_size": 0}, ValueError, "at least 1"),
    ("iter_batches", {"local_shuffle_seed": "a"}, TypeError, "whole number"),
    ("iter_batches", {"prefetch_batches": -1}, ValueError, "prefetch_batches must be at least 0"),
    ("iter_batches", {"batchsize": 1}, TypeError, "Did you mean 'batch_size'"),
    ("iter_torch_batches", {"batch_size": -1, "device": "cpu"}, ValueError, "at least 1"),
    ("iter_torch_batches", {"collate_fn": 3}, TypeError, "collate_fn"),
    ("iter_torch_batches", {"collate_fn": len, "device": "cpu"}, ValueError, "no device together"),
    ("iter_torch_batches", {"dtypes": "float32", "device": "cpu"}, TypeError, "got 'float32'"),
    ("iter_torch_batches", {"dtypes": {"a": 3}, "device": "cpu"}, TypeError, r"got 3 \(int\)"),
    ("iter_torch_batches", {"dtype": torch.int8}, TypeError, "Did you mean 'dtypes'"),
]


@pytest.mark.parametrize(("method", "options", "error", "message"), OPTIONS)
def test_wrong_options(method: str, options: Any, error: type, message: str) -> None:
    """The call that is given them raises, before anything is iterated over."""
    with pytest.raises(error, match=message):
        getattr(whole([1]), method)(**options)


@pytest.mark.parametrize("dtype", ["object", "str", pd.ArrowDtype(pa.string())])
def test_data_in_chunks(dtype: Any) -> None:
    """Tables that were put together of many have the same rows, and are gathered only once."""
    table = pa.concat_tables([pa.table({"a": [n, -n], "s": [str(n), None]}) for n in range(4)])
    frame = table.to_pandas().astype({"s": dtype})
    expected = [0, 0, 1, -1, 2, -2, 3, -3]
    for data in (table, frame):
        iterator = whole(data)
        (batch,) = iterator.iter_batches()
        assert batch["a"].tolist() == expected
        assert batch["s"][::2].tolist() == ["0", "1", "2", "3"]
        (made,) = iterator.iter_batches(batch_format="pandas")
        assert made["a"].tolist() == expected
    assert made["s"].dtype == frame["s"].dtype


def test_rows_without_common_columns() -> None:
    """The error says what is different; entries of different shapes are objects."""
    with pytest.raises(ValueError, match=r"first has \['a'\], row 1 of the batch has \['b'\]"):
        list(whole([{"a": 1}, {"b": 2}]).iter_batches())
    (batch,) = whole([{"a": [1]}, {"a": [1, 2]}]).iter_batches()
    assert batch["a"].tolist() == [[1], [1, 2]]
    (batch,) = whole([{"t": torch.ones(2)}, {"t": torch.zeros(2)}]).iter_batches()
    assert batch["t"].tolist() == [[1, 1], [0, 0]]


def test_formats_of_samples() -> None:
    """Samples that are dicts have columns, others say that they have none."""
    (frame,) = whole(Named(3)).iter_batches(batch_format="pandas")
    assert frame["square"].tolist() == [0, 1, 4]
    schema = whole(Named(3)).schema()
    assert schema is not None
    assert schema.names == ["n", "square"]
    assert whole(Squares()).schema() is None
    assert whole([]).schema() is None
    with pytest.raises(ValueError, match=r"have no names.*'numpy'"):
        list(whole(Squares()).iter_batches(batch_format="numpy"))


def test_types_of_columns() -> None:
    """Batches of tables have numpy's dtypes, whatever made the table."""
    when = np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[s]")
    columns = {"b": [True, False], "i": [1, 2], "t": when, "s": ["u", "v"]}
    for data in (columns, pd.DataFrame(columns), pa.table(columns)):
        iterator = whole(data)
        (batch,) = iterator.iter_batches()
        assert [batch[name].dtype.kind for name in "bit"] == ["b", "i", "M"]
        assert batch["s"].tolist() == ["u", "v"]
        assert batch["t"].tolist() == when.astype(batch["t"].dtype).tolist()
        first = next(iter(iterator))
        assert (first["b"], first["i"], first["s"]) == (True, 1, "u")
        assert np.datetime64(first["t"]) == when[0]
        (table,) = iterator.iter_batches(batch_format="pyarrow")
        assert table["i"].to_pylist() == [1, 2]


def test_a_function_that_opens_a_file(tmp_path: Path) -> None:
    """Its lines are read anew in each epoch."""
    (tmp_path / "lines").write_text("a\nb\n")
    iterator = whole((tmp_path / "lines").open)
    assert [row["item"] for row in (*iterator, *iterator)] == ["a\n", "b\n"] * 2


@pytest.mark.parametrize("data", [[], pd.DataFrame({"a": []}), pa.table({"a": []}), {"a": []}])
def test_no_rows(data: Any) -> None:
    """There are no batches, and no columns are made up."""
    iterator = whole(data)
    assert list(iterator) == list(iterator.iter_batches()) == []
    assert len(iterator.to_pandas()) == 0


def test_a_share_is_a_dataset_of_pytorch() -> None:
    """Loaders take it, where rows can be had by number; what is split is not split again."""
    from milepost.train.torch import prepare_data_loader

    _, share = Dataset("train", {"x": np.arange(7)}).streaming_split(2, equal=True)
    assert len(share) == share.count() == 3  # type: ignore[arg-type]
    assert share[-1] == {"x": 5}  # type: ignore[index]
    with entered(context(1, 2)):
        loader = prepare_data_loader(DataLoader(share, batch_size=2))
        assert [batch["x"].tolist() for batch in loader] == [[1, 3], [5]]
        everything = prepare_data_loader(DataLoader(whole(list(range(4)))))
        assert [batch["item"].tolist() for batch in everything] == [[1], [3]]
    with pytest.raises(IndexError):
        share[3]  # type: ignore[index]
    assert not hasattr(whole(Countdown()), "__len__")
    assert bool(whole(Countdown()))
    assert repr(share) == "Indexed('train', rank 1 of 2)"


def test_materialized() -> None:
    """Rows are loaded once; samples of PyTorch stay samples."""
    read = []

    def rows() -> Iterator[int]:
        read.append(1)
        yield from range(3)

    kept = whole(rows).materialize()
    assert [list(kept), list(kept)] == [ITEMS[:3]] * 2
    assert len(read) == 1
    ((_, labels),) = whole(Squares(3)).materialize().iter_batches()
    assert labels.tolist() == [0, 1, 2]


@pytest.mark.chaos
@pytest.mark.timeout(150)
def test_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says about data runs."""
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    section = text.partition("\n## Data\n")[2].partition("\n## ")[0]
    code, *_ = section.partition("```python\n")[2].partition("```")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "training.md", "exec"), names)
    assert names["result"].metrics["epoch"] == 2


# --- in workers -------------------------------------------------------------------------------


def test_outside_of_workers() -> None:
    """It says where it works, and that a trial is none."""
    with pytest.raises(train.error.SessionMisuseError, match="outside a training worker"):
        train.get_dataset_shard("train")


@pytest.mark.parametrize(
    ("name", "datasets", "says"),
    [
        ("trian", {"train": [1]}, "Did you mean 'train'"),
        (None, {"train": [1]}, r"needs the name of a dataset, one of: \['train'\]"),
        ("train", {}, "the trainer has no datasets"),
        (None, {}, "the trainer has no datasets"),
    ],
)
def test_names_of_shards(name: str | None, datasets: dict[str, Any], says: str) -> None:
    """What is not there is a KeyError, with the names of what is."""
    shards = Shards(datasets, DataConfig(), 0, 1) if datasets else None
    with entered(context(shards=shards)), pytest.raises(KeyError, match=says):
        train.get_dataset_shard(name)


class Halves(DataConfig):
    """Hands out lists, which Milepost makes shares of, and what it got."""

    def configure(
        self,
        datasets: Any,
        world_size: int,
        worker_handles: Any,
        worker_node_ids: Any,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        assert worker_handles is None
        assert len(worker_node_ids) == world_size
        rows = datasets["train"].data
        return [
            {
                "train": rows[each::world_size],
                "whole": datasets["train"],
                "share": datasets["train"].streaming_split(world_size)[each],
                "mine": Own,
                "once": iter([1]),
            }
            for each in range(world_size)
        ]


def test_a_config_of_the_users() -> None:
    """It may return data, shares or anything else."""
    shards = Shards({n: [1, 2, 3] for n in ("train", "other")}, Halves(), 1, 2)
    assert list(shards.get("train")) == [{"item": 2}]
    assert shards.get("train") is shards.get("train")
    assert len(list(shards.get("whole"))) == 3
    with pytest.raises(KeyError, match="Did you mean 'whole'"):
        shards.get("hole")
    with pytest.raises(KeyError, match=r"Halves.configure\(\) returned nothing for .* 'other'"):
        shards.get("other")
    assert len(shards.get("share")) == 1
    assert shards.get("mine") is Own
    assert next(shards.get("once")) == 1


@pytest.mark.parametrize(
    ("returned", "says"),
    [(None, "a list with a dict for each of the 2"), ([{}], "a list"), ([1, 2], "rank 1")],
)
def test_configs_that_return_something_else(returned: Any, says: str) -> None:
    """The error names the method."""

    class Config(DataConfig):
        def configure(self, *args: Any, **kwargs: Any) -> Any:
            return returned

    with pytest.raises((ValueError, TypeError), match=rf"Config.configure\(\).*{says}"):
        Shards({"train": [1]}, Config(), 1, 2).get("train")


def test_datasets_that_split_themselves() -> None:
    """Their own methods are called, and what they return is handed out."""
    shards = Shards({"a": Own(), "b": Own()}, DataConfig(["a"]), 1, 2)
    assert [row["item"] for row in shards.get("a")] == [1, 2]
    assert [row["item"] for row in shards.get("b")] == [1, 2, 3]


def seen(config: dict[str, Any]) -> list[Any]:
    """Gathers what each worker saw in two epochs; a worker may die in between."""
    share, valid = train.get_dataset_shard("train"), train.get_dataset_shard("valid")
    assert share is train.get_dataset_shard("train")
    epochs = [
        [n for batch in share.iter_batches(batch_size=2) for n in batch["n"].tolist()]
        for _ in range(2)
    ]
    assert epochs[0] == epochs[1]
    mark = Path(config["mark"]) if "mark" in config else None
    with Path(config["out"], f"{rank()}-{train.get_context().get_world_size()}").open("a") as out:
        out.write(f"{epochs[0]} {[row['item'] for row in valid]}\n")
    train.collective.barrier()
    if mark is not None and rank() == 1 and not mark.exists():
        mark.touch()
        raise KeyError("once")
    train.report({"sum": sum(epochs[0])})
    return epochs[0]


def test_workers_see_their_shares(tmp_path: Path) -> None:
    """What is split is dealt out, the rest seen whole; again the same after a failure."""
    out = tmp_path / "out"
    out.mkdir()
    data = {"n": np.arange(20_000) % 100}  # large enough to be in memory once
    options: Any = {
        "datasets": {"train": data, "valid": lambda: [rank(), 7]},
        "dataset_config": DataConfig(["train"]),
        "train_loop_config": {"out": str(out), "mark": str(tmp_path / "mark")},
    }
    result = trainer(tmp_path, seen, max_failures=1, **options).fit()
    assert result.return_value == data["n"][::2].tolist()
    for each in range(2):
        first, second = (out / f"{each}-2").read_text().splitlines()
        assert first == second == f"{data['n'][each::2].tolist()} [{each}, 7]"


def test_restored_with_another_number_of_workers(tmp_path: Path) -> None:
    """Datasets are given again; their split is that of the new workers."""
    config = {"out": str(tmp_path)}
    data = {"train": numbers, "valid": [1]}
    trainer(
        tmp_path,
        seen,
        datasets=data,
        dataset_config=DataConfig(["train"]),
        train_loop_config=config,
        workers=1,
    ).fit()
    path = str(tmp_path / "run")
    with pytest.raises(ValueError, match=r"had the datasets \['train', 'valid'\].*'valid'\] is"):
        DataParallelTrainer.restore(path, datasets={"train": numbers})
    with pytest.raises(ValueError, match=r"\['train', 'valid'\] is not given"):
        DataParallelTrainer.restore(path)
    small = train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5})
    again = DataParallelTrainer.restore(path, datasets=data, scaling_config=small)
    assert repr(again.dataset_config) == repr(DataConfig(["train"]))
    again.fit()
    assert (tmp_path / "0-1").read_text() == "[0, 1, 2, 3, 4] [1]\n"
    assert (tmp_path / "0-2").read_text() == "[0, 2] [1]\n"
    assert (tmp_path / "1-2").read_text() == "[1, 3] [1]\n"


def test_tuned(tmp_path: Path) -> None:
    """Trials of a trainer have its datasets, and a plain trial is told that it has none."""

    def loop(config: dict[str, Any]) -> None:
        ((x, _),) = train.get_dataset_shard("train").iter_torch_batches()
        train.report({"sum": float(x.sum()) * config["scale"]})

    def plain(config: dict[str, Any]) -> dict[str, str]:
        with pytest.raises(DeprecationWarning, match=r"get_dataset_shard.*tuning trial"):
            train.get_dataset_shard("train")
        return {"told": "yes"}

    data = TensorDataset(torch.arange(8.0), torch.arange(8))
    results = tune.Tuner(
        trainer(tmp_path, loop, datasets={"train": data}),
        param_space={"train_loop_config": {"scale": tune.grid_search([1, 10])}},
        run_config=tune.RunConfig(name="tuned", storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert [result.metrics["sum"] for result in results] == [12, 120]
    (result,) = tune.Tuner(
        plain, run_config=tune.RunConfig(name="plain", storage_path=str(tmp_path), verbose=0)
    ).fit()
    assert result.metrics["told"] == "yes"
