"""The journal after a death at every step, and after a power loss at every moment."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from milepost.errors import JournalError
from milepost.journal import compaction, epochs, replay
from milepost.journal import experiment as experiments
from milepost.journal.image import RunImage, apply
from milepost.journal.log import Journal
from milepost.journal.objects import Objects
from milepost.journal.projector import Projector
from milepost.journal.tail import Tail
from milepost.storage import posix
from milepost.testing import powerloss
from milepost.testing.interposer import (
    EXIT_CODE,
    FAULTS,
    Fault,
    Interposer,
    Step,
    run_in_child,
)

Say = Callable[..., None]


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: what a flush does is not needed here."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="milepost-test-") as path:
        yield Path(path)


class Driver:
    """Does to a journal what a driver does, and says what is durable."""

    def __init__(self, root: str, make: Any, say: Say) -> None:
        self.path = os.path.join(root, "exp")
        self.make = make
        self.say = say
        self.iteration = 0

    def create(self) -> None:
        experiments.create(self.path, name="exp", trainable="train")
        self.say("created")

    def open(self) -> None:
        self.journal = Journal.open(experiments.open(self.path))
        self.say("synced", self.journal.synced)

    def begin(self) -> None:
        self.journal.append(self.make.created())
        self.journal.append(self.make.launched())

    def report(self, count: int = 2) -> None:
        for _ in range(count):
            self.iteration += 1
            self.journal.append(self.make.reported(iteration=self.iteration))
        self.journal.sync()
        self.say("synced", self.journal.synced)

    def compact(self) -> None:
        self.journal.rotate()
        segment = epochs.segments(self.path)[-1]
        compaction.compact(self.path, segment, keep_rows=False)

    def put(self, data: bytes) -> None:
        self.say("put", Objects(self.path).put(data))

    def close(self) -> None:
        self.journal.close("finished")
        self.say("synced", self.journal.synced)


def whole_life(driver: Driver) -> None:
    """Creation, two drivers one after the other, an object."""
    driver.create()
    driver.open()
    driver.begin()
    driver.report()
    driver.put(b"value")
    driver.close()
    driver.open()
    driver.report()
    driver.close()


def rotating(driver: Driver) -> None:
    """One driver that goes on in new files."""
    driver.create()
    driver.open()
    driver.begin()
    driver.report()
    driver.journal.rotate()
    driver.report()
    driver.journal.rotate()
    driver.report()
    driver.close()


def compacting(driver: Driver) -> None:
    """One driver whose old files are compacted and removed."""
    driver.create()
    driver.open()
    driver.begin()
    for _ in range(3):
        driver.report()
        driver.compact()
    driver.report()
    driver.close()


SCENARIOS = [whole_life, rotating, compacting]


def check(root: str, said: Sequence[tuple[str, ...]], make: Any) -> None:
    """What was said to be durable is there, all else is whole, and the next driver goes on."""
    path = os.path.join(root, "exp")
    if not experiments.is_experiment(path):
        assert ("created",) not in said
        experiments.create(path, name="exp", trainable="train")
    state = replay.image(path)
    synced = max((int(values[0]) for what, *values in said if what == "synced"), default=0)
    assert state.seq >= synced
    trial = state.trials.get("t1")
    if trial is not None:
        assert trial.rows == trial.iteration, "no report is missing between others"
    held = [(seq, record) for seq, record in replay.records(path)]
    if held and held[0][0] == 1:
        folded = RunImage()
        for seq, record in held:
            apply(folded, seq, record)
        assert folded == state
    for what, *values in said:
        if what == "put":
            assert Objects(path).get(values[0]) == b"value"
    driver = Driver(root, make, lambda *_: None)
    driver.open()
    if trial is None:
        driver.begin()
    driver.iteration = trial.iteration if trial is not None else 0
    driver.report(1)
    driver.put(b"other")
    driver.close()
    assert replay.image(path).trials["t1"].rows == driver.iteration


class Told:
    """What a scenario says, on disk so that it outlives the process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, *what: object) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps([str(part) for part in what]) + "\n")

    def said(self) -> list[tuple[str, ...]]:
        if not self.path.exists():
            return []
        return [tuple(json.loads(line)) for line in self.path.read_text().splitlines()]


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.always("whole_life-exit", "rotating-torn", "compacting-enospc", "compacting-eio")
def test_crash_matrix(
    scenario: Callable[[Driver], None],
    kind: Any,
    tmp_path: Path,
    make: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Wherever the driver is cut, nothing that was durable is lost and the next one goes on."""
    (tmp_path / "counted").mkdir()
    with Interposer() as counting:
        scenario(Driver(str(tmp_path / "counted"), make, lambda *_: None))
    assert counting.count > 20
    reached = 0
    for at in range(1, counting.count + 1):
        root = tmp_path / str(at)
        root.mkdir()
        told = Told(root / "told")
        code = run_in_child(
            lambda root=root, told=told: scenario(Driver(str(root), make, told.say)),
            Interposer(Fault(kind, at)),
        )
        # How many flushes the journal's thread makes varies by one or two.
        assert code in ((EXIT_CODE, 0) if kind in ("exit", "torn") else (1, 0))
        reached += code != 0
        check(str(root), told.said(), make)
    assert reached >= counting.count - 4
    with capfd.disabled():
        print(f"\n{reached} points", end=" ")


class Recorded:
    """A trace, and the condition that every state after a power loss must meet."""

    def __init__(self, root: Path, scenario: Callable[[Say], None], unflushed: Sequence[str] = ()):
        self.root = str(root)
        self.before = shutil.copytree(root, f"{root}.before")
        self.unflushed = [os.path.join(self.before, path) for path in unflushed]
        with Interposer() as interposer:
            scenario(lambda *what: interposer.mark(*map(str, what)))
        self.steps = [self._moved(step) for step in interposer.steps]

    def _moved(self, step: Step) -> Step:
        """A step as if it had been made in the copy of the root that was kept from before."""
        if step.operation == "mark":
            return step
        paths = tuple(
            self.before + path[len(self.root) :] if path.startswith(self.root) else path
            for path in step.paths
        )
        return Step(step.operation, paths, step.data, step.offset)

    def failures(
        self,
        steps: Sequence[Step],
        scratch: Path,
        check: Callable[[str, Sequence[tuple[str, ...]]], None],
    ) -> tuple[int, list[str]]:
        """Recover every state; return how many there were and what went wrong."""
        count, wrong = 0, []
        for state in powerloss.states(powerloss.Disk(self.before, self.unflushed), steps):
            count += 1
            path = str(scratch / f"state{count}")
            powerloss.materialise(state.content, path)
            said = [step.paths for step in steps[: state.prefix] if step.operation == "mark"]
            try:
                check(path, said)
            except (AssertionError, OSError, JournalError, KeyError) as error:
                wrong.append(f"after {state.prefix} steps, {state.what} survived: {error!r}")
            shutil.rmtree(path)
        return count, wrong

    def flushes(self) -> list[set[int]]:
        """Positions of the flushes of each file or directory between two marks.

        They count as one: the journal's thread may make one more than is needed, whenever it
        likes. Those that have nothing to flush are left out.
        """
        disk = powerloss.Disk(self.before, self.unflushed)
        found: dict[tuple[int, str], set[int]] = {}
        needed = set()
        marks = 0
        for number, step in enumerate(self.steps):
            marks += step.operation == "mark"
            if step.operation in posix.FLUSHES:
                key = marks, step.paths[0]
                found.setdefault(key, set()).add(number)
                if disk.would_flush(step):
                    needed.add(key)
            disk.apply(step)
        return [found[key] for key in sorted(needed)]


def recorded_life(root: Path, make: Any, scenario: Callable[[Driver], None]) -> Recorded:
    root.mkdir()
    return Recorded(root, lambda say: scenario(Driver(str(root), make, say)))


def recorded_takeover(root: Path, make: Any) -> Recorded:
    """A driver takes over what a dead one wrote and never flushed."""
    root.mkdir()
    dead = Driver(str(root), make, lambda *_: None)
    dead.create()
    dead.open()
    dead.begin()
    dead.report()
    dead.journal.close(None)

    def scenario(say: Say) -> None:
        driver = Driver(str(root), make, say)
        driver.iteration = dead.iteration
        driver.open()
        driver.report()
        driver.close()

    return Recorded(root, scenario, ["exp/.milepost/journal/00000001.jsonl"])


@pytest.mark.parametrize(
    "scenario", [*SCENARIOS, None], ids=lambda scenario: getattr(scenario, "__name__", "takeover")
)
def test_power_loss(
    scenario: Callable[[Driver], None] | None,
    tmp_path: Path,
    make: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whatever unflushed changes a power loss takes, what was durable is there."""
    root = tmp_path / "root"
    recorded = (
        recorded_takeover(root, make) if scenario is None else recorded_life(root, make, scenario)
    )
    count, wrong = recorded.failures(
        recorded.steps, tmp_path, lambda path, said: check(path, said, make)
    )
    assert wrong == []
    assert count > 10
    with capfd.disabled():
        print(f"\n{count} states", end=" ")


@pytest.mark.parametrize("name", ["whole_life", "rotating", "takeover"])
def test_every_flush_is_needed(
    name: str, tmp_path: Path, make: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """The power loss test can fail: it does when any one flush is left out.

    Compaction is not among these: each of its snapshots is backed by the one before.
    """
    root = tmp_path / "root"
    if name == "takeover":
        recorded = recorded_takeover(root, make)
    else:
        recorded = recorded_life(root, make, {s.__name__: s for s in SCENARIOS}[name])
    flushes = recorded.flushes()
    assert flushes
    for numbers in flushes:
        without = [step for at, step in enumerate(recorded.steps) if at not in numbers]
        _, wrong = recorded.failures(without, tmp_path, lambda path, said: check(path, said, make))
        assert wrong, f"nobody misses {recorded.steps[min(numbers)]}"
    with capfd.disabled():
        print(f"\n{len(flushes)} flushes", end=" ")


class Projected(Driver):
    """A driver whose writer of result files works in the same process."""

    def open(self) -> None:
        super().open()
        self.projector = Projector(self.path, frozenset({"json"}), print)
        self.tail = Tail(self.path, self.journal.first_segment)

    def close(self) -> None:
        super().close()
        self.tail.close()

    def project(self) -> None:
        for _, record in self.tail.read():
            self.projector.apply(record)
        self.projector.flush()

    def compact(self) -> None:
        self.journal.rotate()
        self.project()
        posix.syncfs(self.path)
        compaction.compact(self.path, epochs.segments(self.path)[-1], keep_rows=False)


def test_rows_leave_the_journal_only_when_the_files_have_them(tmp_path: Path, make: Any) -> None:
    """After any power loss each durable row is in the journal or in result.json, once.

    And the test can fail: it does without the flush between writing rows and dropping them.
    """
    root = tmp_path / "root"
    root.mkdir()

    def scenario(say: Say) -> None:
        driver = Projected(str(root), make, say)
        driver.create()
        driver.open()
        driver.begin()
        for _ in range(4):
            driver.report()
            driver.compact()
        driver.report()
        driver.close()

    def check_rows(path: str, said: Sequence[tuple[str, ...]]) -> None:
        experiment = os.path.join(path, "exp")
        if not experiments.is_experiment(experiment):
            return
        state = replay.image(experiment)
        Projector(experiment, frozenset({"json"}), print).adopt(state)
        trial = state.trials.get("t1")
        if trial is None or not trial.rows:
            return
        with open(os.path.join(experiment, trial.directory, "result.json"), "rb") as file:
            found = [msgspec.json.decode(line)["training_iteration"] for line in file]
        assert found == list(range(1, trial.rows + 1))

    recorded = Recorded(root, scenario)
    _, wrong = recorded.failures(recorded.steps, tmp_path, check_rows)
    assert wrong == []
    without = [step for step in recorded.steps if step.operation != "syncfs"]
    assert recorded.failures(without, tmp_path, check_rows)[1]
