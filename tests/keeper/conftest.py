from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from milepost.checkpoint import verify
from milepost.checkpoint.manifest import MANIFEST_NAME, checkpoint_name
from milepost.journal import experiment as experiments
from milepost.keeper import intent as intents
from milepost.keeper.capture import Capturer
from milepost.keeper.client import DriverLink
from milepost.keeper.intent import CapturedFile, ExperimentRef, FileList, Intent
from milepost.keeper.protocol import KeeperEvent
from milepost.process import boot_id, started_at
from milepost.testing.mounts import Kind, MountUnavailableError, mounted

PATIENCE_S = 30.0

_E = TypeVar("_E", bound=KeeperEvent)


class Driver:
    """The driver's part, played by a thread that owns a link, so that a test can wait."""

    def __init__(self, node_root: str, experiment_path: str) -> None:
        os.makedirs(os.path.dirname(experiment_path), exist_ok=True)
        if not experiments.is_experiment(experiment_path):
            experiments.create(experiment_path, name="experiment", trainable="train")
        found = experiments.open(experiment_path)
        self.node_root = node_root
        self.reference = ExperimentRef(
            path=found.path, device=found.device, inode=found.inode, uuid=found.uuid
        )
        self.events: list[KeeperEvent] = []
        self.error: BaseException | None = None
        self._todo: list[Callable[[], None]] = []
        self._changed = threading.Condition()
        self._bell_out, self._bell_in = os.pipe()
        self._closing = False
        self.link = DriverLink(node_root)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def do(self, act: Callable[[DriverLink], Any]) -> Any:
        """Run ``act(link)`` in the link's thread and return what it returns."""
        result: list[Any] = []

        def run() -> None:
            answer = act(self.link)
            with self._changed:
                result.append(answer)
                self._changed.notify_all()

        with self._changed:
            self._todo.append(run)
            os.write(self._bell_in, b"x")
            self._wait(lambda: result)
        return result[0]

    def own(self, epoch: int = 1) -> None:
        self.do(lambda link: link.own(self.reference, epoch))

    def wait_for(self, kind: type[_E], count: int = 1) -> list[_E]:
        """Wait for that many events of a kind."""

        def found() -> list[_E]:
            return [event for event in self.events if isinstance(event, kind)]

        with self._changed:
            self._wait(lambda: len(found()) >= count)
        return found()

    def wait_until(self, condition: Callable[[], Any]) -> None:
        """Wait until something holds; it is looked at after each event, and now and then."""
        with self._changed:
            self._wait(condition)

    def close(self, deadline_s: float = PATIENCE_S) -> None:
        if self._closing:
            return
        self._closing = True
        os.write(self._bell_in, b"x")
        self._thread.join()
        self.link.close(deadline_s)
        os.close(self._bell_in)
        os.close(self._bell_out)

    def _wait(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if self.error is not None:
                raise self.error
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"events so far: {self.events}")
            self._changed.wait(min(left, 0.05))

    def _serve(self) -> None:
        try:
            while not self._closing:
                ready, _, _ = select.select([self.link, self._bell_out], [], [])
                if self._bell_out in ready:
                    os.read(self._bell_out, 1)
                with self._changed:
                    todo, self._todo = self._todo, []
                for act in todo:
                    act()
                events = self.link.events()
                with self._changed:
                    self.events += events
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self.error = error
                self._changed.notify_all()


class Place:
    """A node root and an experiment, with what tests do there."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path
        self.node_root = str(tmp_path / "node")
        os.mkdir(self.node_root, 0o700)
        self.experiment = str(tmp_path / "storage" / "experiment")
        self.trial = os.path.join(self.experiment, "trial")
        self._drivers: list[Driver] = []
        self._capturers: list[Capturer] = []
        self._children: list[subprocess.Popen[str]] = []

    def driver(self) -> Driver:
        driver = Driver(self.node_root, self.experiment)
        self._drivers.append(driver)
        return driver

    def capturer(self, driver: Driver, **fields: Any) -> Capturer:
        capturer = Capturer(**self.capturer_fields(driver, **fields))
        self._capturers.append(capturer)
        return capturer

    def capturer_fields(self, driver: Driver, **fields: Any) -> dict[str, Any]:
        reference = driver.reference
        return {
            "experiment_path": reference.path,
            "experiment_uuid": reference.uuid,
            "device": reference.device,
            "inode": reference.inode,
            "keeper_address": driver.link.address,
            "node_root": self.node_root,
            "trial_id": "t1",
            "trial_dir": "trial",
            "attempt": 0,
            "attempt_id": "attempt-a",
            **fields,
        }

    def worker(
        self, driver: Driver, script: str, env: dict[str, str] | None = None, **fields: Any
    ) -> subprocess.Popen[str]:
        """Start a worker process that runs ``script`` with ``capturer`` and ``say`` at hand."""
        prelude = (
            "# WORKER\n"
            "import os, sys\n"
            "from milepost.keeper.capture import Capturer\n"
            f"capturer = Capturer(**{self.capturer_fields(driver, **fields)!r})\n"
            "def say(text):\n"
            "    sys.stdout.write(text + chr(10))\n"
            "    sys.stdout.flush()\n"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", prelude + textwrap.dedent(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            start_new_session=True,
        )
        self._children.append(child)
        return child

    @staticmethod
    def dead_process() -> tuple[int, int]:
        """Id and start time of a process that has ended."""
        with subprocess.Popen(["sleep", "600"]) as child:
            started = started_at(child.pid)
            child.kill()
        return child.pid, started

    def stage(
        self,
        driver: Driver,
        index: int,
        *,
        complete: bool = True,
        place: str | None = None,
        **fields: Any,
    ) -> str:
        """Put a capture into staging, of a process that has ended; its base is returned."""
        pid, started = self.dead_process()
        values = {
            "experiment": driver.reference,
            "trial_id": "t1",
            "trial_dir": "trial",
            "attempt": 0,
            "attempt_id": "attempt-a",
            "index": index,
            "pid": pid,
            "started": started,
            "boot": boot_id(),
        }
        intent = Intent(**{**values, **fields})
        root = place or os.path.join(driver.node_root, "staging")
        directory = os.path.join(root, driver.reference.uuid)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        base = os.path.join(directory, str(intent.name))
        data = f"bytes of {index}".encode()
        if complete:
            file = CapturedFile(path="model", size=len(data), way="copied")
            captured = FileList(files=(file,), at=time.time(), packed=True)
            intents.write_complete(base, intent, captured, data)
        else:
            intents.write(base, intent)
            os.mkdir(base + intents.FILES_SUFFIX)
            with open(os.path.join(base + intents.FILES_SUFFIX, "half"), "wb") as out:
                out.write(b"half")
        return base

    def source(self, name: str = "source", **files: int | bytes) -> Path:
        """A directory with files of the given contents, or of that many bytes."""
        directory = self.path / name
        directory.mkdir()
        for file, content in files.items():
            data = content if isinstance(content, bytes) else os.urandom(content)
            (directory / file).write_bytes(data)
        return directory

    def in_place(self) -> Path:
        """A directory with a file in the trial's, to be moved."""
        directory = Path(self.trial, "here")
        directory.mkdir(parents=True)
        (directory / "model").write_bytes(b"no copy")
        return directory

    def checkpoint(self, index: int, trial: str | None = None, name: str = "") -> Path:
        """The directory of a checkpoint that must be committed and whole."""
        directory = Path(trial or self.trial, name or checkpoint_name(index))
        assert verify.check(str(directory), digests=True) == []
        return directory

    def staged(self) -> list[str]:
        """What is in the staging places."""
        found = []
        for root in (self.node_root, str(self.path)):
            for directory, _, files in os.walk(root):
                if "staging" in directory:
                    found += [os.path.join(directory, file) for file in files]
        return sorted(set(found))

    @staticmethod
    def contents(directory: Path | str) -> dict[str, bytes]:
        """All regular files below a directory but the manifest, with their bytes."""
        return {
            str(path.relative_to(directory)): path.read_bytes()
            for path in sorted(Path(directory).rglob("*"))
            if path.is_file() and not path.is_symlink() and path.name != MANIFEST_NAME
        }

    @staticmethod
    def wait_until_gone(pid: int) -> None:
        """Wait until a process that need not be our child has ended."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            ready, _, _ = select.select([fd], [], [], PATIENCE_S)
            assert ready, f"process {pid} still runs"
        finally:
            os.close(fd)

    def kill(self, pid: int) -> None:
        """SIGKILL a process and wait until it has ended."""
        os.kill(pid, signal.SIGKILL)
        self.wait_until_gone(pid)

    def close(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    stream.close()
        for capturer in self._capturers:
            capturer.close()
        for driver in self._drivers:
            driver.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


@pytest.fixture
def driver(place: Place) -> Driver:
    """A driver that owns the experiment."""
    driver = place.driver()
    driver.own()
    return driver


@pytest.fixture
def capturer(place: Place, driver: Driver) -> Capturer:
    """The capturer of a trial in this very process."""
    return place.capturer(driver)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system of a kind, or skips the test with the reason."""
    with contextlib.ExitStack() as stack:

        def mount(kind: Kind, nbytes: int = 0) -> Path:
            directory = tmp_path / f"disk-{kind}"
            directory.mkdir()
            try:
                return Path(stack.enter_context(mounted(kind, str(directory), nbytes)))
            except MountUnavailableError as reason:
                pytest.skip(str(reason))

        yield mount
