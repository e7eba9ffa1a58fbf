"""``state.index.json``: where the parts of each tensor are, and every other value.

The tree mirrors the state. A node is an object with one member, whose name is the node's kind:
``tensor`` (its name among the tensors), ``value`` (JSON with the tags of
``milepost.storage.codec``), ``list``, ``tuple`` (nodes), ``dict``, ``module``, ``ordered`` (pairs
of a key and a node), or ``counter`` (one node).
"""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec

from milepost.errors import CorruptCheckpointError

NAME: Final = "state.index.json"
_FORMAT: Final = "milepost.train.torch.state"
_VERSION: Final = 1

Node = dict[str, Any]


class Chunk(msgspec.Struct, frozen=True):
    """A part of a tensor: elements from ``offsets`` on, ``shape`` many, at a byte of a file."""

    file: str
    at: int
    offsets: tuple[int, ...]
    shape: tuple[int, ...]


class Stored(msgspec.Struct, frozen=True):
    """A tensor: its dtype in the names of safetensors, and its parts."""

    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


class Index(msgspec.Struct, frozen=True):
    """What a directory holds: tensors by name, files by name with their sizes in bytes."""

    ranks: int
    files: dict[str, int]
    tensors: dict[str, Stored]
    tree: Node
    format: str = _FORMAT
    version: int = _VERSION


_DECODER: Final = msgspec.json.Decoder(Index)


def file_of(rank: int, ranks: int) -> str:
    """Return the name of a rank's file of tensors."""
    return f"state-{rank:05d}-of-{ranks:05d}.safetensors"


def write(index: Index, directory: str) -> None:
    """Write the index of a directory."""
    with open(os.path.join(directory, NAME), "xb") as file:
        file.write(msgspec.json.encode(index))


def read(directory: str) -> Index:
    """Return the index of a directory, all of whose files are there and have their sizes.

    Raises:
        FileNotFoundError: there is none.
        CorruptCheckpointError: it is damaged or of a newer version, or a file is missing or cut.
    """
    path = os.path.join(directory, NAME)
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(_nothing(directory)) from None
    try:
        index = _DECODER.decode(raw)
    except msgspec.DecodeError as error:
        raise CorruptCheckpointError(
            f"{path} is not an index that save_state wrote ({error}). Load an older checkpoint."
        ) from error
    if index.format != _FORMAT or index.version > _VERSION:
        raise CorruptCheckpointError(
            f"{path} has format {index.format!r}, version {index.version}; this version of "
            f"Milepost reads {_FORMAT!r} up to {_VERSION}. A newer one may have written it."
        )
    _check_names(index, path)
    _check_files(index, directory)
    return index


def _check_names(index: Index, path: str) -> None:
    """Refuse names that lead out of the directory; the index may come from anywhere."""
    named = {*index.files, *(c.file for one in index.tensors.values() for c in one.chunks)}
    for name in sorted(named):
        if os.path.basename(name) != name or name in ("", ".", ".."):
            raise CorruptCheckpointError(
                f"{path} names the file {name!r}, which is not one of its directory. Nothing was "
                "read. Load an older checkpoint."
            )


def _check_files(index: Index, directory: str) -> None:
    for name, expected in index.files.items():
        try:
            size = os.path.getsize(os.path.join(directory, name))
        except FileNotFoundError:
            raise CorruptCheckpointError(
                f"{name} is missing in {directory}, a state of {index.ranks} ranks. It has "
                f"{_keys_in(index, name)}. Every rank must pass its directory to report(); pass "
                "load_state the directory of the whole checkpoint."
            ) from None
        if size != expected:
            raise CorruptCheckpointError(
                f"{os.path.join(directory, name)} has {size:,} bytes, and {expected:,} were "
                f"written. It has {_keys_in(index, name)}. Load an older checkpoint."
            )


def _keys_in(index: Index, file: str) -> str:
    names = [n for n, one in index.tensors.items() if any(c.file == file for c in one.chunks)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _nothing(directory: str) -> str:
    text = f"{directory} holds no state that save_state wrote: there is no {NAME} in it."
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return f"{text} There is no such directory."
    except NotADirectoryError:
        return f"{text} It is no directory."
    if any(name.startswith("state-") and name.endswith(".safetensors") for name in names):
        return (
            f"{text} Rank 0 writes it, and this directory has only files of others: every rank "
            "must pass its directory to report()."
        )
    if ".metadata" in names:
        return f"{text} torch.distributed.checkpoint.load reads what is there."
    return f"{text} It has: {', '.join(names[:8]) or 'nothing'}."
