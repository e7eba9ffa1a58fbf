"""The run's worker processes: starting, talking, ending."""

from __future__ import annotations

import logging
import os
import random
import selectors
import time
from dataclasses import dataclass

from milepost.engine.protocol import Engine, WorkerHandle, WorkerSpec
from milepost.errors import ChannelClosedError
from milepost.worker.protocol import FromWorker, Recorded, Shutdown, ToWorker

log = logging.getLogger("milepost.control")

#: Base of the seeds of workers whose run has none, so that runs can be repeated.
SEED_VARIABLE = "MILEPOST_SEED"

# A worker whose channel has closed is about to exit; one that is not, is killed after this.
_MUTE_S = 5.0


def cleanup_timeout_s() -> float:
    """How long a worker may take to end before it is killed."""
    return float(os.environ.get("TUNE_FORCE_TRIAL_CLEANUP_S", "600"))


@dataclass(slots=True)
class _Worker:
    handle: WorkerHandle
    registered: bool = True
    recorded: int = 0


class Workers:
    """Worker processes by id.

    Args:
        engine: starts them.
        selector: watches their channels; a key's data is the worker's id.
        seed: base of the seeds of their random generators; the default is ``MILEPOST_SEED`` or,
            where that is not set, random.
    """

    def __init__(self, engine: Engine, selector: selectors.BaseSelector, seed: int | None) -> None:
        self._engine = engine
        self._selector = selector
        base = os.environ.get(SEED_VARIABLE) if seed is None else seed
        self._seeds = random.Random(base)  # noqa: S311 - seeds, not secrets
        self._workers: dict[str, _Worker] = {}
        self._acknowledged: list[str] = []
        self._deadlines: dict[str, float] = {}
        self._cleanup_s = cleanup_timeout_s()

    def start(
        self,
        worker_id: str,
        *,
        name: str,
        cpus: float,
        gpus: tuple[str, ...] | None,
        apart: bool = False,
    ) -> None:
        """Start a process; messages can be sent to it at once.

        Args:
            worker_id: unique within the run.
            name: shown in process lists.
            cpus: as in :class:`WorkerSpec`, as are ``gpus`` and ``apart``.
            gpus: see there.
            apart: see there.

        Raises:
            WorkerStartError: the engine cannot be used.
        """
        seed = self._seeds.getrandbits(32)
        spec = WorkerSpec(worker_id, name, cpus=cpus, gpus=gpus, seed=seed, apart=apart)
        handle = self._engine.start(spec)
        self._workers[worker_id] = _Worker(handle)
        self._selector.register(handle.channel, selectors.EVENT_READ, worker_id)

    def send(self, worker_id: str, message: ToWorker) -> None:
        """Send a message; one to a dead worker is lost, its death is told by the engine."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            try:
                worker.handle.channel.send(message)
            except ChannelClosedError as error:
                log.debug("%s did not get %s: %s", worker_id, type(message).__name__, error)

    def receive(self, worker_id: str) -> list[FromWorker]:
        """Messages that are here; the channel is watched no longer once it has closed."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return []
        channel = worker.handle.channel
        messages = channel.receive_available()
        if channel.ended and worker.registered:
            self._selector.unregister(channel)
            worker.registered = False
            self._give(worker_id, _MUTE_S)
        return messages

    def recorded(self, worker_id: str) -> None:
        """One more report that does not wait is on record; :meth:`acknowledge` says so."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            worker.recorded += 1
            self._acknowledged.append(worker_id)

    def acknowledge(self) -> None:
        """Tell workers what is on record since the last call."""
        for worker_id in self._acknowledged:
            worker = self._workers.get(worker_id)
            if worker is not None and worker.recorded:
                count: Recorded = worker.recorded
                worker.recorded = 0
                self.send(worker_id, count)
        self._acknowledged.clear()

    def end(self, worker_id: str) -> None:
        """Ask a worker to clean up and exit; it is killed if that takes too long."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            self.send(worker_id, Shutdown())
            self._give(worker_id, self._cleanup_s)

    def kill(self, worker_id: str) -> None:
        """Kill a worker and everything it started."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            worker.handle.kill()

    def signal(self, worker_id: str, signum: int) -> None:
        """Send a signal to a worker process alone."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            worker.handle.signal(signum)

    def gone(self, worker_id: str) -> list[FromWorker]:
        """The worker has exited: return what it still said, and forget it."""
        messages = self.receive(worker_id)
        worker = self._workers.pop(worker_id, None)
        self._deadlines.pop(worker_id, None)
        if worker is not None:
            if worker.registered:
                self._selector.unregister(worker.handle.channel)
            worker.handle.channel.close()
        return messages

    def kill_overdue(self, now: float) -> None:
        """Kill the workers that have taken too long to end.

        Args:
            now: monotonic seconds.
        """
        for worker_id, deadline in list(self._deadlines.items()):
            if now >= deadline:
                del self._deadlines[worker_id]
                log.warning("%s has not ended in time: killing it", worker_id)
                self.kill(worker_id)

    def next_deadline(self) -> float | None:
        """When :meth:`kill_overdue` has something to do, in monotonic seconds."""
        return min(self._deadlines.values(), default=None)

    def pid(self, worker_id: str) -> int | None:
        """The process id, once the engine knows it."""
        worker = self._workers.get(worker_id)
        return getattr(worker.handle, "pid", None) if worker is not None else None

    def __len__(self) -> int:
        return len(self._workers)

    def close(self) -> None:
        """Forget all; the engine kills what is left."""
        for worker_id in list(self._workers):
            worker = self._workers.pop(worker_id)
            if worker.registered:
                self._selector.unregister(worker.handle.channel)
            worker.handle.channel.close()

    def _give(self, worker_id: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._deadlines[worker_id] = min(deadline, self._deadlines.get(worker_id, deadline))
