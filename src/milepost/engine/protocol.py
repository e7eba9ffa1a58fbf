"""The engine seam: an engine places worker processes and tells of their death, nothing else.

The messages of a worker travel over our own channel, so no engine ever owns a run's state. The
controller selects on :meth:`Engine.fileno` and on each handle's channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from milepost.worker.channel import Channel
from milepost.worker.protocol import WorkerOutput


class Payload(NamedTuple):
    """The trainable, pickled once per fit.

    Attributes:
        pickled: cloudpickle of the function or class.
        buffers: out-of-band buffers (arrays of ``with_parameters``), which workers map privately.
    """

    pickled: bytes
    buffers: tuple[memoryview, ...] = ()


class WorkerSpec(NamedTuple):
    """What a worker process needs before it can take its first message.

    Attributes:
        worker_id: unique within the engine.
        name: shown in process lists.
        cpus: CPUs reserved for it; sets ``OMP_NUM_THREADS`` to ``max(1, floor(cpus))`` unless set.
        gpus: ids for ``CUDA_VISIBLE_DEVICES``; None leaves the variable alone.
        env: further environment variables.
        seed: for the global random generators.
        apart: it needs a process of its own, also where others run in the driver's.
    """

    worker_id: str
    name: str
    cpus: float = 1.0
    gpus: tuple[str, ...] | None = None
    env: Mapping[str, str] | None = None
    seed: int = 0
    apart: bool = False


class Exited(NamedTuple):
    """A worker process has ended.

    Attributes:
        exit_code: its exit status, or None when a signal ended it.
        signal: the number of that signal, or None.
        engine_died: how a process of the engine died that took the worker along, which did nothing
            to deserve it; empty for one that ended by itself.
    """

    worker_id: str
    exit_code: int | None
    signal: int | None
    engine_died: str = ""

    def describe(self) -> str:
        """How it ended, for messages: ``exit code 3`` or ``signal 9 (SIGKILL)``."""
        import signal

        if self.signal is None:
            return f"exit code {self.exit_code}"
        try:
            return f"signal {self.signal} ({signal.Signals(self.signal).name})"
        except ValueError:
            return f"signal {self.signal}"


class Output(NamedTuple):
    """A worker wrote to its standard output or error."""

    worker_id: str
    output: WorkerOutput


class StartFailed(NamedTuple):
    """A worker could not be started; no ``Exited`` follows.

    Attributes:
        engine_died: how a process of the engine died before it had started the worker; empty for
            other reasons.
    """

    worker_id: str
    reason: str
    engine_died: str = ""


EngineEvent = Exited | Output | StartFailed


class WorkerHandle(Protocol):
    """A started worker."""

    @property
    def worker_id(self) -> str:
        """The id of its spec."""
        ...

    @property
    def pid(self) -> int | None:
        """Its process id; None until it is known."""
        ...

    @property
    def channel(self) -> Channel:
        """Connected already; messages may be sent at once."""
        ...

    def kill(self) -> None:
        """Kill the worker and every process of its session; safe when it has ended."""
        ...

    def signal(self, signum: int) -> None:
        """Send a signal to the worker process alone; safe when it has ended."""
        ...


class Engine(Protocol):
    """Places worker processes.

    After a crash of the driver, no worker stays behind.
    """

    def prepare(self, cpus: float = 1.0) -> None:
        """Start what workers with that many CPUs need ahead of time; returns at once.

        Optional, but worth calling as soon as a fit is known to come.

        Raises:
            WorkerStartError: if the engine itself cannot be used.
        """
        ...

    def load(self, payload: Payload) -> None:
        """Hand over the trainable that the next workers run."""
        ...

    def start(self, spec: WorkerSpec) -> WorkerHandle:
        """Start a worker and return at once.

        Raises:
            WorkerStartError: if the engine itself cannot be used.
        """
        ...

    def fileno(self) -> int:
        """Readable when :meth:`events` has something."""
        ...

    def events(self) -> list[EngineEvent]:
        """What happened since the last call; never waits.

        All output that a worker wrote comes before its :class:`Exited`. Messages that it sent may
        still be in its channel then: read that before acting on the event.
        """
        ...

    def close(self) -> None:
        """Kill every worker and release everything; safe to call twice."""
        ...
