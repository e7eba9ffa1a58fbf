"""Training workers: processes of their own, which meet over gloo."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
import traceback
import uuid
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from milepost.train.context import TrainContext, entered

Run = Callable[..., list[Any]]
Worker = Callable[..., contextlib.AbstractContextManager[None]]


def _context(rank: int, ranks: int) -> TrainContext:
    return TrainContext(
        experiment_name="run",
        world_rank=rank,
        world_size=ranks,
        local_rank=rank,
        local_world_size=ranks,
        node_rank=0,
        storage=None,  # type: ignore[arg-type]
    )


class _ByValue:
    """A function that the child gets without importing a module of tests."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._data = cloudpickle.dumps(function)

    def __reduce__(self) -> Any:
        return cloudpickle.loads, (self._data,)

    def __call__(self) -> None:
        raise NotImplementedError


def _rank(connection: Connection, call: bytes, meeting: str, rank: int, ranks: int) -> None:
    import warnings

    import torch
    import torch.distributed as group

    warnings.simplefilter("error")
    torch.set_num_threads(1)
    function, args = cloudpickle.loads(call)
    try:
        group.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
        with entered(_context(rank, ranks)):
            result = function(*args)
        group.destroy_process_group()
    except BaseException as error:
        trace = traceback.format_exc()
        connection.send_bytes(cloudpickle.dumps((error, trace)))
    else:
        connection.send_bytes(cloudpickle.dumps((None, result)))


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a function in several workers at once; returns what each returned, or its exception.

    ``workers(n, function, *args, failing=False)``; without ``failing`` an exception is an error.
    """
    # It removes a directory of its own when Python ends; those of tests are gone by then.
    monkeypatch.setattr(tempfile, "tempdir", os.environ["PYTEST_DEBUG_TEMPROOT"])
    processes = multiprocessing.get_context("forkserver")
    # Importing PyTorch takes seconds; workers are forked off one process that has done it.
    processes.set_forkserver_preload(["torch._dynamo", "torch.distributed.checkpoint.state_dict"])

    def run(ranks: int, function: Callable[..., Any], *args: Any, failing: bool = False) -> Any:
        meeting = f"file://{tmp_path}/meeting-{uuid.uuid4().hex}"
        call = cloudpickle.dumps((function, args))
        pipes, started = [], []
        for rank in range(ranks):
            here, there = processes.Pipe(duplex=False)
            process = processes.Process(
                target=_ByValue(_rank), args=(there, call, meeting, rank, ranks), daemon=True
            )
            process.start()
            there.close()
            pipes.append(here)
            started.append(process)
        try:
            results = []
            for here in pipes:
                assert here.poll(50), "a worker hangs"
                error, result = cloudpickle.loads(here.recv_bytes())
                assert failing or error is None, result
                results.append(error or result)
            return results
        finally:
            for process, here in zip(started, pipes, strict=True):
                process.join(5)
                process.kill()
                process.join()
                process.close()
                here.close()

    return run


@pytest.fixture
def worker() -> Worker:
    """Make this process one of several workers, without a process group, for a while."""

    @contextlib.contextmanager
    def become(rank: int = 0, ranks: int = 1) -> Iterator[None]:
        with entered(_context(rank, ranks)):
            yield

    return become
