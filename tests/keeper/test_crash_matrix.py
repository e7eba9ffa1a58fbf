"""The keeper, and a worker that captures, with a fault at each change they make to the disk.

The processes are the real ones. By default a spread of points runs; all of them with ``-m chaos``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from milepost.checkpoint import verify
from milepost.checkpoint.manifest import MANIFEST_NAME, checkpoint_name
from milepost.errors import CheckpointFailedError
from milepost.keeper.protocol import Committed, Deleted, Drained, Released
from milepost.testing.interposer import (
    EXIT_CODE,
    FAULTS,
    VARIABLE,
    Fault,
    FaultKind,
    environment,
    read_trace,
)

BIG = (1 << 20) + 1
CAPTURES = 6
IN_PLACE = CAPTURES - 1


@pytest.fixture
def new_place(tmp_path: Path, place: Any) -> Iterator[Callable[[str], Any]]:
    """Makes a place of its own for each run, and closes it."""
    made = []

    def make(name: str) -> Any:
        path = tmp_path / name
        path.mkdir()
        made.append(type(place)(path))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A directory on another file system than the temporary directory, if there is one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


class KeeperRun:
    """All kinds of captures and a deletion, while the keeper meets a fault."""

    def __init__(self, place: Any, other_disk: Path, fault: Fault, monkeypatch: Any) -> None:
        self.place = place
        self.directory = place.path / "faults"
        self.directory.mkdir()
        self.trace = self.directory / "trace"
        armed = environment(
            str(self.directory), "milepost.keeper", fault, trace_file=str(self.trace)
        )
        with monkeypatch.context() as patched:
            for name in ("PYTHONPATH", VARIABLE):
                patched.setenv(name, armed[name])
            self.failed: dict[int, str] = {}
            self.saved: dict[int, dict[str, bytes]] = {}
            self._run(other_disk / place.path.name)
        self._take_over()

    def _take_over(self) -> None:
        """A later driver of the experiment removes what a failed removal has left in staging."""
        driver = self.place.driver()
        driver.own(epoch=2)
        driver.do(lambda link: link.release())
        driver.wait_for(Released)
        driver.close()

    @property
    def struck(self) -> bool:
        return (self.directory / "fired").exists()

    def _run(self, elsewhere: Path) -> None:
        place = self.place
        driver = place.driver()
        driver.own()
        capturer = place.capturer(driver)
        elsewhere.mkdir()
        (elsewhere / "model").write_bytes(os.urandom(BIG))
        owned = Path(capturer.new_directory())
        (owned / "model").write_bytes(os.urandom(BIG))
        sources = [
            place.source("small", model=1000),
            place.source("removed", model=BIG, log=10),
            place.source("kept", model=BIG),
            elsewhere,
            owned,
            place.in_place(),
        ]
        assert len(sources) == CAPTURES
        for index, source in enumerate(sources):
            self.saved[index] = place.contents(source)
            if index == IN_PLACE:
                capturer.capture(source, index, b"{}", owned=True, in_place=True, dir_name="mine")
            else:
                capturer.capture(source, index, b'{"a": 1}', owned=source is owned)
            if source.name == "removed":
                shutil.rmtree(source)
        for index in range(CAPTURES):
            try:
                capturer.settled(index)
            except CheckpointFailedError as error:
                self.failed[index] = str(error)
        driver.do(lambda link: link.drain("t1", 0))
        driver.wait_for(Drained)
        if 0 not in self.failed:
            path = os.path.join(place.trial, checkpoint_name(0))
            driver.do(lambda link: link.delete("t1", 0, path))
            self.deleted = driver.wait_for(Deleted)[-1].outcome
        driver.do(lambda link: link.release())
        driver.wait_for(Released)
        self.told = {event.index for event in driver.wait_for(Committed, 0)}
        capturer.close()
        driver.close()

    def check(self) -> None:
        """Everything that was captured is committed, or failed loudly; nothing else is there."""
        place = self.place
        visible = {index for index, _ in verify.committed(place.trial)}
        for index in visible:
            name = "mine" if index == IN_PLACE else ""
            assert place.contents(place.checkpoint(index, name=name)) == self.saved[index]
        if IN_PLACE not in visible:
            assert_is_back(place)
        # A deletion that failed after its first step has hidden the checkpoint already.
        gone = {0} - visible if self.deleted else set()
        assert self.deleted not in ("deleted", "gone") or gone == {0}
        unsure = {index for index, text in self.failed.items() if "may not survive" in text}
        assert visible | gone == (set(range(CAPTURES)) - self.failed.keys()) | unsure
        assert visible - unsure <= self.told
        for text in self.failed.values():
            assert "Input/output error" in text or "No space left on device" in text
        assert place.staged() == []
        usual = ("checkpoint_", "mine", "here")
        left = [name for name in os.listdir(place.trial) if not name.startswith(usual)]
        assert all(name.startswith((".milepost-tmp-", ".milepost-trash-")) for name in left)

    deleted = ""


def assert_is_back(place: Any) -> None:
    """What was not committed lies where it was, and looks like no checkpoint."""
    assert place.contents(Path(place.trial, "here")) == {"model": b"no copy"}
    assert not os.path.lexists(os.path.join(place.trial, "here", MANIFEST_NAME))


def keeper_points(new_place: Any, other_disk: Path, monkeypatch: Any) -> int:
    """How many changes a keeper makes in a run without a fault."""
    run = KeeperRun(new_place("count"), other_disk, Fault(), monkeypatch)
    run.check()
    assert not run.failed
    assert run.deleted == "deleted"
    return len(read_trace(str(run.trace)))


def check_keeper(
    new_place: Any, other_disk: Path, monkeypatch: Any, kind: FaultKind, at: int
) -> None:
    run = KeeperRun(new_place(f"{kind}-{at}"), other_disk, Fault(kind, at), monkeypatch)
    run.check()
    if kind in ("exit", "torn"):
        assert not run.failed, "the death of a keeper loses nothing"
    elif not run.struck:
        assert not run.failed


def test_keeper_spread(new_place, other_disk, monkeypatch):
    """The keeper dies, or its disk fails, at points spread over all of its changes."""
    total = keeper_points(new_place, other_disk, monkeypatch)
    assert total > 40
    for number in range(8):
        at = 1 + (2 * number + 1) * total // 16
        check_keeper(new_place, other_disk, monkeypatch, FAULTS[number % len(FAULTS)], at)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", FAULTS)
def test_keeper_everywhere(new_place, other_disk, monkeypatch, kind, capfd):
    """The keeper dies, or its disk fails, at each of its changes in turn."""
    total = keeper_points(new_place, other_disk, monkeypatch)
    for at in range(1, total + 1):
        check_keeper(new_place, other_disk, monkeypatch, kind, at)
    with capfd.disabled():
        print(f"\nkeeper: {total} points with {kind}", end=" ")


WORKER = """
import shutil
import sys
from pathlib import Path
from milepost.errors import MilepostError

sources = {sources!r}
owned = Path(capturer.new_directory())
(owned / "model").write_bytes(bytes(2_000_000))
sources.append(str(owned))
for index, source in enumerate(sources):
    say(f"begin {{index}}")
    capturer.capture(source, index, b"{{}}", owned=index == len(sources) - 1)
    say(f"done {{index}}")
    if index:
        shutil.rmtree(source, ignore_errors=True)
say("begin 3")
capturer.capture({in_place!r}, 3, b"{{}}", owned=True, in_place=True, dir_name="mine")
say("done 3")
"""


class WorkerRun:
    """Four captures in a worker that meets a fault; what it said is what it was promised."""

    def __init__(self, place: Any, fault: Fault) -> None:
        self.place = place
        directory = place.path / "faults"
        directory.mkdir()
        self.trace = directory / "trace"
        sources = [place.source("small", model=1000), place.source("large", model=BIG, log=10)]
        self.saved = [place.contents(source) for source in sources]
        self.saved += [{"model": bytes(2_000_000)}, {"model": b"no copy"}]
        driver = place.driver()
        driver.own()
        in_place = str(place.in_place())
        script = WORKER.format(sources=[str(source) for source in sources], in_place=in_place)
        worker = place.worker(
            driver, script, env=environment(
                str(directory), "WORKER", fault, trace_file=str(self.trace)
            ),
        )  # fmt: skip
        self.said = worker.communicate()[0].splitlines()
        self.code = worker.returncode
        driver.do(lambda link: link.drain("t1", 0))
        driver.wait_for(Drained)
        driver.do(lambda link: link.release())
        driver.wait_for(Released)
        driver.close()

    def check(self) -> None:
        place = self.place
        done = [int(line.split()[1]) for line in self.said if line.startswith("done")]
        begun = [int(line.split()[1]) for line in self.said if line.startswith("begin")]
        visible = [index for index, _ in verify.committed(place.trial)]
        for index in visible:
            name = "mine" if index == 3 else ""
            assert place.contents(place.checkpoint(index, name=name)) == self.saved[index]
        if 3 not in visible:
            assert_is_back(place)
        assert visible in (done, begun), "at most the capture under way may have been complete"
        assert place.staged() == []
        assert [name for name in os.listdir(place.node_root) if name != "keepers"] == []


def check_worker(new_place: Any, kind: FaultKind, at: int) -> None:
    run = WorkerRun(new_place(f"worker-{kind}-{at}"), Fault(kind, at))
    run.check()
    assert run.code in (0, 1, EXIT_CODE)
    if kind in ("exit", "torn"):
        assert run.code == EXIT_CODE


def worker_points(new_place: Any) -> int:
    run = WorkerRun(new_place("worker-count"), Fault())
    run.check()
    assert run.code == 0
    assert len(run.said) == 8
    return len(read_trace(str(run.trace)))


def test_worker_spread(new_place):
    """A worker dies, or its disk fails, at points spread over its captures."""
    total = worker_points(new_place)
    assert total > 10
    for number in range(4):
        check_worker(new_place, FAULTS[number], 1 + (2 * number + 1) * total // 8)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", FAULTS)
def test_worker_everywhere(new_place, kind, capfd):
    """A worker dies, or its disk fails, at each change that its captures make."""
    total = worker_points(new_place)
    for at in range(1, total + 1):
        check_worker(new_place, kind, at)
    with capfd.disabled():
        print(f"\nworker: {total} points with {kind}", end=" ")
