"""The trainable on its way to the workers: pickled once, mapped by every worker.

The pickle and its out-of-band buffers (arrays given to ``with_parameters``) lie in one anonymous
memory file. Workers map it privately: they share the pages until they write to them, and what one
trial writes, no other sees.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import pickle
import sys
from collections.abc import Sequence
from typing import Any

from milepost.engine.protocol import Payload

_ALIGNMENT = 64
_SHARED_FROM_BYTES = 1 << 16  # smaller buffers are cheaper inside the pickle


def pack(trainable: Any) -> Payload:
    """Pickle a trainable for :meth:`Engine.load`; large arrays and tensors are not copied yet.

    What is defined in the user's script or locally travels by value, installed code by reference.

    Raises:
        TypeError: it cannot be pickled; the message says what is in the way.
    """
    import cloudpickle

    buffers: list[memoryview] = []

    def take(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _SHARED_FROM_BYTES:
            return True  # keep it inside
        buffers.append(raw)
        return False

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            reduced = _reduce_tensor(obj)
            return super().reducer_override(obj) if reduced is None else reduced

    out = io.BytesIO()
    try:
        Pickler(out, protocol=5, buffer_callback=take).dump(trainable)
    except Exception as error:
        name = getattr(trainable, "__name__", None) or type(trainable).__name__
        raise TypeError(
            f"the trainable {name!r} cannot be sent to worker processes: {error}. It, or something "
            "it refers to, cannot be pickled: such as an open file, a lock, a socket or a "
            "generator. Create such things inside the trainable."
        ) from error
    return Payload(out.getvalue(), tuple(buffers))


def write(payload: Payload) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Write a payload into a memory file.

    Returns:
        The file's descriptor, and offset and size of the pickle and of each buffer.
    """
    parts: Sequence[bytes | memoryview] = (payload.pickled, *payload.buffers)
    layout: list[tuple[int, int]] = []
    end = 0
    for part in parts:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        size = memoryview(part).nbytes
        layout.append((start, size))
        end = start + size
    fd = os.memfd_create("milepost-trainable", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, end)
        for part, (start, _) in zip(parts, layout, strict=True):
            view, done = memoryview(part).cast("B"), 0
            while done < len(view):
                done += os.pwrite(fd, view[done:], start + done)
    except BaseException:
        os.close(fd)
        raise
    return fd, tuple(layout)


def read(fd: int, layout: Sequence[tuple[int, int]]) -> Any:
    """Map a payload and unpickle it; its buffers stay mapped as long as they are used.

    Raises:
        Exception: whatever unpickling raises, such as an import error of a user's module.
    """
    (start, size), *buffers = layout
    end = max(offset + length for offset, length in layout)
    whole = memoryview(mmap.mmap(fd, end, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE))
    return pickle.loads(
        whole[start : start + size],
        buffers=[whole[offset : offset + length] for offset, length in buffers],
    )


def _reduce_tensor(obj: Any) -> Any:
    """Reduce a plain CPU tensor to a shared buffer; None for everything else.

    Tensors pickle their bytes in line otherwise. Only a tensor that is all of its storage is
    taken, as views that share one must keep sharing it.
    """
    torch = sys.modules.get("torch")
    if torch is None or type(obj) is not getattr(torch, "Tensor", None):
        return None
    with contextlib.suppress(RuntimeError, NotImplementedError, TypeError, AttributeError):
        if (
            obj.device.type == "cpu"
            and obj.layout is torch.strided
            and not obj.requires_grad
            and obj.is_contiguous()
            and not obj.is_conj()
            and not obj.is_neg()
            and not obj.__dict__
            and obj.nbytes >= _SHARED_FROM_BYTES
            and obj.untyped_storage().nbytes() == obj.nbytes
        ):
            array = obj.view(torch.uint8).numpy() if obj.dim() else None
            if array is not None:
                return _rebuild_tensor, (array, obj.dtype, tuple(obj.shape))
    return None


def _rebuild_tensor(array: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    import torch

    return torch.from_numpy(array).view(dtype).reshape(shape)
