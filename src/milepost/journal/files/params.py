"""``params.json`` and ``params.pkl``: the config of a trial."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any, Final

import msgspec

from milepost.journal import files
from milepost.journal.files.rows import plain, to_json
from milepost.storage.codec import Lifting

JSON_NAME: Final = "params.json"
PICKLE_NAME: Final = "params.pkl"


def write(directory: str, config: msgspec.Raw, get_object: Callable[[str], bytes]) -> None:
    """Write both files of a trial's config.

    Args:
        directory: the trial's directory.
        config: codec JSON.
        get_object: returns the bytes for a digest. A pickle is put into ``params.pkl`` as it is
            and never loaded here, so the user's modules are not needed.
    """
    value = _Repickled(get_object).lift(msgspec.json.decode(config))
    files.replace(os.path.join(directory, PICKLE_NAME), pickle.dumps(value))
    # Last, so that the text vouches for the pickle after a crash; see ensure().
    files.replace(os.path.join(directory, JSON_NAME), _text(config, get_object))


def ensure(directory: str, config: msgspec.Raw, get_object: Callable[[str], bytes]) -> None:
    """Write both files unless they show this config already; arguments as for :func:`write`."""
    try:
        with open(os.path.join(directory, JSON_NAME), "rb") as file:
            shown = file.read() == _text(config, get_object)
    except FileNotFoundError:
        shown = False
    if not shown:
        write(directory, config, get_object)


def _text(config: msgspec.Raw, get_object: Callable[[str], bytes]) -> bytes:
    return (to_json(plain(config, get_object), pretty=True) + "\n").encode()


class _Stored:
    """Stands for a pickled value inside another pickle; loading that one loads it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return pickle.loads, (self._data,)


class _Repickled(Lifting):
    """Gives back stored values, but for pickled ones, which stay pickled."""

    def lift_object(self, form: dict[str, Any], path: tuple[object, ...]) -> Any:
        assert self._get_object is not None
        return _Stored(self._get_object(form["v"]))
