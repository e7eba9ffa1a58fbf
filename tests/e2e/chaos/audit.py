"""What must hold of an experiment that was killed and restored, judged from its files."""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from collections import Counter
from pathlib import Path

from chaos import subject
from chaos.books import Entry
from chaos.ordeal import Ordeal, Phase
from milepost.checkpoint import verify
from milepost.checkpoint.manifest import checkpoint_name
from milepost.journal import replay

_FILES = ("params.json", "params.pkl", "result.json", "progress.csv")
_OURS = (".milepost-tmp", ".milepost-trash", ".milepost-quarantine", ".milepost-staging")


def finished(ordeal: Ordeal, *, repeated: bool = False) -> None:
    """Raise unless the experiment is what a run without kills makes, and nothing was repeated.

    Args:
        ordeal: what was done to it.
        repeated: whether work may have been repeated, because its captures were out of reach.

    Raises:
        AssertionError: with all that was printed, and the books.
    """
    wrong = _the_end(ordeal)
    if ordeal.phases[-1].code == 0:
        wrong += _results(ordeal, repeated)
        wrong += _checkpoints(ordeal)
        wrong += [] if repeated else _repetitions(ordeal)
        wrong += _leaks(ordeal)
    assert not wrong, "\n".join([*wrong, str(ordeal)])


def _the_end(ordeal: Ordeal) -> list[str]:
    """The last driver ended in order, and told the same results as an uncut one."""
    last = ordeal.phases[-1]
    if last.code != 0 or last.told is None:
        return [f"the last driver ended with exit code {last.code}"]
    wrong = []
    if last.told["best"] != [13, subject.score(13, 3)]:
        wrong.append(f"the best result is {last.told['best']}")
    seen = sorted(x for x, _ in last.told["trials"])
    if seen != list(range(subject.TRIALS)):
        wrong.append(f"the grid has the trials {seen}")
    failed = [x for x, error in last.told["trials"] if error is not None]
    if failed != [subject.ALWAYS_FAILS]:
        wrong.append(f"these trials have errors: {failed}")
    learned = last.told.get("learned")
    wanted = [[x, subject.score(x, last_epoch(x))] for x in range(subject.TRIALS)]
    if learned != (wanted if ordeal.scenario == "search" else None):
        wrong.append(f"the searcher has learned {learned}")
    if replay.image(str(ordeal.experiment)).closed != "finished":
        wrong.append("the journal was not closed as finished")
    return wrong


def last_epoch(x: int) -> int:
    """How far a trial comes."""
    return 1 if x == subject.ALWAYS_FAILS else subject.EPOCHS


def _results(ordeal: Ordeal, repeated: bool) -> list[str]:
    """Each iteration has one row in each result file, or more where it was executed more often."""
    wrong = []
    executed = Counter(e.token for e in ordeal.entries() if e.what == "begin")
    directories = {path.name: path for path in ordeal.trial_directories()}
    trials = replay.image(str(ordeal.experiment)).trials
    if len(trials) != subject.TRIALS:
        wrong.append(f"the journal has {len(trials)} trials")
    for trial in trials.values():
        directory = directories.pop(trial.directory, None)
        if directory is None:
            wrong.append(f"trial {trial.trial} has no directory {trial.directory}")
            continue
        x = json.loads(bytes(trial.config))["x"]
        missing = {name for name in _FILES if not (directory / name).exists()}
        if missing:
            wrong.append(f"x={x}: {', '.join(sorted(missing))} missing")
            continue
        rows = _json_rows(directory)
        if rows != _csv_rows(directory):
            wrong.append(f"x={x}: result.json and progress.csv differ")
        if len(rows) != trial.rows:
            wrong.append(f"x={x}: {len(rows)} rows in result.json, {trial.rows} in the journal")
        tokens = [token for _, token in rows]
        if len(set(tokens)) != len(tokens) or not set(tokens) <= executed.keys():
            wrong.append(f"x={x}: rows that are doubled or were never executed: {rows}")
        epochs = [epoch for epoch, _ in rows]
        last = last_epoch(x)
        if sorted(set(epochs)) != list(range(1, last + 1)):
            wrong.append(f"x={x}: rows of the epochs {epochs}")
        once = ordeal.scenario in ("function", "search") and not repeated
        if once and len(epochs) != last:
            wrong.append(f"x={x}: saved with each report, and still rows of the epochs {epochs}")
        if once and not _times_go_on(directory):
            wrong.append(f"x={x}: the times of its rows do not go on from each other")
    if directories:
        wrong.append(f"directories of no trial: {sorted(directories)}")
    return wrong


def _json_rows(directory: Path) -> list[tuple[int, str]]:
    rows = [json.loads(line) for line in (directory / "result.json").read_text().splitlines()]
    return [(_consistent(row), row["token"]) for row in rows]


def _times_go_on(directory: Path) -> bool:
    """Whether each row counts the time of all rows before it, those of earlier runs too."""
    rows = [json.loads(line) for line in (directory / "result.json").read_text().splitlines()]
    sums = itertools.accumulate(row["time_this_iter_s"] for row in rows)
    return all(
        math.isclose(row["time_total_s"], total) for row, total in zip(rows, sums, strict=True)
    )


def _csv_rows(directory: Path) -> list[tuple[int, str]]:
    with open(directory / "progress.csv", newline="") as file:
        return [(int(row["training_iteration"]), row["token"]) for row in csv.DictReader(file)]


def _consistent(row: dict[str, int]) -> int:
    """The iteration of a row, by Milepost's counter and by the trainable's own."""
    assert row["training_iteration"] == row["epoch"], row
    return row["epoch"]


def _checkpoints(ordeal: Ordeal) -> list[str]:
    """The same epochs have a checkpoint as without kills, and every one is whole."""
    wrong = []
    for trial in replay.image(str(ordeal.experiment)).trials.values():
        x = json.loads(bytes(trial.config))["x"]
        directory = ordeal.experiment / trial.directory
        committed = verify.committed(str(directory))
        visible = sorted(path.name for path in directory.glob("checkpoint_*"))
        if visible != [checkpoint_name(index) for index, _ in committed]:
            wrong.append(f"x={x}: {visible} are visible, of which committed: {committed}")
        for index, manifest in committed:
            found = directory / checkpoint_name(index)
            if problems := verify.check(str(found), digests=True):
                wrong.append(f"x={x}: {found.name}: {problems}")
            state = json.loads((found / "state.json").read_text())
            if state != {"epoch": manifest.iteration, "x": x}:
                wrong.append(f"x={x}: {found.name} of epoch {manifest.iteration} holds {state}")
        epochs = [manifest.iteration for _, manifest in committed]
        wanted = [1] if x == subject.ALWAYS_FAILS else subject.kept(ordeal.scenario)
        if epochs != wanted:
            wrong.append(f"x={x}: checkpoints of the epochs {epochs}, not {wanted}")
        if sorted(trial.committed) != [index for index, _ in committed]:
            wrong.append(
                f"x={x}: the journal has the checkpoints {sorted(trial.committed)}, "
                f"the directory {[index for index, _ in committed]}"
            )
        if trial.captured or trial.deleting:
            wrong.append(f"x={x}: the journal ends with {trial.captured} {trial.deleting}")
    return wrong


def _repetitions(ordeal: Ordeal) -> list[str]:
    """What was reported with a checkpoint, and what has ended, was not computed again."""
    wrong = []
    returned: set[tuple[int, int]] = set()
    for entry in ordeal.entries():
        if entry.what == "return":
            returned.add((entry.x, entry.epoch))
        elif entry.what == "begin" and (entry.x, entry.epoch) in returned:
            wrong.append(f"x={entry.x}: epoch {entry.epoch} after report() had returned for it")
    ends = [*(phase.first for phase in ordeal.phases[2:]), None]
    for before, phase, end in zip(ordeal.phases, ordeal.phases[1:], ends, strict=False):
        wrong += _repeated_by(before, ordeal.entries()[phase.first : end])
    fatal = ("begin", subject.ALWAYS_FAILS, 2)
    tries = sum((e.what, e.x, e.epoch) == fatal for e in ordeal.entries())
    kills = sum(phase.come for phase in ordeal.phases)
    # A killed worker is a failure too, and a failure may happen again if its driver was killed.
    if abs(tries - (subject.MAX_FAILURES + 1)) > kills:
        wrong.append(f"the trial that always fails was tried {tries} times, with {kills} kills")
    return wrong


def _repeated_by(before: Phase, entries: list[Entry]) -> list[str]:
    """What a driver computed although a driver before it had done it."""
    wrong = []
    for entry in entries:
        if entry.what != "begin":
            continue
        if entry.trial in before.ended:
            wrong.append(f"x={entry.x}: had ended, and ran again")
        if entry.epoch <= before.committed.get(entry.trial, 0):
            wrong.append(f"x={entry.x}: epoch {entry.epoch} was committed, and was computed again")
    return wrong


def _is_known(path: str) -> bool:
    """Whether a temporary file stays behind for a good reason.

    The trainable's own directories are not ours. The lock of a killed keeper is free; it stays
    until the next keeper of the experiment, which a finished one does not have. And Python writes
    a file of a random name where temporary files are to be, to see whether it may.
    """
    return (
        path.startswith(subject.OURS)
        or "owners" in Path(path).parts
        or re.fullmatch("[a-z0-9_]{8}", path) is not None
    )


def _leaks(ordeal: Ordeal) -> list[str]:
    """Nothing temporary is left anywhere, and what the journal does not need is gone."""
    wrong = [f"left behind: {path}" for path in ordeal.place.leftovers() if not _is_known(path)]
    store = ordeal.experiment.parent
    wrong += [
        f"left behind: {path.relative_to(store)}"
        for path in store.rglob("*")
        if path.name.startswith(_OURS)
    ]
    return wrong
