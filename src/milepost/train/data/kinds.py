"""What is accepted as a dataset, and what a user of something else should do.

Kinds of data are told apart without importing what they come from: an object of pandas can only be
here when pandas is.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Literal

Kind = Literal["split by itself", "frame", "table", "array", "columns", "places", "stream", "made"]


def kind_of(name: str, data: Any) -> Kind:
    """Return what a dataset is to workers.

    Args:
        name: the dataset's, for errors.
        data: what was given to the trainer under that name.

    Returns:
        ``"split by itself"`` for objects with Ray Data's methods; ``"frame"``, ``"table"`` and
        ``"array"`` for those of pandas, pyarrow and numpy (PyTorch's tensors and the series of
        pandas too); ``"columns"`` for a dict; ``"places"`` where rows can be had by number;
        ``"stream"`` where they come one after the other; ``"made"`` for a function that returns
        any of these.

    Raises:
        TypeError: it is none of them.
        ValueError: it has no columns, or columns of different lengths.
    """
    if not isinstance(data, type):
        if type(data).__module__.startswith("ray."):
            raise TypeError(
                f"The dataset {name!r} is a {type(data).__name__} of Ray, which only a cluster of "
                "Ray can read, and the workers are in none. Give its to_pandas(), or write it to "
                "files and give a function without arguments that reads them."
            )
        if all(callable(getattr(data, it, None)) for it in ("streaming_split", "iterator")):
            return "split by itself"
        if _is(data, "pandas", "DataFrame"):
            _require_distinct(name, data)
            return "frame"
        if _is(data, "pyarrow", "Table"):
            return "table"
        if _is_array(data):
            _require_rows(name, data)
            return "array"
        if isinstance(data, Mapping):
            _require_columns(name, data)
            return "columns"
        _refuse(name, data)
        if _is(data, "torch.utils.data", "IterableDataset"):
            return "stream"  # some have a length, and none has places
        if isinstance(data, Sequence) or (_has(data, "__len__") and _has(data, "__getitem__")):
            return "places"
        if _has(data, "__iter__"):
            return "stream"
    if not callable(data):
        raise TypeError(f"The dataset {name!r} is a {type(data).__name__}. {_ACCEPTED}")
    _require_no_arguments(name, data)
    return "made"


def is_of_pytorch(data: Any) -> bool:
    """Whether samples are put together as PyTorch does it."""
    return _is(data, "torch.utils.data", "Dataset")


_ACCEPTED = (
    "Give a list or another sequence of rows, a dict of columns, an array of numpy, a DataFrame of "
    "pandas, a Table of pyarrow, a Dataset of PyTorch, an object that can be iterated over again "
    "and again, or a function without arguments that returns one of these in each worker."
)


def _is(data: Any, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(data, kind)


def _is_array(data: Any) -> bool:
    return (
        _is(data, "numpy", "ndarray")
        or _is(data, "torch", "Tensor")
        or _is(data, "pandas", "Series")
    )


def _has(data: Any, method: str) -> bool:
    return getattr(type(data), method, None) is not None


def _refuse(name: str, data: Any) -> None:
    """Refuse what looks like data and cannot be had as often, or not in the same order."""
    what = f"The dataset {name!r} is a {type(data).__name__}"
    if isinstance(data, str | bytes | bytearray):
        raise TypeError(
            f"{what}, got {data!r:.80}. Load what is there, or give a function without arguments "
            "that loads it in each worker."
        )
    if isinstance(data, Iterator):
        raise TypeError(
            f"{what}, which can be read only once, and every epoch of every worker reads it. Give "
            "the function that makes it, without calling it, or list(...) of it."
        )
    if isinstance(data, Set):
        raise TypeError(
            f"{what}, which has another order in each worker, so that rows would be seen twice or "
            "never. Give sorted(...) of it."
        )
    if _has(data, "__arrow_c_stream__") or _has(data, "__arrow_c_array__"):
        raise TypeError(
            f"{what}, whose rows Milepost does not know. Give pyarrow.table(...) of it."
        )
    if _is(data, "torch.utils.data", "DataLoader"):
        raise TypeError(
            f"{what}, whose batches cannot be dealt out by row. Give its dataset, and take batches "
            "of get_dataset_shard(...).iter_torch_batches(); or make the loader in the training "
            "function and pass it to milepost.train.torch.prepare_data_loader."
        )


def _require_rows(name: str, data: Any) -> None:
    if not len(data.shape):
        raise ValueError(f"The dataset {name!r} is an array without dimensions, got {data!r}.")


def _require_distinct(name: str, data: Any) -> None:
    if not data.columns.is_unique:
        twice = data.columns[data.columns.duplicated()].tolist()
        raise ValueError(f"The dataset {name!r} has several columns of the same name: {twice}.")


def _require_columns(name: str, data: Mapping[Any, Any]) -> None:
    if not data:
        raise ValueError(f"The dataset {name!r} is a dict without any column.")
    lengths = {}
    for key, column in data.items():
        if _is_array(column):
            _require_rows(f"{name}[{key!r}]", column)
        elif not isinstance(column, Sequence) or isinstance(column, str | bytes):
            raise TypeError(
                f"The dataset {name!r} is a dict, whose values are columns: lists or arrays, all "
                f"equally long. Its {key!r} is {column!r:.80} ({type(column).__name__})."
            )
        lengths[key] = len(column)
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"The columns of the dataset {name!r} must be equally long, got rows: {lengths}."
        )


def _require_no_arguments(name: str, function: Any) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in callables have none
        return
    try:
        signature.bind()
    except TypeError as error:
        called = getattr(function, "__name__", repr(function))
        raise TypeError(
            f"The dataset {name!r} is a function that is called without arguments in each worker, "
            f"but its signature is {called}{signature}: {error}. Give arguments with "
            "functools.partial."
        ) from None
