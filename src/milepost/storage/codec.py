"""Values of users as JSON: configs, result rows, set-up.

A value becomes JSON only if decoding gives an equal value of the same type. What JSON lacks but
we can spell (tuples, sets, bytes, NaN, keys that are no strings, paths, dates, numpy scalars and
arrays) is *tagged*: an object with the member ``$`` that names its kind. A user's dict that has a
key ``$`` itself is tagged too, so no data can be mistaken for a tag. Everything else is pickled
once, through ``put_object``, and only its digest, type and repr stay in the JSON. Large arrays are
stored that way too, but as their bytes: whoever reads them unpickles nothing.

``docs/format.md`` lists the tags; adding one is a change of format.
"""

from __future__ import annotations

import binascii
import datetime
import math
import pathlib
import struct
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

from milepost.errors import CodecError

TAG: Final = "$"

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_ONLY_STR: Final = frozenset({str})
_TEXT_LIMIT: Final = 200
_DEEPEST: Final = 100
_INT_BITS: Final = 14_000  # Python and msgspec refuse decimals of more than 4,300 digits
_INLINE_ARRAY_BYTES: Final = 32_768
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder()

Path = tuple[object, ...]
Missing = Callable[[str, str, Exception], Any]


def encode(value: Any, put_object: Callable[[bytes], str] | None = None) -> bytes:
    """Return ``value`` as one line of JSON.

    A row of plain values takes a few microseconds. numpy is never imported: a value can only be
    numpy's if numpy is there already.

    Args:
        value: anything.
        put_object: stores the pickle of a value that JSON cannot hold, or the bytes of a large
            array, and returns its digest. Without it values that need a pickle are an error.

    Raises:
        CodecError: some part of the value cannot be stored; the message names where it is.
    """
    try:
        if _is_plain(value):
            data = _ENCODER.encode(value)
            if b"null" not in data or _is_finite(value):  # NaN and infinities come out as null
                return data
    except (RecursionError, UnicodeEncodeError, ValueError):
        pass  # too deep, a lone surrogate, a huge integer: the slow way spells them
    return _ENCODER.encode(_Lowering(put_object).lower(value, ()))


def decode(
    raw: bytes | msgspec.Raw,
    get_object: Callable[[str], bytes] | None = None,
    missing: Missing | None = None,
) -> Any:
    """Return the value that :func:`encode` was given.

    Args:
        raw: what :func:`encode` returned.
        get_object: returns the bytes for a digest.
        missing: called with (where, repr, error) for each stored value that cannot be had;
            what it returns takes the value's place. Without it that is an error.

    Raises:
        CodecError: the JSON is not ours, or a stored value cannot be loaded; the message names
            where in the value.
    """
    data = bytes(raw)
    value = _parse(data)
    if b'"$"' not in data:
        return value
    return Lifting(get_object, missing).lift(value, ())


def shown(where: str, text: str, error: Exception) -> str:
    """For :func:`decode`: the repr of a stored value that cannot be had takes its place."""
    return text


def preview(raw: bytes | msgspec.Raw) -> Any:
    """Return the value for display, without unpickling or importing anything.

    Pickled values are shown by their repr, numpy scalars as plain numbers, and arrays of numbers as
    lists; other arrays, and those that are stored outside of it, by their type and shape.
    """
    data = bytes(raw)
    value = _parse(data)
    return value if b'"$"' not in data else _Previewing(None, None).lift(value, ())


def _parse(data: bytes) -> Any:
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        head = data[:60].decode(errors="replace")
        raise CodecError(f"not a stored value: {head!r} ({error})") from error


# --- encoding -----------------------------------------------------------------------------------


def _is_plain(value: Any) -> bool:
    """Whether JSON holds ``value`` as it is, but for non-finite floats."""
    kind = type(value)
    if kind is dict:
        if TAG in value or not _ONLY_STR.issuperset(map(type, value)):
            return False
        return all(type(item) in _SCALARS or _is_plain(item) for item in value.values())
    if kind is list:
        return all(type(item) in _SCALARS or _is_plain(item) for item in value)
    return kind in _SCALARS


def _is_finite(value: Any) -> bool:
    """Whether no float of a plain ``value`` is NaN or infinite."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    if kind is dict:
        return all(map(_is_finite, value.values()))
    return kind is not list or all(map(_is_finite, value))


class _Lowering:
    """Turns one value into plain JSON with tags."""

    def __init__(self, put_object: Callable[[bytes], str] | None) -> None:
        self._put_object = put_object

    def lower(self, value: Any, path: Path) -> Any:
        kind = type(value)
        if len(path) > _DEEPEST:  # deeper, or cyclic: pickle knows how
            return self._pickled(value, path)
        lower = _LOWER.get(kind)
        if lower is not None:
            return lower(self, value, path)
        if kind is bool or value is None:
            return value
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
            form = self._numpy(value)
            if form is not None:
                return form
        return self._pickled(value, path)

    def _str(self, value: str, path: Path) -> Any:
        if value.isascii() or _is_unicode(value):
            return value
        return {TAG: "str", "v": _text(value.encode(errors="surrogatepass"))}

    def _int(self, value: int, path: Path) -> Any:
        return value if value.bit_length() < _INT_BITS else {TAG: "int", "v": hex(value)}

    def _float(self, value: float, path: Path) -> Any:
        return value if math.isfinite(value) else {TAG: "float", "v": repr(value)}

    def _complex(self, value: complex, path: Path) -> Any:
        return {TAG: "complex", "v": [self._float(value.real, path), self._float(value.imag, path)]}

    def _dict(self, value: dict[Any, Any], path: Path) -> Any:
        if TAG not in value and all(type(key) is str and _is_unicode(key) for key in value):
            return {key: self.lower(item, (*path, key)) for key, item in value.items()}
        items = [
            [self.lower(key, (*path, "(key)")), self.lower(item, (*path, key))]
            for key, item in value.items()
        ]
        return {TAG: "dict", "v": items}

    def _list(self, value: list[Any], path: Path) -> Any:
        return [self.lower(item, (*path, at)) for at, item in enumerate(value)]

    def _tuple(self, value: tuple[Any, ...], path: Path) -> Any:
        return {TAG: "tuple", "v": [self.lower(item, (*path, at)) for at, item in enumerate(value)]}

    def _set(self, value: set[Any] | frozenset[Any], path: Path) -> Any:
        items = [self.lower(item, (*path, "(member)")) for item in value]
        # Sorted by their JSON, so that equal sets have equal text whatever their hashes were.
        return {TAG: type(value).__name__, "v": sorted(items, key=_ENCODER.encode)}

    def _bytes(self, value: bytes | bytearray, path: Path) -> Any:
        return {TAG: type(value).__name__, "v": _text(value)}

    def _path(self, value: pathlib.PurePath, path: Path) -> Any:
        text = self._str(str(value), path)
        return {TAG: "path", "type": type(value).__name__, "v": text}

    def _moment(self, value: Any, path: Path) -> Any:
        zone = getattr(value, "tzinfo", None)
        if getattr(value, "fold", 0) or (zone is not None and type(zone) is not datetime.timezone):
            return self._pickled(value, path)  # ISO text would lose the zone's rules or the fold
        return {TAG: type(value).__name__, "v": value.isoformat()}

    def _duration(self, value: datetime.timedelta, path: Path) -> Any:
        return {TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}

    def _numpy(self, value: Any) -> Any:
        """The tagged form of a numpy scalar or plain array; None if there is none."""
        import numpy

        dtype = value.dtype
        if dtype.kind not in "biufcmMUS" or not dtype.itemsize or dtype.metadata:
            return None
        if type(value) is numpy.ndarray:
            form = {TAG: "ndarray", "dtype": dtype.str, "shape": list(value.shape)}
            data = value.tobytes()
            if len(data) > _INLINE_ARRAY_BYTES and self._put_object is not None:
                return {**form, "object": self._put_object(data)}
            return {**form, "v": _text(data)}
        if type(value) is not dtype.type:
            return None
        if dtype.kind in "biuf" and dtype.itemsize <= 8:
            item = value.item()
            number = self._float(item, ()) if dtype.kind == "f" else item
            return {TAG: "numpy", "dtype": dtype.str, "v": number}
        return {TAG: "numpy", "dtype": dtype.str, "bytes": _text(value.tobytes())}

    def _pickled(self, value: Any, path: Path) -> Any:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if self._put_object is None:
            raise CodecError(
                f"cannot store {_where(path)}: a value of type {kind} has no form in JSON here"
            )
        import cloudpickle

        try:
            data = cloudpickle.dumps(value)
        except Exception as error:  # pickling runs the user's own code
            raise CodecError(
                f"cannot store {_where(path)}: a value of type {kind} cannot be pickled "
                f"({type(error).__name__}: {error}). Pass what can be stored, for example a name "
                "or a path, and build the object in the trainable."
            ) from error
        form = {TAG: "object", "v": self._put_object(data), "type": kind}
        form["repr"] = _describe(repr, value, kind)
        text = _describe(str, value, kind)
        if text != form["repr"]:
            form["str"] = text
        return form


_LOWER: Final[dict[type, Callable[[_Lowering, Any, Path], Any]]] = {
    str: _Lowering._str,
    int: _Lowering._int,
    float: _Lowering._float,
    complex: _Lowering._complex,
    dict: _Lowering._dict,
    list: _Lowering._list,
    tuple: _Lowering._tuple,
    set: _Lowering._set,
    frozenset: _Lowering._set,
    bytes: _Lowering._bytes,
    bytearray: _Lowering._bytes,
    pathlib.PosixPath: _Lowering._path,
    pathlib.PurePosixPath: _Lowering._path,
    pathlib.PureWindowsPath: _Lowering._path,
    datetime.datetime: _Lowering._moment,
    datetime.date: _Lowering._moment,
    datetime.time: _Lowering._moment,
    datetime.timedelta: _Lowering._duration,
}


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold the text, that is, it has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(data: bytes | bytearray) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _describe(how: Callable[[Any], str], value: Any, kind: str) -> str:
    try:
        text = how(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"<{kind} whose {how.__name__}() raised {type(error).__name__}>"
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 3] + "..."


def _where(path: Path) -> str:
    return "/".join(map(str, path)) or "the value"


# --- decoding -----------------------------------------------------------------------------------


class Lifting:
    """Turns plain JSON with tags back into values. Subclasses show some kinds in other ways."""

    def __init__(
        self, get_object: Callable[[str], bytes] | None = None, missing: Missing | None = None
    ) -> None:
        self._get_object = get_object
        self._missing = missing

    def lift(self, value: Any, path: Path = ()) -> Any:
        """Return the value of one decoded piece of JSON; ``path`` is where it is, for messages."""
        kind = type(value)
        if kind is list:
            return [self.lift(item, (*path, at)) for at, item in enumerate(value)]
        if kind is not dict:
            return value
        if TAG not in value:
            return {key: self.lift(item, (*path, key)) for key, item in value.items()}
        tag = value[TAG]
        lift = getattr(self, f"lift_{tag}", None) if type(tag) is str else None
        if lift is None:
            raise CodecError(
                f"{_where(path)} has the unknown tag {tag!r}: a newer version of milepost may "
                "have written it"
            )
        try:
            return lift(value, path)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            if isinstance(error, CodecError):
                raise
            raise CodecError(f"{_where(path)} is a damaged {tag}: {error}") from error

    def items(self, form: dict[str, Any], path: Path) -> list[Any]:
        """The members of a tagged list, tuple or set."""
        return [self.lift(item, (*path, at)) for at, item in enumerate(form["v"])]

    def lift_str(self, form: dict[str, Any], path: Path) -> Any:
        """A string with lone surrogates."""
        return _bytes(form["v"]).decode(errors="surrogatepass")

    def lift_int(self, form: dict[str, Any], path: Path) -> Any:
        """An integer of thousands of digits."""
        return int(form["v"], 16)

    def lift_float(self, form: dict[str, Any], path: Path) -> Any:
        """NaN or an infinity."""
        return float(form["v"])

    def lift_complex(self, form: dict[str, Any], path: Path) -> Any:
        """A complex number."""
        return complex(*self.items(form, path))

    def lift_dict(self, form: dict[str, Any], path: Path) -> Any:
        """A dict with keys that are no strings, or with a key ``$``."""
        return {self.lift(key, path): self.lift(item, (*path, key)) for key, item in form["v"]}

    def lift_tuple(self, form: dict[str, Any], path: Path) -> Any:
        """A tuple."""
        return tuple(self.items(form, path))

    def lift_set(self, form: dict[str, Any], path: Path) -> Any:
        """A set."""
        return set(self.items(form, path))

    def lift_frozenset(self, form: dict[str, Any], path: Path) -> Any:
        """A frozen set."""
        return frozenset(self.items(form, path))

    def lift_bytes(self, form: dict[str, Any], path: Path) -> Any:
        """Bytes."""
        return _bytes(form["v"])

    def lift_bytearray(self, form: dict[str, Any], path: Path) -> Any:
        """A bytearray."""
        return bytearray(_bytes(form["v"]))

    def lift_path(self, form: dict[str, Any], path: Path) -> Any:
        """A path."""
        return _PATHS[form["type"]](self.lift(form["v"], path))

    def lift_datetime(self, form: dict[str, Any], path: Path) -> Any:
        """A date with time."""
        return datetime.datetime.fromisoformat(form["v"])

    def lift_date(self, form: dict[str, Any], path: Path) -> Any:
        """A date."""
        return datetime.date.fromisoformat(form["v"])

    def lift_time(self, form: dict[str, Any], path: Path) -> Any:
        """A time of day."""
        return datetime.time.fromisoformat(form["v"])

    def lift_timedelta(self, form: dict[str, Any], path: Path) -> Any:
        """A duration."""
        days, seconds, microseconds = form["v"]
        return datetime.timedelta(days, seconds, microseconds)

    def lift_numpy(self, form: dict[str, Any], path: Path) -> Any:
        """A numpy scalar."""
        import numpy

        dtype = numpy.dtype(form["dtype"])
        if "bytes" in form:
            return numpy.frombuffer(_bytes(form["bytes"]), dtype)[0]
        return dtype.type(self.lift(form["v"], path))

    def lift_ndarray(self, form: dict[str, Any], path: Path) -> Any:
        """A numpy array."""
        import numpy

        if "object" in form:
            try:
                data = self._object(form["object"])
            except Exception as error:  # noqa: BLE001 - of whatever keeps the objects
                return self._lost(_array_text(form), path, error)
        else:
            data = _bytes(form["v"])
        flat = numpy.frombuffer(data, numpy.dtype(form["dtype"]))
        return flat.reshape(form["shape"]).copy()

    def lift_object(self, form: dict[str, Any], path: Path) -> Any:
        """A pickled value."""
        import pickle

        try:
            return pickle.loads(self._object(form["v"]))
        except Exception as error:  # noqa: BLE001 - unpickling imports and runs the user's code
            return self._lost(form["repr"], path, error)

    def _object(self, digest: str) -> bytes:
        if self._get_object is None:
            raise LookupError("stored objects are not available here")
        return self._get_object(digest)

    def _lost(self, text: str, path: Path, error: Exception) -> Any:
        """What takes the place of a stored value that cannot be had."""
        if self._missing is not None:
            return self._missing(_where(path), text, error)
        raise CodecError(
            f"cannot load {_where(path)}, which was {text} ({type(error).__name__}: {error})"
        ) from error


class _Previewing(Lifting):
    """Shows what it would have to import or unpickle as text."""

    def lift_numpy(self, form: dict[str, Any], path: Path) -> Any:
        if "bytes" in form:
            return f"numpy scalar of type {form['dtype']}"
        return self.lift(form["v"], path)

    def lift_ndarray(self, form: dict[str, Any], path: Path) -> Any:
        dtype, shape = form["dtype"], form["shape"]
        kind = _NUMBERS.get(dtype[1:])
        if kind is None or "object" in form or 0 in shape[1:]:
            return _array_text(form)
        order = ">" if dtype.startswith(">") else "<"
        values = [value for (value,) in struct.iter_unpack(order + kind, _bytes(form["v"]))]
        for size in reversed(shape[1:]):
            values = [values[at : at + size] for at in range(0, len(values), size)]
        return values if shape else values[0]

    def lift_object(self, form: dict[str, Any], path: Path) -> Any:
        return form["repr"]


#: numpy's names of types of numbers -> those of ``struct``.
_NUMBERS: Final = (
    {"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q"}
    | {"u1": "B", "u2": "H", "u4": "I", "u8": "Q"}
    | {"f2": "e", "f4": "f", "f8": "d"}
)

_PATHS: Final[dict[str, Callable[[str], pathlib.PurePath]]] = {
    # A Windows path read on another system keeps its meaning as a pure path.
    "PosixPath": pathlib.Path,
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
}


def _array_text(form: dict[str, Any]) -> str:
    return f"array of type {form['dtype']} and shape {tuple(form['shape'])}"


def _bytes(text: str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)
