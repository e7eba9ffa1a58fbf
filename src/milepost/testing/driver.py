"""Drive workers of an engine by hand, without a run: for tests of engines and trainables.

:class:`TrialDriver` plays the controller's part of the conversation with real workers.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from milepost.engine.payload import pack
from milepost.engine.protocol import (
    Engine,
    Exited,
    Output,
    StartFailed,
    WorkerHandle,
    WorkerSpec,
)
from milepost.errors import ChannelClosedError
from milepost.journal import experiment as experiments
from milepost.keeper.client import DriverLink
from milepost.keeper.intent import ExperimentRef
from milepost.keeper.protocol import KeeperEvent
from milepost.worker.protocol import (
    Counters,
    Failed,
    Finished,
    FromWorker,
    Reply,
    Reported,
    RunTrial,
    Shutdown,
    StorageRef,
    dump,
    load,
)

Decide = Callable[[dict[str, Any]], Reply]


def go_on(row: dict[str, Any]) -> Reply:
    """Let the trial continue, whatever it reports."""
    return Reply("continue")


@dataclass
class DrivenWorker:
    """A worker and everything it has said.

    Attributes:
        handle: the engine's handle.
        messages: all messages, in order; ``rows`` the decoded rows among them.
        output: what it wrote, by stream.
        exited: how it ended, or None.
        start_failed: why it never started, or None.
    """

    handle: WorkerHandle
    decide: Decide = go_on
    messages: list[FromWorker] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    output: dict[str, bytes] = field(default_factory=lambda: {"stdout": b"", "stderr": b""})
    exited: Exited | None = None
    start_failed: StartFailed | None = None

    @property
    def end(self) -> Finished | Failed | None:
        """How user code ended, if it has."""
        last = self.messages[-1] if self.messages else None
        return last if isinstance(last, Finished | Failed) else None

    @property
    def gone(self) -> bool:
        """Whether the process has ended, or never was."""
        return self.exited is not None or self.start_failed is not None

    @property
    def stdout(self) -> str:
        """What it wrote to standard output."""
        return self.output["stdout"].decode()

    @property
    def stderr(self) -> str:
        """What it wrote to standard error."""
        return self.output["stderr"].decode()


class TrialDriver:
    """Starts workers on an engine and answers their reports.

    Attributes:
        engine: the engine.
        workers: all workers, by id.
        keeper_events: what the keeper has told.

    Args:
        engine: the engine; it is closed on leaving the context.
        trainable: function or ``Trainable`` class that the workers run.
        directory: becomes the experiment's directory.
        kind: which of the two it is.
        link: to a keeper, for trials that report checkpoints; it is not closed.
        timeout_s: how long any wait may take.
    """

    def __init__(
        self,
        engine: Engine,
        trainable: Any,
        directory: str | os.PathLike[str],
        *,
        kind: Any = "function",
        link: DriverLink | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.engine = engine
        self.workers: dict[str, DrivenWorker] = {}
        self._kind = kind
        self._timeout_s = timeout_s
        self._directory = os.fspath(directory)
        self._link = link
        self.keeper_events: list[KeeperEvent] = []
        self._storage = self._open()
        engine.load(pack(trainable))

    def start(self, decide: Decide = go_on, **spec: Any) -> DrivenWorker:
        """Start a worker; ``spec`` are fields of its :class:`WorkerSpec`."""
        worker_id = spec.pop("worker_id", f"worker-{len(self.workers)}")
        handle = self.engine.start(WorkerSpec(worker_id, spec.pop("name", "trial"), **spec))
        worker = DrivenWorker(handle, decide)
        self.workers[worker_id] = worker
        return worker

    def send_trial(self, worker: DrivenWorker, config: Any = None, **fields: Any) -> None:
        """Give a worker a trial; ``fields`` replace those of its :class:`RunTrial`."""
        trial_id = fields.pop("trial_id", "t1")
        fields.setdefault("trial_dir", os.path.join(self._directory, trial_id))
        message = RunTrial(
            kind=self._kind,
            trial_id=trial_id,
            trial_name=fields.pop("trial_name", f"train_{trial_id}"),
            config=dump({} if config is None else config),
            attempt=fields.pop("attempt", 0),
            attempt_id=fields.pop("attempt_id", uuid.uuid4().hex),
            first_index=fields.pop("first_index", 0),
            counters=fields.pop("counters", Counters()),
            storage=self._storage,
            **fields,
        )
        worker.handle.channel.send(message)

    def _open(self) -> StorageRef:
        """Tell workers where they are; with a keeper, make the directory an experiment of its."""
        name, address, node_root, uuid_ = os.path.basename(self._directory), "", "", ""
        if self._link is not None:
            experiment = experiments.create(self._directory, name=name, trainable="trainable")
            address, node_root, uuid_ = self._link.address, self._link.node_root, experiment.uuid
        info = os.stat(self._directory)
        if self._link is not None:
            self._link.own(
                ExperimentRef(
                    path=self._directory, device=info.st_dev, inode=info.st_ino, uuid=uuid_
                ),
                epoch=1,
            )
        return StorageRef(
            self._directory, name, uuid_, info.st_dev, info.st_ino, address, node_root
        )

    def run(self, config: Any = None, *, decide: Decide = go_on, **fields: Any) -> DrivenWorker:
        """Run one trial in a worker of its own, to the end of the process."""
        worker = self.start(decide)
        self.send_trial(worker, config, **fields)
        self.wait(lambda: worker.end is not None or worker.gone)
        self.shut_down(worker)
        return worker

    def shut_down(self, worker: DrivenWorker) -> None:
        """Tell a worker to end and wait until it has."""
        with contextlib.suppress(ChannelClosedError):
            worker.handle.channel.send(Shutdown())
        self.wait(lambda: worker.gone)

    def wait(self, until: Callable[[], bool]) -> None:
        """Converse with all workers until something holds.

        Raises:
            TimeoutError: it did not in time; the message holds what was said.
        """
        deadline = time.monotonic() + self._timeout_s
        while not until():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"after {self._timeout_s} s: {self.workers}")
            self._pump(left)

    def _pump(self, timeout_s: float) -> None:
        poll = select.poll()
        poll.register(self.engine.fileno(), select.POLLIN)
        for worker in self.workers.values():
            if worker.handle.channel.fileno() >= 0 and not worker.handle.channel.ended:
                poll.register(worker.handle.channel.fileno(), select.POLLIN)
        if self._link is not None:
            poll.register(self._link.fileno(), select.POLLIN)
        poll.poll(timeout_s * 1000)
        if self._link is not None:
            self.keeper_events += self._link.events()
        for worker in self.workers.values():
            self._listen(worker)
        for event in self.engine.events():
            worker = self.workers[event.worker_id]
            if isinstance(event, Output):
                worker.output[event.output.stream] += event.output.data
            elif isinstance(event, Exited):
                self._listen(worker)  # what it sent before is still there
                worker.exited = event
            else:
                worker.start_failed = event

    def _listen(self, worker: DrivenWorker) -> None:
        if worker.handle.channel.fileno() < 0:
            return
        for message in worker.handle.channel.receive_available():
            worker.messages.append(message)
            if isinstance(message, Reported):
                row = load(message.row)
                worker.rows.append(row)
                reply = worker.decide(row)
                with contextlib.suppress(ChannelClosedError):
                    worker.handle.channel.send(reply if message.awaited else 1)

    def close(self) -> None:
        """Close the engine and all channels."""
        self.engine.close()
        for worker in self.workers.values():
            worker.handle.channel.close()

    def __enter__(self) -> TrialDriver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
