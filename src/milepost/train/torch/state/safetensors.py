"""Files in the format of safetensors: a header in JSON, and bytes.

The format is small enough to be written here, so that the library is not needed. Files also have
the member by which PyTorch's reader of this format finds the places of parts in their tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final

import numpy
import torch

_NAMES: Final = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
}
#: The dtypes that files can hold, in safetensors' names; older versions of PyTorch have not all.
DTYPES: Final = {
    name: getattr(torch, ours) for name, ours in _NAMES.items() if hasattr(torch, ours)
}
#: The same, by dtype.
NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}

_STAGE_BYTES: Final = 64 * 2**20


@dataclass(frozen=True)
class Part:
    """A part of a tensor that is to be written; ``read`` is called when it is its turn.

    What it returns has the dtype and shape that are said here.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    read: Callable[[], torch.Tensor]

    @property
    def size_bytes(self) -> int:
        """How much it takes in the file."""
        return math.prod(self.shape) * int(self.dtype.itemsize)


@dataclass(frozen=True)
class Layout:
    """What a file will be.

    Attributes:
        head: its first bytes.
        parts: what follows, in that order.
        begins: the byte at which each part begins, in the order in which they were given.
        size_bytes: how large the file will be.
    """

    head: bytes
    parts: tuple[Part, ...]
    begins: tuple[int, ...]
    size_bytes: int


def lay_out(parts: Sequence[Part]) -> Layout:
    """Find a place for everything; nothing is read yet.

    Args:
        parts: what is to be in the file; names may repeat.
    """
    # Larger elements first: then each begins at a multiple of its size.
    order = sorted(range(len(parts)), key=lambda at: -parts[at].dtype.itemsize)
    header: dict[str, Any] = {}
    places: dict[str, Any] = {}
    begins = [0] * len(parts)
    end = 0
    for at in order:
        part = parts[at]
        begins[at], end = end, end + part.size_bytes
        name = _free(part.name, header)
        places[name] = {"saved_offsets": part.offsets}
        header[name] = {
            "dtype": NAMES[part.dtype],
            "shape": part.shape,
            "data_offsets": [begins[at], end],
        }
    extra = {"format": "pt", "DCP_SHARDING_INFO": json.dumps(places)}
    text = json.dumps({"__metadata__": extra, **header}).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    return Layout(
        head,
        tuple(parts[at] for at in order),
        tuple(len(head) + begin for begin in begins),
        len(head) + end,
    )


def snapshot(layout: Layout) -> Layout:
    """Read everything now, into memory of the host that nothing else writes to."""
    return replace(layout, parts=tuple(_copied(part) for part in layout.parts))


def write(path: str, layout: Layout) -> None:
    """Write a new file."""
    with open(path, "xb") as file:
        file.write(layout.head)
        for part in layout.parts:
            _put(file, part.read())


def _copied(part: Part) -> Part:
    copy = torch.empty(part.shape, dtype=part.dtype).copy_(part.read().detach())
    return replace(part, read=lambda: copy)


def _free(name: str, taken: dict[str, Any]) -> str:
    """A rank's second part of a tensor needs another name in the file."""
    free, n = name, 1
    while free in taken:
        n += 1
        free = f"{name}#{n}"
    return free


def _put(file: BinaryIO, tensor: torch.Tensor) -> None:
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().view(-1)
    if flat.device.type == "cpu":
        _put_bytes(file, flat)
        return
    count = _STAGE_BYTES // flat.element_size()
    for begin in range(0, flat.numel(), count):
        _put_bytes(file, flat[begin : begin + count].cpu())


def _put_bytes(file: BinaryIO, flat: torch.Tensor) -> None:
    if flat.numel():
        file.write(flat.view(torch.uint8).numpy().data)


def opened(path: str) -> numpy.ndarray[Any, Any]:
    """Return the bytes of a file, which are read when they are used."""
    # Copy on write: PyTorch has no tensors that are read-only.
    return numpy.memmap(path, numpy.uint8, mode="c")


def part(data: numpy.ndarray[Any, Any], at: int, dtype: str, shape: Sequence[int]) -> torch.Tensor:
    """Return a part of a tensor that lies in the bytes of a file; it shares their memory."""
    kind = DTYPES[dtype]
    size = math.prod(shape) * kind.itemsize
    return torch.from_numpy(data[at : at + size]).view(kind).view(tuple(shape))
