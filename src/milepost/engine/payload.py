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
from typing import Any, NamedTuple

from milepost.engine.protocol import Payload
from milepost.worker.protocol import take_script_by_value

_ALIGNMENT = 64
_SHARED_FROM_BYTES = 1 << 16  # smaller buffers are cheaper inside the pickle


def pack(trainable: Any) -> Payload:
    """Pickle a trainable for :meth:`Engine.load`; large arrays and tensors are not copied yet.

    What is defined in the user's script or locally travels by value, installed code by reference.

    Raises:
        TypeError: it cannot be pickled; the message says what is in the way.
    """
    import cloudpickle

    take_script_by_value()
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


class Surroundings(NamedTuple):
    """What the workers of a payload take over from the driver.

    Attributes:
        sys_path: module search path.
        cwd: working directory, before they change into a trial's.
        environment: environment variables.
    """

    sys_path: tuple[str, ...]
    cwd: str
    environment: dict[str, str]


def write(payload: Payload, surroundings: Surroundings) -> tuple[int, int]:
    """Write a payload into a memory file.

    Returns:
        The file's descriptor, and where in it the index begins that :func:`open_payload` needs.
    """
    parts: list[bytes | memoryview] = [pickle.dumps(surroundings), payload.pickled]
    parts += payload.buffers
    fd = os.memfd_create("milepost-trainable", os.MFD_CLOEXEC)
    try:
        spans = []
        end = 0
        for part in parts:
            spans.append((end, memoryview(part).nbytes))
            end = _append(fd, part, end)
        _append(fd, pickle.dumps(spans), end)
    except BaseException:
        os.close(fd)
        raise
    return fd, end


def _append(fd: int, part: bytes | memoryview, start: int) -> int:
    """Write a part and return where the next one may begin."""
    view, done = memoryview(part).cast("B"), 0
    while done < len(view):
        done += os.pwrite(fd, view[done:], start + done)
    return -(-(start + done) // _ALIGNMENT) * _ALIGNMENT


class MappedPayload:
    """A payload in a worker: a private mapping, which lasts as long as its arrays are used.

    Args:
        fd: the memory file; it may be closed afterwards.
        index: where its index begins.
    """

    def __init__(self, fd: int, index: int) -> None:
        size = os.fstat(fd).st_size
        self._whole = memoryview(
            mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        )
        first, *rest = pickle.loads(self._whole[index:])
        self.surroundings: Surroundings = pickle.loads(self._part(first))
        self._spans = rest

    def trainable(self) -> Any:
        """Unpickle the trainable; to be called once.

        Raises:
            Exception: whatever unpickling raises, such as an import error of a user's module.
        """
        pickled, *buffers = map(self._part, self._spans)
        return pickle.loads(pickled, buffers=buffers)

    def _part(self, span: tuple[int, int]) -> memoryview:
        start, size = span
        return self._whole[start : start + size]


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
