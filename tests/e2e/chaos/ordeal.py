"""Runs the subject, kills it at moments, restores it, and keeps what is needed for the audit."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from chaos import books, moments, subject
from chaos.moments import Event, Moment
from milepost.checkpoint import verify
from milepost.journal import replay


@dataclass(frozen=True)
class Phase:
    """One run of a driver.

    Attributes:
        code: its exit code.
        output: what it printed on both streams.
        moment: when who was to be killed, if anybody.
        come: whether that moment came.
        first: position in the books at which it began.
        events: how many events of each kind it saw.
        committed: after it, the newest epoch in a committed checkpoint, by trial id; empty when
            its keeper was not waited for.
        ended: ids of trials that its journal says have ended.
    """

    code: int
    output: str
    moment: Moment | None
    come: bool
    first: int
    events: dict[Event, int]
    committed: dict[str, int]
    ended: frozenset[str]

    @property
    def told(self) -> dict[str, Any] | None:
        """What the subject said about its results; None when it did not come to it."""
        lines = [line for line in self.output.splitlines() if line.startswith("TOLD ")]
        return json.loads(lines[-1].removeprefix("TOLD ")) if lines else None


class Driver(NamedTuple):
    """A driver that was started, and where what it does is written down."""

    process: subprocess.Popen[bytes]
    counters: Path
    output: Path
    moment: Moment | None
    first: int


class Ordeal:
    """One experiment, and what happens to it.

    Args:
        place: where it runs.
        scenario: what the script does, in its own terms.
        script: the script, in this directory; it takes a request as :mod:`chaos.subject` does.
        name: tells its own files from those of another ordeal in the same place.

    Attributes:
        books: the directory of :mod:`chaos.books`.
        experiment: the experiment's directory; a test that moves it says so here.
        cwd: where drivers are started.
        said: goes into each request, besides ``do``, ``scenario`` and ``path``.
    """

    def __init__(
        self, place: Any, scenario: str, script: str = subject.__file__, name: str = ""
    ) -> None:
        self.place = place
        self.scenario = scenario
        self.script = script
        self.name = name
        self.books = place.path / f"books{name}"
        self.experiment = Path(place.home, "milepost_results", subject.NAME)
        self.cwd = place.path
        self.said: dict[str, Any] = {}
        self.phases: list[Phase] = []
        self._drivers = 0

    def fit(self, moment: Moment | None = None, *, wait: bool = True, **env: str) -> Phase:
        """Start the experiment."""
        return self.end(self.start("fit", moment, **env), wait=wait)

    def restore(self, moment: Moment | None = None, *, wait: bool = True, **env: str) -> Phase:
        """Go on with it; when a kill came before there was anything to go on with, start it."""
        return self.end(self.start("restore", moment, **env), wait=wait)

    def entries(self, phase: Phase | None = None) -> list[books.Entry]:
        """The books: all of them, or from a phase on."""
        return books.read(self.books)[phase.first if phase else 0 :]

    def start(self, do: str, moment: Moment | None = None, **env: str) -> Driver:
        """Start a driver that does "fit" or "restore", and do not wait for it."""
        self._drivers += 1
        self.books.mkdir(exist_ok=True)
        request = {"do": do, "scenario": self.scenario, "path": str(self.experiment), **self.said}
        counters = self.place.path / f"phase{self.name}-{self._drivers}"
        output = self.place.path / f"output{self.name}-{self._drivers}"
        first = len(self.entries())
        with open(output, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, self.script, json.dumps(request)],
                cwd=self.cwd,
                env={
                    **self.place.env,
                    books.VARIABLE: str(self.books),
                    **moments.environment(counters, moment),
                    **env,
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Driver(process, counters, output, moment, first)

    def end(self, driver: Driver, *, wait: bool = True) -> Phase:
        """Wait for the end of a driver, and for that of all its processes if told so."""
        code = driver.process.wait()  # the test has a time limit
        if wait:
            left = self.place.wait_until_gone()
            assert left == {}, f"processes stay: {left}\n{driver.output.read_text()}"
        phase = Phase(
            code=code,
            output=driver.output.read_text(),
            moment=driver.moment,
            come=moments.has_come(driver.counters),
            first=driver.first,
            events=moments.counts(driver.counters),
            committed=self._committed() if wait else {},
            ended=self._ended(),
        )
        self.phases.append(phase)
        return phase

    def trial_directories(self) -> list[Path]:
        """The directories of all trials that have one."""
        if not self.experiment.exists():
            return []
        return sorted(p for p in self.experiment.iterdir() if p.is_dir() and p.name[0] != ".")

    def _committed(self) -> dict[str, int]:
        newest = {}
        for directory in self.trial_directories():
            for _, manifest in verify.committed(str(directory)):
                newest[manifest.trial] = max(manifest.iteration, newest.get(manifest.trial, 0))
        return newest

    def _ended(self) -> frozenset[str]:
        if not (self.experiment / ".milepost" / "experiment.json").exists():
            return frozenset()
        trials = replay.image(str(self.experiment)).trials
        return frozenset(trial for trial, image in trials.items() if image.is_finished)

    def __str__(self) -> str:
        """For the message of a failed test: what every phase said."""
        said = [
            f"--- phase {number}: exit code {phase.code}, moment came: {phase.come}\n{phase.output}"
            for number, phase in enumerate(self.phases)
        ]
        lines = [f"{' '.join(map(str, entry))}" for entry in self.entries()]
        return "\n".join([f"scenario {self.scenario}", *said, "--- books", *lines])


def choose(rng: random.Random, totals: dict[Event, int], **options: Any) -> Moment:
    """A moment, uniform over what a run without kills sees.

    Args:
        rng: makes the choice.
        totals: how many events of each kind there are.
        options: of the moment; ``events`` limits the choice.
    """
    events = options.pop("events", moments.EVENTS)
    event = rng.choice(events)
    return Moment(event, rng.randint(1, max(1, totals[event])), torn=rng.random() < 0.2, **options)


def uncut(place: Any, scenario: str, cache: Path) -> dict[Event, int]:
    """How many events a run without kills sees; measured once for all processes of the tests."""
    from filelock import FileLock

    file = cache / f"uncut-{scenario}.json"
    with FileLock(f"{file}.lock"):
        if not file.exists():
            from chaos import audit

            ordeal = Ordeal(place, scenario)
            ordeal.fit()
            audit.finished(ordeal)
            draft = f"{file}.{os.getpid()}"
            Path(draft).write_text(json.dumps(ordeal.phases[-1].events))
            os.replace(draft, file)
    events: dict[Event, int] = json.loads(file.read_text())
    return events
