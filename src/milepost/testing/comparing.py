"""What differs between two values, or between two directories of files: for people to read."""

from __future__ import annotations

import json
import math
import os
import pickle
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

_ABSENT = "(nothing)"


class Difference(NamedTuple):
    """One place in which two values differ.

    Attributes:
        path: where: keys and positions, separated by ``/``; of a file ``name:path``.
        expected: what should be there, as text.
        found: what is there.
    """

    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: {self.found}, expected {self.expected}"


def differences(
    expected: Any,
    found: Any,
    *,
    tolerance: float = 0.0,
    ignore: Collection[str] = (),
    path: str = "",
) -> Iterator[Difference]:
    """Yield where two values differ.

    Containers, arrays, tensors and objects are looked into: an object is what it would be pickled
    as. NaN equals NaN.

    Args:
        expected: one value.
        found: the other one.
        tolerance: by how much floating-point numbers may differ, relative to the larger one.
        ignore: patterns, as in file names, of paths that are not compared.
        path: in front of all paths.
    """
    comparison = _Comparison(tolerance, ignore)
    return comparison.compare(expected, found, path)


def file_differences(
    expected: str | os.PathLike[str],
    found: str | os.PathLike[str],
    *,
    tolerance: float = 0.0,
    ignore: Collection[str] = (),
) -> Iterator[Difference]:
    """Yield where the contents of two files differ, as :func:`differences` does.

    Files of equal bytes are equal. Others are looked into if their name says what they are: JSON,
    pickles, what torch and numpy save. Equal contents may well have different bytes there.

    Warning:
        Pickles run code when they are loaded: use it on files that your own code has written.
    """
    name = os.path.basename(os.fspath(expected))
    comparison = _Comparison(tolerance, ignore)
    if comparison.is_ignored(name) or _bytes(expected) == _bytes(found):
        return
    load = _LOADERS.get(os.path.splitext(name)[1])
    if load is not None:
        try:
            values = load(os.fspath(expected)), load(os.fspath(found))
        except Exception:  # noqa: BLE001 - it is not what its name says, or of code not here
            load = None
        else:
            yield from comparison.compare(*values, f"{name}:")
    if load is None:
        sizes = (f"{os.path.getsize(path):,} bytes" for path in (expected, found))
        yield Difference(name, *(f"{size} that differ" for size in sizes))


class _Comparison:
    def __init__(self, tolerance: float, ignore: Collection[str]) -> None:
        self._tolerance = tolerance
        self._ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        self._under_way: set[tuple[int, int]] = set()

    def is_ignored(self, path: str) -> bool:
        """Whether a path is not compared."""
        return any(fnmatchcase(path, pattern) for pattern in self._ignore)

    def compare(self, expected: Any, found: Any, path: str) -> Iterator[Difference]:
        """Yield the differences of two values; each pair is looked at once."""
        pair = id(expected), id(found)
        if expected is found or pair in self._under_way or self.is_ignored(path):
            return
        self._under_way.add(pair)
        try:
            yield from self._compare(expected, found, path)
        finally:
            self._under_way.discard(pair)

    def _compare(self, expected: Any, found: Any, path: str) -> Iterator[Difference]:
        if isinstance(expected, bool) or isinstance(found, bool):
            same = type(expected) is type(found) and expected == found
        elif isinstance(expected, int | float) and isinstance(found, int | float):
            same = self._is_close(expected, found)
        elif type(expected) is not type(found):
            same = False
        elif isinstance(expected, Mapping):
            yield from self._mappings(expected, found, path)
            return
        elif isinstance(expected, list | tuple):
            yield from self._mappings(dict(enumerate(expected)), dict(enumerate(found)), path)
            return
        elif _is_array(expected):
            yield from self._arrays(expected, found, path)
            return
        elif isinstance(expected, str | bytes | bytearray | type(None) | set | frozenset | type):
            same = expected == found
        else:
            yield from self._objects(expected, found, path)
            return
        if not same:
            yield Difference(path, _shown(expected), _shown(found))

    def _is_close(self, expected: float, found: float) -> bool:
        if expected == found or (expected != expected and found != found):
            return True
        if isinstance(expected, int) and isinstance(found, int):
            return False
        return math.isclose(expected, found, rel_tol=self._tolerance)

    def _mappings(
        self, expected: Mapping[Any, Any], found: Mapping[Any, Any], path: str
    ) -> Iterator[Difference]:
        for key in {**expected, **found}:
            inner = f"{path}/{key}" if path and not path.endswith(":") else f"{path}{key}"
            if key in expected and key in found:
                yield from self.compare(expected[key], found[key], inner)
            elif not self.is_ignored(inner):
                values = (
                    _shown(each[key]) if key in each else _ABSENT for each in (expected, found)
                )
                yield Difference(inner, *values)

    def _arrays(self, expected: Any, found: Any, path: str) -> Iterator[Difference]:
        kinds = [f"{each.dtype}{list(each.shape)}" for each in (expected, found)]
        if kinds[0] != kinds[1]:
            yield Difference(path, *kinds)
            return
        import numpy as np

        one, other = _as_numpy(expected), _as_numpy(found)
        try:
            same = np.isclose(one, other, rtol=self._tolerance, atol=0.0, equal_nan=True)
        except TypeError:  # of strings, of objects
            same = np.asarray(one == other)
        if not same.all():
            at = np.unravel_index(int(np.argmin(same)), same.shape)
            where = f"[{', '.join(map(str, at))}]" if at else ""
            count = int(same.size - np.count_nonzero(same))
            note = f" ({count:,} of {same.size:,} elements differ)" if same.size > 1 else ""
            yield Difference(path + where, _shown(one[at]), _shown(other[at]) + note)

    def _objects(self, expected: Any, found: Any, path: str) -> Iterator[Difference]:
        """Compare what would be pickled: equality of objects may mean anything."""
        try:
            forms = [each.__reduce_ex__(4) for each in (expected, found)]
        except Exception:  # noqa: BLE001 - what cannot be pickled is compared as it can
            if not bool(expected == found):
                yield Difference(path, _shown(expected), _shown(found))
            return
        if any(isinstance(form, str) for form in forms):
            if forms[0] != forms[1]:
                yield Difference(path, *map(_shown, forms))
            return
        whole, others = (_parts(form) for form in forms)
        yield from self._mappings(whole, others, path)


def _parts(form: tuple[Any, ...]) -> dict[Any, Any]:
    """What an object is made of, under names that people know."""
    _, arguments, state, items, pairs, *_ = (*form, None, None, None, None)
    parts: dict[Any, Any] = {}
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        parts.update(state[1])  # of slots
        state = state[0]
    if isinstance(state, dict):
        parts.update(state)
    elif state is not None:
        parts["(state)"] = state
    # The first argument of copyreg's own functions is the type, which is known to be the same.
    parts.update({f"({i})": argument for i, argument in enumerate(arguments)})
    for name, iterator in (("(items)", items), ("(pairs)", pairs)):
        if iterator is not None:
            parts[name] = list(iterator)
    return parts


def _is_array(value: Any) -> bool:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    return (numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)) or (
        torch is not None and isinstance(value, torch.Tensor)
    )


def _as_numpy(value: Any) -> Any:
    import numpy as np

    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return np.asarray(value)
    value = value.detach().cpu()
    if value.layout is not torch.strided:
        value = value.to_dense()
    if value.dtype is torch.bfloat16:
        value = value.float()
    return value.resolve_conj().resolve_neg().numpy()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _bytes(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _json(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _pickle(path: str) -> Any:
    with open(path, "rb") as file:
        return pickle.load(file)


def _torch(path: str) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=False)


def _numpy(path: str) -> Any:
    import numpy as np

    loaded = np.load(path, allow_pickle=True)
    return dict(loaded) if hasattr(loaded, "files") else loaded


_LOADERS: dict[str, Callable[[str], Any]] = {
    ".json": _json,
    ".pkl": _pickle,
    ".pickle": _pickle,
    ".pt": _torch,
    ".pth": _torch,
    ".ckpt": _torch,
    ".npy": _numpy,
    ".npz": _numpy,
}
