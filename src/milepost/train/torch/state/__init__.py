"""State that N workers save and M workers load, on PyTorch Distributed Checkpoint."""

from __future__ import annotations

import os
from concurrent.futures import Future
from typing import Any

from milepost.api.spelling import spelled
from milepost.train.torch.library import pytorch

__all__ = ["load_state", "save_state", "save_state_async"]


@spelled
def save_state(state: dict[str, Any], directory: str | os.PathLike[str]) -> None:
    """Write this rank's part of a state into a directory, complete when the function returns.

    All ranks of the process group must call it together, each with a directory of its own, and
    pass that to ``report(metrics, checkpoint=Checkpoint.from_directory(directory))``: the
    checkpoint has the files of all. Without a process group the one process writes everything.
    :func:`load_state` loads it on any number of workers, to the same bits. Not in Ray.
    :func:`save_state_async` returns earlier, and takes memory for that.

    Every rank that holds a part of a tensor writes ``state-<rank>-of-<ranks>.safetensors``; what
    all ranks have in full (a DDP model, for one) is written by the lowest of them, and that of
    the other ranks counts as equal. Rank 0 also writes ``state.index.json``, which has all other
    values and says where the parts of each tensor are. There is no pickle. Tensors on GPUs pass
    through 64 MiB of memory at a time, others are written from where they are; the call is
    synchronous, because ``report`` captures the files as they are then, and the copy to storage
    does not hold up the training after that.

    Args:
        state: by name: modules (plain, in DDP, or with ``fully_shard``; names are those of the
            plain module); optimizers of modules that are in the state as well; objects with
            ``state_dict`` and ``load_state_dict``, such as learning rate schedulers; tensors;
            and numbers, text, None and other values that JSON holds or can be tagged in it
            (tuples, sets, bytes, dates, numpy arrays); all of these in dicts, lists and tuples at
            any depth. A name or key may be on some ranks only, such as ``f"rng/{rank}"``.
        directory: where to write; made if it is not there.

    Raises:
        TypeError: the state is no dict, or a value cannot be held without a pickle; the message
            has its key.
        ValueError: ranks have different values for one key, an optimizer has parameters of no
            module in the state, two keys have one name, or a tensor has a form that cannot be
            written.
        FileExistsError: a state was written into the directory before.
        RuntimeError: there are several workers and no process group, or another rank failed; the
            message has its error.
        Exception: of a :func:`save_state_async` before, if nobody has asked for it.
        ImportError: PyTorch is not installed.

    Example:
        ``save_state({"model": model, "optimizer": optimizer, "epoch": epoch}, directory)``
    """
    pytorch()
    from milepost.train.torch.state.saving import save

    save(state, os.fspath(directory))


@spelled
def save_state_async(state: dict[str, Any], directory: str | os.PathLike[str]) -> Future[None]:
    """Copy this rank's part of a state, and write it while the training goes on.

    As :func:`save_state`, but for when the files are there. What is saved is the state at the call,
    which returns when this rank's part has been copied into the host's memory. A thread of this
    process then writes it, without a word to other ranks. At most one such copy is in memory: the
    next call of either function waits until the one before has been written.

    ``report`` waits for a directory that it is given, and for those in it. Without it, the state is
    complete when the futures of all ranks are done; until then :func:`load_state` raises
    ``CorruptCheckpointError``. A training function and a process end when all is written.

    What went wrong is raised by the future, and by each ``report`` of the directory, before
    anything is reported. If nobody has asked by then, it is raised by the next call of either
    function, or at the end of the training function; and logged if that has failed already, or
    when the process ends. In all cases ``load_state`` takes the directory for no state.

    Args:
        state: as for :func:`save_state`.
        directory: as for :func:`save_state`; it must stay until everything is written.

    Returns:
        A future that is done when this rank's files are complete, and raises what kept them from
        that, an ``OSError`` as a rule. It cannot be cancelled.

    Raises:
        Exception: as :func:`save_state`, or of the call before, see above. Nothing is written then.
        RuntimeError: as there; or PyTorch has found no room for the copy.

    Example:
        ``save_state_async({"model": model, "optimizer": optimizer}, directory)``
    """
    pytorch()
    from milepost.train.torch.state.saving import save_async

    return save_async(state, os.fspath(directory))


@spelled
def load_state(state: dict[str, Any], directory: str | os.PathLike[str]) -> None:
    """Fill a state from a directory that has all files of :func:`save_state`, in place.

    All ranks of the process group must call it together; it need not have as many ranks as the
    one that saved, or be there at all. Nothing has changed when it raises because of something
    that does not fit. Nothing is unpickled, and no code runs that a file could name. Not in Ray.

    Args:
        state: what to load, by name; names that were saved and are not here are left out. Modules,
            optimizers and objects with ``load_state_dict`` load what belongs to them. Tensors are
            filled, in dicts, lists and tuples as well, and must have the same keys, shapes and
            dtypes. Any other value, such as None or 0, is replaced by what was saved; tensors in
            that come whole, on the CPU.
        directory: the checkpoint's, as from ``checkpoint.as_directory()``.

    Raises:
        FileNotFoundError: the directory holds no such state.
        CorruptCheckpointError: a file is missing, cut off or damaged; the message has its name
            and keys that are in it.
        TypeError: the state is no dict.
        ValueError: something here was not saved, something saved inside a module, an optimizer or
            a dict of tensors is not here, or shapes or dtypes differ; the message has the keys.
        RuntimeError: another rank failed; the message has its error.
        ImportError: PyTorch is not installed.

    Example:
        ``load_state({"model": model}, directory)``
    """
    pytorch()
    from milepost.train.torch.state.loading import load

    load(state, os.fspath(directory))
