"""Values of users as JSON: what goes in comes out, equal and of the same type."""

from __future__ import annotations

import datetime
import enum
import json
import math
import pathlib
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milepost.errors import CodecError
from milepost.journal.objects import digest
from milepost.storage import codec


class Store(dict[str, bytes]):
    """Pickles in memory."""

    def put(self, data: bytes) -> str:
        name = digest(data)
        self[name] = data
        return name


def round_trip(value: Any) -> Any:
    store = Store()
    raw = codec.encode(value, store.put)
    json.loads(raw)  # plain JSON, for every reader
    assert b"\n" not in raw
    return codec.decode(raw, store.__getitem__)


def same(a: Any, b: Any) -> bool:
    """Equal and of the same types all the way down; NaN equals NaN, 0.0 differs from -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        return a == b and math.copysign(1, a) == math.copysign(1, b)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(ka, kb) and same(a[ka], b[kb]) for ka, kb in zip(a, b, strict=True)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(exclude_categories=()), max_size=8)
    | st.sampled_from(["$", "tuple", "$$", "null", ""])
    | st.binary(max_size=8)
    | st.binary(max_size=8).map(bytearray)
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.datetimes().map(
        lambda at: at.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=-3, seconds=7)))
    )
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.text(st.characters(exclude_characters="\0"), max_size=6).map(pathlib.PurePosixPath)
    | st.text(st.characters(exclude_characters="\0"), max_size=6).map(pathlib.PosixPath)
)
hashable = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=4)
keys = (
    hashable
    | st.tuples(hashable, hashable)
    | st.floats(allow_nan=False)
    | st.sampled_from(["$", "v", "type"])
)


def containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(children, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.just("$"), children, max_size=4)
        | st.dictionaries(keys, children, max_size=4)
        | st.lists(children, max_size=3).map(tuple)
        | st.sets(hashable, max_size=4)
        | st.frozensets(hashable, max_size=4)
        | st.fixed_dictionaries({"$": st.sampled_from(["tuple", "object", 1]), "v": children})
    )


@given(st.recursive(scalars, containers, max_leaves=12))
@settings(max_examples=400, deadline=None)
def test_any_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    """Decoding gives what was encoded, down to the types of keys and the sign of zero."""
    assert same(round_trip(value), value)


@given(st.recursive(scalars, containers, max_leaves=12))
@settings(max_examples=100, deadline=None)
def test_preview_never_fails_on_what_was_encoded(value: Any) -> None:
    """A preview needs no objects."""
    codec.preview(codec.encode(value, Store().put))


NUMPY = [
    np.bool_(True),
    np.int8(-3),
    np.uint64(2**64 - 1),
    np.float16(0.1),
    np.float32(0.1),
    np.float32("nan"),
    np.float64(0.1),
    np.float64("-inf"),
    np.complex64(1 + 2j),
    np.datetime64("2026-01-01T00:00:01"),
    np.timedelta64(3, "ms"),
    np.str_("text"),
    np.longdouble(0.1),
]


@pytest.mark.parametrize("value", NUMPY, ids=lambda value: f"{type(value).__name__}-{value}")
def test_numpy_scalars_keep_their_type(value: Any) -> None:
    """A numpy scalar comes back as the same numpy type with the same value."""
    back = round_trip({"a": [value]})["a"][0]
    assert type(back) is type(value)
    assert back.dtype == value.dtype
    assert back == value or np.isnan(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.array([], dtype=np.float32),
        np.array(3.5),
        np.asfortranarray(np.eye(3)),
        np.array(["a", "bc"]),
        np.zeros((200, 200)),
        np.array([object, None], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    ],
    ids=["big-endian", "empty", "0-d", "fortran", "strings", "large", "objects", "records"],
)
def test_numpy_arrays_come_back_equal_and_writable(array: np.ndarray[Any, Any]) -> None:
    """Shape, dtype and values are kept; large and odd arrays go through objects."""
    back = round_trip(array)
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert (back == array).all()
    assert back.flags.writeable


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "<i4", ">i8", "u8", "f2", ">f4", "f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 1, 4), (0, 2)])
def test_small_arrays_in_a_preview(dtype: str, shape: tuple[int, ...]) -> None:
    """They are shown as lists, as in result files."""
    array = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    assert codec.preview(codec.encode([array], Store().put)) == [array.tolist()]


@pytest.mark.parametrize("array", [np.array(["a"]), np.zeros((2, 0)), np.zeros(1, complex)])
def test_other_arrays_in_a_preview(array: Any) -> None:
    """They are shown by their type and shape."""
    (shown,) = codec.preview(codec.encode([array], Store().put))
    assert shown == f"array of type {array.dtype.str} and shape {array.shape}"


def test_large_arrays_are_never_pickled() -> None:
    """What is stored for a large array are its bytes, so that any reader may look at them."""
    stored: list[bytes] = []

    def put(data: bytes) -> str:
        stored.append(data)
        return "d"

    array = np.arange(20_000, dtype=np.int32)
    raw = codec.encode({"a": array}, put)
    assert stored == [array.tobytes()]
    assert len(raw) < 100
    assert codec.preview(raw) == {"a": "array of type <i4 and shape (20000,)"}
    with pytest.raises(CodecError, match=r"cannot load a, which was array of type <i4"):
        codec.decode(raw)
    assert codec.decode(raw, missing=lambda where, text, error: text) == codec.preview(raw)


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


Point = namedtuple("Point", "x y")


class Sub(dict[str, int]):
    pass


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Level.HIGH,
        Point(1, 2),
        OrderedDict(a=1),
        Sub(a=1),
        range(3),
        datetime.datetime(2026, 10, 25, 2, 30, fold=1),
        10**5000,
        -(10**5000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_only_look_plain_keep_their_type(value: Any) -> None:
    """Enums, named tuples and subclasses of plain types are not flattened into those types."""
    back = round_trip({"a": value})["a"]
    assert type(back) is type(value)
    assert back == value


def test_an_object_is_shown_by_its_repr_and_loaded_by_its_digest() -> None:
    """The JSON holds digest, type and repr; the pickle is stored once for equal bytes."""
    store = Store()
    raw = codec.encode({"f": Colour.RED, "g": Colour.RED}, store.put)
    assert codec.preview(raw) == {"f": "<Colour.RED: 1>", "g": "<Colour.RED: 1>"}
    assert len(store) == 1
    form = json.loads(raw)["f"]
    assert form["v"] in store
    assert form["type"].endswith("Colour")
    assert form["str"] == "Colour.RED"


def test_functions_of_a_script_are_stored_by_value() -> None:
    """A lambda comes back working."""
    assert round_trip({"f": lambda x: x + 1})["f"](1) == 2


def test_a_cyclic_value_is_pickled() -> None:
    """A list that contains itself comes back as such, with finite JSON."""
    value: list[Any] = [1]
    value.append(value)
    back = round_trip(value)
    deepest = back
    for _ in range(300):
        deepest = deepest[1]
    assert deepest[0] == 1


def test_an_error_names_the_place_in_the_value() -> None:
    """What cannot be pickled, or not without objects, is named by its keys."""
    with pytest.raises(CodecError, match=r"model/layers/1: a value of type .*lock.* be pickled"):
        codec.encode({"model": {"layers": [0, threading.Lock()]}}, Store().put)
    with pytest.raises(CodecError, match=r"cannot store a/0: a value of type .*Colour has no form"):
        codec.encode({"a": [Colour.RED]})


def test_a_missing_object_is_an_error_or_asked_for() -> None:
    """Without its pickle a value is an error that names it, or what the caller puts there."""
    raw = codec.encode({"a": {"b": Colour.RED}}, Store().put)
    with pytest.raises(CodecError, match=r"cannot load a/b, which was <Colour.RED: 1> \(KeyError"):
        codec.decode(raw, {}.__getitem__)
    with pytest.raises(CodecError, match="not available here"):
        codec.decode(raw)
    asked = []
    back = codec.decode(
        raw, {}.__getitem__, lambda where, shown, error: asked.append((where, shown)) or "instead"
    )
    assert back == {"a": {"b": "instead"}}
    assert asked == [("a/b", "<Colour.RED: 1>")]


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_a_repr_that_raises_does_no_harm() -> None:
    """The user's __repr__ may do what it wants."""
    store = Store()
    raw = codec.encode({"a": Rude(), "b": Sub(x=1)}, store.put)
    assert "repr() raised RuntimeError" in codec.preview(raw)["a"]
    assert isinstance(codec.decode(raw, store.__getitem__)["a"], Rude)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"$":"nonsense"}',
        b'{"$":7}',
        b'{"a":{"$":"tuple"}}',
        b'{"$":"bytes","v":"?"}',
        b'{"$":"path","type":"X","v":"a"}',
        b'{"$":"datetime","v":"yesterday"}',
        b'{"$":"lift","v":1}',
    ],
)
def test_damaged_json_is_a_codec_error(raw: bytes) -> None:
    """Whatever the bytes are, the error is ours."""
    with pytest.raises(CodecError):
        codec.decode(raw)


def test_an_unknown_tag_points_to_a_newer_version() -> None:
    """A tag of a later version is named, with where it is."""
    with pytest.raises(CodecError, match=r"a/0 has the unknown tag 'quaternion'.*newer version"):
        codec.decode(b'{"a":[{"$":"quaternion"}]}')


def test_equal_sets_have_equal_text() -> None:
    """The order of a set does not show, whatever the seed of string hashes."""
    script = "from milepost.storage import codec; print(codec.encode(set('abcd')).decode())"
    texts = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(texts) == 1


def test_numpy_is_not_imported() -> None:
    """Encoding, decoding and previewing plain and odd values leaves numpy alone."""
    script = """
import sys
from milepost.storage import codec
raw = codec.encode({"a": float("nan"), "b": (1, {2}), "c": b"x"})
codec.decode(raw), codec.preview(raw)
codec.preview(b'{"$":"numpy","dtype":"<f4","v":1.0}')
codec.preview(b'{"$":"ndarray","dtype":"<f4","shape":[1],"v":"AAAAAA=="}')
print("numpy" in sys.modules, "cloudpickle" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "False False\n"
