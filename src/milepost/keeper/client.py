"""The driver's link to its keeper: starts one when it is needed, and another when it dies."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque

import milepost
from milepost.errors import ChannelClosedError, StorageError
from milepost.keeper.address import listen
from milepost.keeper.home import Home
from milepost.keeper.intent import ExperimentRef
from milepost.keeper.place import captures, prune, staging_places
from milepost.keeper.place import node_root as default_node_root
from milepost.keeper.protocol import (
    Delete,
    Deleted,
    Drain,
    Drained,
    DriverRequest,
    KeeperEvent,
    Own,
    Release,
    Released,
    decode_event,
    encode,
)
from milepost.keeper.recovery import sweep_scratch
from milepost.keeper.settings import drain_s, staging_bytes
from milepost.keeper.wire import Wire

log = logging.getLogger("milepost.keeper")

_DEATHS = 5
_DEATHS_WITHIN_S = 60.0
_LOG_TAIL_BYTES = 2000


class DriverLink:
    """One driver's connection to its keeper on this node, for one experiment at a time.

    The keeper is started at the first checkpoint, or by a request that needs one. When it dies it
    is replaced, and everything unanswered is asked again: events may therefore come twice.

    It belongs to one thread. Close it, or use it in a ``with`` statement.

    *A restoring driver* first lets the keeper of the earlier run finish
    (:func:`.owner.await_predecessor`), then takes the journal over, then calls :meth:`own`: the new
    keeper commits what that run had captured and nobody had committed, and tells of each by
    :class:`Committed` (``recovered``, with the row) or :class:`CommitFailed`. Before it chooses
    what a trial starts from, it calls :meth:`drain` for it: these events come before the answer.
    Its ``highest_index`` counts every number that was in staging, also of captures that were
    never completed, so the next start's numbers must be above it.

    Args:
        node_root: directory of this node's staging and sockets; default
            ``$MILEPOST_NODE_ROOT``, or ``milepost-<uid>`` in the temporary directory.

    Raises:
        StorageError: the node root cannot be used.
        ValueError: ``MILEPOST_STAGING_BYTES`` or ``MILEPOST_DRAIN_S`` is not a number.
    """

    def __init__(self, node_root: str | None = None) -> None:
        self.node_root = node_root or default_node_root()
        # Keepers read them too; what is wrong with them is to be said before a trial starts.
        drain_s()
        staging_bytes(self.node_root)
        try:
            self._home = Home(self.node_root)
            self.address = self._home.file("keeper.sock")
            self._listener = listen(self.address)
        except OSError as error:
            raise StorageError(
                error.errno,
                f"the node root {self.node_root} cannot be used: {error.strerror} at "
                f"{error.filename}. Make it writable, or set MILEPOST_NODE_ROOT to a directory of "
                "your own on a local disk",
            ) from error
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._wire: Wire | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_begins = 0  # where the running keeper's own part of the log begins
        self._own: Own | None = None
        self._unanswered: list[Drain | Delete | Release] = []
        self._ready: list[KeeperEvent] = []
        self._deaths: deque[float] = deque(maxlen=_DEATHS)
        self._closed = False

    def __enter__(self) -> DriverLink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- requests ------------------------------------------------------------------------------

    def own(self, experiment: ExperimentRef, epoch: int) -> None:
        """Serve an experiment: recover what waits in its staging, and commit what is captured.

        Args:
            experiment: the experiment.
            epoch: the driver's journal epoch; nothing is published once a higher one exists.
        """
        self._own = Own(experiment=experiment, epoch=epoch)
        if self._wire is not None:
            self._send(self._own)
        elif self._has_intents():
            self._start()

    def drain(self, trial_id: str, attempt: int | None) -> None:
        """Settle every capture of one attempt of a trial, or of all; :class:`Drained` answers.

        Call it when the attempt's worker has ended or captures no more.
        """
        uuid = self._uuid()
        if self._wire is None and not self._has_intents():
            self._answer(Drained(uuid=uuid, trial_id=trial_id, attempt=attempt, highest_index=-1))
        else:
            self._ask(Drain(uuid=uuid, trial_id=trial_id, attempt=attempt))

    def delete(self, trial_id: str, index: int, path: str) -> None:
        """Delete a committed checkpoint that the journal says may go; :class:`Deleted` answers."""
        self._ask(Delete(uuid=self._uuid(), trial_id=trial_id, index=index, path=path))

    def release(self) -> None:
        """Settle all captures of the experiment and let go of it; :class:`Released` answers.

        No worker of the experiment may run any more.
        """
        uuid = self._uuid()
        if self._wire is None and not self._has_intents():
            sweep_scratch(self._places(), uuid)
            prune(self.node_root, self._places(), uuid)
            self._answer(Released(uuid=uuid))
        else:
            self._ask(Release(uuid=uuid))

    # --- events --------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Descriptor that can be read when :meth:`events` has something to do."""
        return self._epoll.fileno()

    @property
    def running(self) -> bool:
        """Whether a keeper has been started and has not ended."""
        return self._wire is not None

    @property
    def keeper_pid(self) -> int | None:
        """The keeper's process id, or None while none runs."""
        return None if self._process is None or self._wire is None else self._process.pid

    def events(self) -> list[KeeperEvent]:
        """What happened since the last call; never waits. Starts the keeper when it is needed.

        Raises:
            StorageError: keepers die one after the other; the message has the end of their log.
        """
        if self._wire is None:
            if self._is_wanted():
                self._start()
        else:
            self._receive()
        found, self._ready = self._ready, []
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        return found

    def close(self, deadline_s: float = 60.0) -> None:
        """End the keeper and remove what the link made; safe to call twice.

        What was captured is committed first, whether or not anybody has told of it. A keeper that
        has not finished within ``deadline_s`` seconds goes on by itself.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._wire is None and self._has_intents():
                self._start()  # a worker died before it could announce what it had captured
        finally:
            if self._wire is not None:
                self._wire.close()
                self._wire = None
            self._epoll.close()
            os.close(self._bell)
            self._listener.close()
        try:
            if self._wait_for_keeper(deadline_s):
                self._home.remove()
        finally:  # a second Ctrl-C cuts the wait off
            self._home.close()

    # --- steps ---------------------------------------------------------------------------------

    def _uuid(self) -> str:
        if self._own is None:
            raise RuntimeError("own() an experiment before other requests")
        return self._own.experiment.uuid

    def _places(self) -> list[str]:
        assert self._own is not None
        return staging_places(self.node_root, os.path.dirname(self._own.experiment.path))

    def _has_intents(self) -> bool:
        if self._own is None:
            return False
        return any(True for _ in captures(self._places(), self._own.experiment.uuid))

    def _is_wanted(self) -> bool:
        """Whether a worker waits to be connected."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        return bool(poll.poll(0))

    def _answer(self, event: KeeperEvent) -> None:
        self._ready.append(event)
        os.eventfd_write(self._bell, 1)

    def _ask(self, request: Drain | Delete | Release) -> None:
        self._unanswered.append(request)
        if self._wire is None:
            self._start()
        else:
            self._send(request)

    def _send(self, request: DriverRequest) -> None:
        assert self._wire is not None
        # When the keeper is gone, reading finds that too, and the next one is asked again.
        with contextlib.suppress(ChannelClosedError):
            self._wire.send(encode(request))

    def _receive(self) -> None:
        assert self._wire is not None
        for frame in self._wire.receive_available():
            event = decode_event(frame)
            self._settle(event)
            self._ready.append(event)
        if self._wire.ended:
            self._replace()

    def _settle(self, event: KeeperEvent) -> None:
        if isinstance(event, Drained):
            done: type = Drain
        elif isinstance(event, Deleted):
            done = Delete
        elif isinstance(event, Released):
            done = Release
        else:
            return
        for request in self._unanswered:
            if type(request) is done and _key(request) == _key(event):
                self._unanswered.remove(request)
                return

    def _replace(self) -> None:
        """A keeper has died: say so, and start another if anything is left to do."""
        assert self._wire is not None
        assert self._process is not None
        self._epoll.unregister(self._wire)
        self._wire.close()
        self._wire = None
        self._epoll.register(self._listener, select.EPOLLIN)
        status = self._process.wait()  # its connection is closed, so it is past its last act
        how = f"signal {-status}" if status < 0 else f"status {status}"
        self._deaths.append(time.monotonic())
        if len(self._deaths) == _DEATHS and self._deaths[-1] - self._deaths[0] < _DEATHS_WITHIN_S:
            raise StorageError(
                f"{_DEATHS} keepers ended within {_DEATHS_WITHIN_S:.0f} s, the last with {how}, so "
                "checkpoints cannot be committed. Captured ones stay in staging. The end of its "
                f"log:\n{self._log_tail()}"
            )
        log.warning(
            "the keeper (process %d) ended with %s; nothing captured is lost, another one is "
            "started%s",
            self._process.pid,
            how,
            _indented(self._log_tail()),
        )
        if self._unanswered or self._is_wanted() or self._has_intents():
            self._start()

    def _start(self) -> None:
        """Start a keeper and give it everything that is unanswered."""
        ours, theirs = socket.socketpair()
        with theirs, open(self._home.file("log"), "ab") as output:
            self._log_begins = os.fstat(output.fileno()).st_size
            command = [
                sys.executable, "-P", "-m", "milepost.keeper",
                "--listener", str(self._listener.fileno()),
                "--driver", str(theirs.fileno()),
                "--driver-pid", str(os.getpid()),
                "--node-root", self.node_root,
                "--home", self._home.path,
            ]  # fmt: skip
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    env=_environment(),
                    pass_fds=(self._listener.fileno(), theirs.fileno(), self._home.lock),
                    start_new_session=True,  # a terminal's Ctrl-C is for the driver alone
                )
            except OSError as error:
                ours.close()
                raise StorageError(
                    error.errno,
                    f"the keeper cannot be started with {sys.executable}: {error.strerror}. "
                    "Captured checkpoints stay in staging",
                ) from error
        self._wire = Wire(ours)
        # From now on connections are for the keeper to accept.
        self._epoll.unregister(self._listener)
        self._epoll.register(self._wire, select.EPOLLIN)
        log.info("started keeper, process %d", self._process.pid)
        if self._own is not None:
            self._send(self._own)
        for request in self._unanswered:
            self._send(request)

    def _wait_for_keeper(self, deadline_s: float) -> bool:
        if self._process is None:
            return True
        try:
            self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            log.warning(
                "the keeper (process %d) still commits captured checkpoints after %.0f s; it goes "
                "on by itself",
                self._process.pid,
                deadline_s,
            )
            self._process.returncode = 0  # nobody waits for it any more
            return False
        except KeyboardInterrupt:
            self._process.returncode = 0
            raise
        return True

    def _log_tail(self) -> str:
        """The end of what the last keeper has written; those before it had reasons of their own."""
        try:
            with open(self._home.file("log"), "rb") as file:
                tail = os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES
                file.seek(max(self._log_begins, tail))
                return file.read().decode(errors="replace").strip()
        except FileNotFoundError:
            return ""


def _key(message: Drain | Delete | Release | Drained | Deleted | Released) -> tuple[object, ...]:
    if isinstance(message, Drain | Drained):
        return message.uuid, message.trial_id, message.attempt
    if isinstance(message, Delete | Deleted):
        return message.uuid, message.trial_id, message.index
    return (message.uuid,)


def _environment() -> dict[str, str]:
    """The driver's environment, in which the keeper finds this very package."""
    environment = dict(os.environ)
    package = os.path.dirname(os.path.dirname(os.path.abspath(milepost.__file__)))
    given = environment.get("PYTHONPATH", "").split(os.pathsep)
    paths = [os.path.abspath(path) for path in given if path]
    if os.path.basename(package) not in ("site-packages", "dist-packages"):
        paths.insert(0, package)
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _indented(text: str) -> str:
    return "".join(f"\n    {line}" for line in text.splitlines())
