"""A damaged journal is made whole: from what can be read of it and from the trials' files."""

from __future__ import annotations

import logging
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from milepost.checkpoint import manifest as manifests
from milepost.checkpoint import tree
from milepost.checkpoint.commit import Prepared, commit
from milepost.checkpoint.manifest import Manifest, checkpoint_id, checkpoint_name
from milepost.errors import JournalCorruptError
from milepost.journal import compaction, epochs, rebuild, replay
from milepost.journal import experiment as experiments
from milepost.journal import records as rec
from milepost.journal.experiment import Experiment
from milepost.journal.image import RunImage
from milepost.journal.log import Journal
from milepost.journal.projector import Projector
from milepost.testing import powerloss
from milepost.testing.interposer import EXIT_CODE, FAULTS, Fault, Interposer, run_in_child


class Run:
    """A driver with a keeper and a writer of result files, all in this process."""

    def __init__(self, path: str, make: Any) -> None:
        self.experiment = experiments.create(path, name="exp", trainable="train")
        self.make = make
        self.iterations: dict[str, int] = {}
        self.attempts: dict[str, int] = {}
        self.open()

    def open(self) -> None:
        self.journal = Journal.open(self.experiment)
        self.projector = Projector(self.experiment.path, frozenset({"json", "csv"}), print)
        self.projector.adopt(replay.image_before(self.experiment.path, self.journal.first_segment))

    def add(self, *records: rec.AnyRecord) -> None:
        for record in records:
            self.journal.append(record)
            self.projector.apply(record)
        self.projector.flush()

    def create(self, trial: str) -> None:
        created = self.make.created(trial, lr=0.5, shape=(3, 4))
        self.add(msgspec.structs.replace(created, order=len(self.iterations)))
        self.iterations[trial] = 0
        self.launch(trial)

    def launch(self, trial: str) -> None:
        attempt = self.attempts[trial] = self.attempts.get(trial, -1) + 1
        self.add(self.make.launched(trial, attempt), self.make.changed(trial, "RUNNING"))

    def report(self, trial: str, *, save: bool = False, done: bool = False) -> None:
        self.iterations[trial] += 1
        at = self.iterations[trial]
        index = at - 1 if save else None
        fields = {"loss": 1 / at, "done": done, "trial_id": trial, "time_total_s": at + 0.5}
        row = self.make.reported(
            trial,
            iteration=at,
            attempt=self.attempts[trial],
            checkpoint=index,
            experiment_tag="1",
            timestamp=100 + at,
            **fields,
        )
        self.add(row)
        if index is not None:
            self.add(self._commit(trial, index, row))
        if done:
            self.add(self.make.changed(trial))

    def _commit(self, trial: str, index: int, row: rec.Reported) -> rec.Committed:
        directory = os.path.join(self.experiment.path, f"train_{trial}_dir")
        staged = os.path.join(directory, f".milepost-tmp-{index}")
        os.makedirs(staged)
        Path(staged, "model").write_text(f"{trial} {index}")
        described = tree.describe(staged)
        manifest = Manifest(
            id=checkpoint_id("a", index),
            attempt=row.attempt,
            run=self.experiment.uuid,
            trial=trial,
            index=index,
            iteration=row.iteration,
            metrics=row.row,
            files=described.files,
        )
        target = os.path.join(directory, checkpoint_name(index))
        (made,) = commit([Prepared(staged, target, manifest)])
        assert isinstance(made, Manifest)
        return rec.Committed(
            at=5.0,
            trial=trial,
            attempt=row.attempt,
            index=index,
            iteration=row.iteration,
            nbytes=made.nbytes,
            digest=tree.new_hasher().hexdigest(),
        )


class Facts(NamedTuple):
    """What must be the same of a trial, whatever happened to the journal."""

    status: str
    rows: int
    iteration: int
    row: object
    committed: list[int]
    failures: int
    config: object


def facts(state: RunImage) -> dict[str, Facts]:
    return {
        trial.trial: Facts(
            trial.status,
            trial.rows,
            trial.iteration,
            msgspec.json.decode(trial.row) if trial.row is not None else None,
            sorted(trial.committed),
            trial.failures,
            msgspec.json.decode(trial.config),
        )
        for trial in state.trials.values()
    }


@pytest.fixture
def lived(tmp_path: Path, make: Any) -> Experiment:
    """An experiment of three trials and two epochs: one has ended, one failed once, one runs."""
    run = Run(str(tmp_path / "exp"), make)
    run.add(rec.Planned(at=1.0, setup=make.raw({"num_samples": 3})))
    run.create("t1")
    run.report("t1", save=True)
    run.report("t1")
    run.add(rec.Searched(at=4.0, state="s1"))
    run.create("t2")
    run.report("t2")
    run.report("t1", save=True, done=True)
    run.add(make.failure("t2", 1))
    run.journal.close("interrupted")
    run.open()
    run.create("t3")
    run.launch("t2")
    run.report("t3", save=True)
    run.report("t3", save=True)
    run.report("t2", save=True)
    run.journal.close(None)
    return run.experiment


@pytest.fixture
def copies(lived: Experiment, tmp_path: Path) -> Iterator[Callable[[], Experiment]]:
    """Makes copies of the experiment, each removed when the next one is made."""
    work = tmp_path / "work"

    def copy() -> Experiment:
        shutil.rmtree(work, ignore_errors=True)
        return experiments.open(str(shutil.copytree(lived.path, work, symlinks=True)))

    yield copy
    shutil.rmtree(work, ignore_errors=True)


def journal_file(experiment: Experiment, epoch: int) -> Path:
    return Path(epochs.journal_directory(experiment.path), f"{epoch:08d}.jsonl")


def repaired(experiment: Experiment) -> RunImage:
    """Take the experiment over as a restore does, and check what everybody then reads."""
    journal = Journal.open(experiment, repair=True)
    inherited = journal.inherited
    assert inherited is not None
    assert replay.image_before(experiment.path, journal.first_segment) == inherited
    journal.close("interrupted")
    assert facts(replay.image(experiment.path)) == facts(inherited)
    list(replay.records(experiment.path))
    return inherited


def kept_aside(experiment: Experiment) -> dict[str, bytes]:
    """The damaged files that were kept: original name -> content."""
    directory = Path(epochs.journal_directory(experiment.path))
    return {
        path.name.removeprefix(".milepost-quarantine-").rpartition("-")[0]: path.read_bytes()
        for path in directory.glob(".milepost-quarantine-*")
    }


def test_a_whole_journal_is_left_alone(copies: Callable[[], Experiment]) -> None:
    """Opening with ``repair`` adds an epoch and nothing else."""
    experiment = copies()
    before = replay.image(experiment.path)
    assert repaired(experiment) == before
    names = [segment.name for segment in epochs.segments(experiment.path)]
    assert names == ["00000001.jsonl", "00000002.jsonl", "00000003.jsonl"]
    assert kept_aside(experiment) == {}


def test_a_flipped_bit_costs_nothing(
    copies: Callable[[], Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever it is, every record is put right; the damaged files stay, and it is said."""
    experiment = copies()
    intact = replay.image(experiment.path)
    draw = random.Random(7)
    sizes = {epoch: journal_file(experiment, epoch).stat().st_size for epoch in (1, 2)}
    for epoch, size in sizes.items():
        for at in draw.sample(range(size), 12):
            experiment = copies()
            path = journal_file(experiment, epoch)
            damaged = bytearray(path.read_bytes())
            damaged[at] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
            try:
                replay.image(experiment.path)
            except JournalCorruptError:
                pass
            else:
                continue  # the torn end of the last file
            caplog.clear()
            with caplog.at_level(logging.ERROR):
                state = repaired(experiment)
            assert facts(state) == facts(intact)
            assert (state.elapsed_s, state.saves) == (intact.elapsed_s, intact.saves)
            assert kept_aside(experiment)[path.name] == bytes(damaged)
            assert "was damaged and has been rebuilt" in caplog.text
            assert "one flipped bit was put right; none is lost" in caplog.text
            since = [
                type(record).__name__
                for _, record in replay.records(experiment.path, after=state.searched_seq)
            ]
            assert since.count("Created") == 2


def test_a_lost_record_is_told_by_the_files(copies: Callable[[], Experiment]) -> None:
    """Whichever record becomes unreadable: rows, checkpoints, failures and ends are known."""
    experiment = copies()
    intact = facts(replay.image(experiment.path))
    kinds = set()
    for epoch in (1, 2):
        lines = journal_file(copies(), epoch).read_bytes().splitlines(keepends=True)
        for position in range(len(lines)):
            experiment = copies()
            damaged = list(lines)
            damaged[position] = b"\0" * (len(lines[position]) - 1) + b"\n"
            journal_file(experiment, epoch).write_bytes(b"".join(damaged))
            kind = msgspec.json.decode(lines[position])["type"]
            if position == len(lines) - 1 and epoch == 2:
                continue  # the torn end of the last file
            with pytest.raises(JournalCorruptError):
                replay.image(experiment.path)
            kinds.add(kind)
            state = repaired(experiment)
            found = facts(state)
            assert found.keys() == intact.keys()
            for trial, expected in intact.items():
                lost_status = kind == "changed" and expected.status == "RUNNING"
                status = found[trial].status if lost_status else expected.status
                assert found[trial] == expected._replace(status=status), (kind, position)
            assert state.trials["t1"].attempts == 1
            assert state.trials["t2"].attempts == 2
    assert kinds >= {"opened", "created", "launched", "reported", "committed", "failure"}


@pytest.mark.parametrize("gone", ["first", "journal files", "journal directory"])
def test_missing_files_are_told_by_the_others(
    gone: str, copies: Callable[[], Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    """Without any journal all that the directories have is found."""
    experiment = copies()
    intact = facts(replay.image(experiment.path))
    if gone == "first":
        journal_file(experiment, 1).unlink()
    elif gone == "journal files":
        for epoch in (1, 2):
            journal_file(experiment, epoch).unlink()
    else:
        shutil.rmtree(epochs.journal_directory(experiment.path))
    with caplog.at_level(logging.ERROR):
        found = facts(repaired(experiment))
    assert found.keys() == intact.keys()
    for trial, expected in intact.items():
        assert found[trial]._replace(status="") == expected._replace(status="")
    assert found["t1"].status == "TERMINATED"
    assert "added to it" in caplog.text or "has been rebuilt" in caplog.text


def test_an_end_that_was_cut_off_is_told_by_the_files(
    copies: Callable[[], Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    """However many of the last records are gone, rows are known again, with their checkpoints.

    Whether those are committed, and whether a trial that was done has ended, is left to the
    restore, which finds that out after every death.
    """
    experiment = copies()
    intact = facts(replay.image(experiment.path))
    whole = [
        journal_file(experiment, epoch).read_bytes().splitlines(keepends=True) for epoch in (1, 2)
    ]
    for kept in range(len(whole[0]), 1, -1):
        experiment = copies()
        journal_file(experiment, 2).unlink()
        journal_file(experiment, 1).write_bytes(b"".join(whole[0][:kept]))
        known = facts(replay.image(experiment.path))
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            state = repaired(experiment)
        found = facts(state)
        assert "The end of the journal" in caplog.text
        for trial, expected in intact.items():
            assert (found[trial].rows, found[trial].row) == (expected.rows, expected.row)
            image = state.trials[trial]
            assert sorted(image.captured | image.committed) == expected.committed
            for index, checkpoint in image.captured.items():
                row = checkpoint.row
                assert row is not None
                assert msgspec.json.decode(row)["training_iteration"] == index + 1
        if "t1" not in known:
            assert found["t1"].status == "TERMINATED"
        elif known["t1"].rows < 3:
            assert state.trials["t1"].action == "stop"
        projector = Projector(experiment.path, frozenset({"json"}), print)
        projector.adopt(replay.image(experiment.path))
        for trial, expected in intact.items():
            rows = Path(experiment.path, f"train_{trial}_dir", "result.json").read_text()
            assert len(rows.splitlines()) == expected.rows


def test_readers_change_nothing(
    copies: Callable[[], Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    """Who only reads gets the same state, a warning, and leaves every byte as it is."""
    experiment = copies()
    intact = facts(replay.image(experiment.path))
    path = journal_file(experiment, 1)
    data = path.read_bytes()
    middle = data.index(b"\n", len(data) // 2)
    path.write_bytes(data[: middle - 40] + b"?" * 40 + data[middle:])

    def everything() -> dict[str, bytes]:
        return {
            str(file): file.read_bytes()
            for file in Path(experiment.path).rglob("*")
            if file.is_file()
        }

    before = everything()
    with caplog.at_level(logging.WARNING):
        state = rebuild.image(experiment.path)
    assert facts(state) == intact
    assert "is damaged in line" in caplog.text
    assert "What is left is shown: " in caplog.text
    assert everything() == before


def test_a_damaged_file_after_a_snapshot_is_rebuilt_from_it(tmp_path: Path, make: Any) -> None:
    """What the snapshot covers needs neither records nor files."""
    run = Run(str(tmp_path / "exp"), make)
    run.create("t1")
    for _ in range(4):
        run.report("t1", save=True)
        run.journal.rotate()
        compaction.compact(
            run.experiment.path, epochs.segments(run.experiment.path)[-1], keep_rows=False
        )
    run.report("t1", save=True)
    run.create("t2")
    run.journal.close(None)
    intact = replay.image(run.experiment.path)
    newest = epochs.segments(run.experiment.path)[-1]
    path = Path(epochs.journal_directory(run.experiment.path), newest.name)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:1], b"rubbish\n", *lines[2:]]))
    state = repaired(run.experiment)
    assert facts(state) == facts(intact)
    state = replay.image(run.experiment.path)
    assert facts(state) == facts(intact)


def test_a_saved_search_counts_only_with_all_that_followed_it(tmp_path: Path, make: Any) -> None:
    """Records between it and the snapshot go with the damaged files, so it must be left alone."""
    run = Run(str(tmp_path / "exp"), make)
    run.create("t1")
    run.add(rec.Searched(at=4.0, state="s1"))
    for _ in range(3):
        run.report("t1")
        run.journal.rotate()
        compaction.compact(
            run.experiment.path, epochs.segments(run.experiment.path)[-1], keep_rows=False
        )
    run.report("t1")
    run.journal.close(None)
    newest = epochs.segments(run.experiment.path)[-1]
    path = Path(epochs.journal_directory(run.experiment.path), newest.name)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b"rubbish\n", *lines[1:]]))
    state = repaired(run.experiment)
    assert (state.searched, state.saves, state.trials["t1"].rows) == (None, 1, 4)
    assert list(replay.records(run.experiment.path, after=state.searched_seq))


def test_readers_see_an_experiment_without_a_journal(
    copies: Callable[[], Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    """What its directories have, with a warning; an experiment without anything is quiet."""
    experiment = copies()
    intact = facts(replay.image(experiment.path))
    shutil.rmtree(epochs.journal_directory(experiment.path))
    found = facts(rebuild.image(experiment.path))
    assert {trial: each.rows for trial, each in found.items()} == {
        trial: each.rows for trial, each in intact.items()
    }
    assert "is gone. What is left is shown" in caplog.text
    os.mkdir(epochs.journal_directory(experiment.path))
    assert facts(rebuild.image(experiment.path)) == found
    assert "is empty. What is left is shown" in caplog.text


def test_a_trial_that_has_not_reported_is_found_by_the_name_of_its_directory(
    tmp_path: Path, make: Any
) -> None:
    """If it was started: then its config is there."""
    run = Run(str(tmp_path / "exp"), make)
    run.create("0a1b2_00003")
    run.journal.close(None)
    directory = Path(run.experiment.path, "train_0a1b2_00003_dir")
    other = Path(run.experiment.path, "train_0a1b2_00004_dir")
    other.mkdir()  # something of the user's
    shutil.rmtree(epochs.journal_directory(run.experiment.path))
    state = repaired(run.experiment)
    assert list(state.trials) == ["0a1b2_00003"]
    trial = state.trials["0a1b2_00003"]
    assert (trial.name, trial.directory) == ("train_0a1b2_00003", directory.name)
    assert (trial.order, trial.rows) == (3, 0)


def test_what_a_replaced_driver_wrote_does_not_count(lived: Experiment, make: Any) -> None:
    """Bytes that the successor left out are left out of a repair too."""
    path = journal_file(lived, 1)
    intact = replay.image(lived.path)
    first = [seq for seq, record in replay.records(lived.path) if type(record) is rec.Opened][1]
    from milepost.journal import lines

    late = msgspec.json.encode(make.reported("t1", iteration=99))
    with open(path, "ab") as file:
        file.write(lines.make(first, late) + lines.make(first + 1, late))
    assert replay.image(lived.path) == intact
    data = path.read_bytes()
    at = data.index(b"\n") + 30
    path.write_bytes(data[:at] + b"??" + data[at + 2 :])
    assert facts(repaired(lived)) == facts(intact)


def test_a_repair_may_be_damaged_too(copies: Callable[[], Experiment]) -> None:
    """A second repair goes by what the first one wrote."""
    experiment = copies()
    intact = facts(replay.image(experiment.path))
    for _ in range(3):
        segment = epochs.segments(experiment.path)[0]
        path = Path(epochs.journal_directory(experiment.path), segment.name)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:3], b"rubbish\n", *lines[4:]]))
        assert facts(repaired(experiment)) == intact


def test_a_config_that_cannot_be_unpickled_is_taken_as_text(
    copies: Callable[[], Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    """The trial is found all the same, and it is said."""
    experiment = copies()
    shutil.rmtree(epochs.journal_directory(experiment.path))
    Path(experiment.path, "train_t1_dir", "params.pkl").write_bytes(b"rubbish")
    with caplog.at_level(logging.WARNING):
        state = repaired(experiment)
    assert msgspec.json.decode(state.trials["t1"].config) == {"lr": 0.5, "shape": [3, 4]}
    assert "params.pkl" in caplog.text


def test_records_that_are_whole_but_not_understood_are_no_damage(
    copies: Callable[[], Experiment],
) -> None:
    """A journal that another program wrote is not rewritten."""
    from milepost.journal import lines

    experiment = copies()
    path = journal_file(experiment, 2)
    seq = replay.image(experiment.path).seq
    with open(path, "ab") as file:
        file.write(lines.make(seq + 1, b'{"type":"invented","at":1.0}'))
    before = path.read_bytes()
    with pytest.raises(JournalCorruptError, match="whole but not understood"):
        Journal.open(experiment, repair=True)
    assert path.read_bytes() == before
    assert kept_aside(experiment) == {}


def test_a_checkpoint_of_another_experiment_is_not_adopted(
    copies: Callable[[], Experiment],
) -> None:
    """Only manifests of this run and trial count."""
    experiment = copies()
    trial = Path(experiment.path, "train_t3_dir")
    source = trial / checkpoint_name(1)
    foreign = trial / checkpoint_name(7)
    shutil.copytree(source, foreign)
    manifest = manifests.read(str(source))
    changed = msgspec.structs.replace(manifest, index=7, run="0" * 32)
    (foreign / manifests.MANIFEST_NAME).write_bytes(manifests.to_bytes(changed))
    path = journal_file(experiment, 1)
    path.write_bytes(b"rubbish\n" + path.read_bytes())
    assert sorted(repaired(experiment).trials["t3"].committed) == [0, 1]


def test_a_trial_of_another_experiment_is_none_of_ours(copies: Callable[[], Experiment]) -> None:
    """Somebody has put its directory there: it is not run, and its rows are no results here."""
    experiment = copies()
    intact = facts(replay.image(experiment.path))
    root = Path(experiment.path)
    foreign = Path(shutil.copytree(root / "train_t3_dir", root / "train_t9_dir"))
    for index in (0, 1):
        directory = foreign / checkpoint_name(index)
        manifest = manifests.read(str(directory))
        changed = msgspec.structs.replace(manifest, trial="t9", run="0" * 32)
        (directory / manifests.MANIFEST_NAME).write_bytes(manifests.to_bytes(changed))
    assert facts(repaired(experiment)) == intact


# --- deaths and power losses during a repair ------------------------------------------------------


def damage(experiment: Experiment) -> None:
    path = journal_file(experiment, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:6], b"rubbish\n", *lines[7:]]))


def cut_end(experiment: Experiment) -> None:
    journal_file(experiment, 2).unlink()


@pytest.mark.parametrize("what", [damage, cut_end])
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.always("exit-damage", "torn-cut_end", "enospc-damage")
def test_a_repair_may_be_cut_off_at_any_step(
    what: Callable[[Experiment], None],
    kind: Any,
    copies: Callable[[], Experiment],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The next one comes to the same, and no damaged byte is lost."""
    experiment = copies()
    expected = facts(replay.image(experiment.path))
    if what is cut_end:
        for trial in ("t2", "t3"):  # whether checkpoints are committed is for the restore
            expected[trial] = expected[trial]._replace(committed=[])
    points = 0
    code = EXIT_CODE
    while code != 0:
        experiment = copies()
        what(experiment)
        damaged = {
            path.name: path.read_bytes()
            for path in Path(epochs.journal_directory(experiment.path)).iterdir()
        }
        points += 1
        code = run_in_child(
            lambda experiment=experiment: Journal.open(experiment, repair=True).close("finished"),
            Interposer(Fault(kind, points)),
        )
        for name, data in damaged.items():
            present = Path(epochs.journal_directory(experiment.path), name)
            assert kept_aside(experiment).get(name) == data or present.read_bytes() == data
        found = facts(repaired(experiment))
        for trial in ("t2", "t3") if what is cut_end else ():
            found[trial] = found[trial]._replace(committed=[], status=expected[trial].status)
        assert found == expected
    assert points > 10
    with capfd.disabled():
        print(f"\n{points - 1} points", end=" ")


def test_a_power_loss_at_any_moment_of_a_repair(
    lived: Experiment, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever unflushed changes it takes, the experiment is as damaged as before, or repaired."""
    expected = facts(replay.image(lived.path))
    damage(lived)
    before = shutil.copytree(lived.path, tmp_path / "before")
    with Interposer() as interposer:
        Journal.open(lived, repair=True).close("finished")
    steps = [
        type(step)(
            step.operation,
            tuple(path.replace(lived.path, str(before)) for path in step.paths),
            step.data,
            step.offset,
        )
        for step in interposer.steps
    ]
    count = 0
    for state in powerloss.states(powerloss.Disk(str(before)), steps):
        count += 1
        path = tmp_path / f"state{count}"
        powerloss.materialise(state.content, str(path))
        found = facts(repaired(experiments.open(str(path))))
        assert found == expected, f"after {state.prefix} steps, {state.what} survived"
        shutil.rmtree(path)
    assert count > 10
    with capfd.disabled():
        print(f"\n{count} states", end=" ")


def test_an_experiment_of_nothing_is_nothing(tmp_path: Path) -> None:
    """Without a journal and without trials there is nothing to repair."""
    experiment = experiments.create(str(tmp_path / "exp"), name="exp", trainable="f")
    assert repaired(experiment).trials == {}
