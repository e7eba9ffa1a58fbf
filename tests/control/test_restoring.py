"""Runs whose driver was killed go on with real workers, a real keeper and a real journal."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from plans import CustomError, Dies, Listed, Notes, again, count, killed, plan, rows, save, saved

from milepost import tune
from milepost.api.checkpoint_config import CheckpointConfig
from milepost.api.failure_config import FailureConfig
from milepost.api.resume_config import ResumeConfig, ResumeType
from milepost.checkpoint import verify
from milepost.control.controller import run
from milepost.errors import LeaseLostError, RayTaskError, TuneError
from milepost.journal import replay
from milepost.journal.experiment import open as open_experiment
from milepost.journal.log import Journal

RESUME, RESTART, SKIP = ResumeType.RESUME, ResumeType.RESTART, ResumeType.SKIP


def numbers(record: Any) -> list[int]:
    return [row["number"] for row in rows(record)]


# --- killed at any result ------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 3, 4, 6])
@pytest.mark.always("4")
def test_functions_go_on_where_they_were(tmp_path: Path, at: int) -> None:
    """No committed iteration comes twice, none is missing, and the results are those of one run."""
    first = plan(tmp_path, count, [{"x": 1}, {"x": 2}], callbacks=[Dies("on_trial_result", at)])
    killed(first)
    outcome = run(again(first, search=Listed([{"x": 1}, {"x": 2}])))
    assert [record.trial_id for record in outcome.trials] == ["t0", "t1"]
    for record in outcome.trials:
        assert record.status == "TERMINATED"
        assert numbers(record) == [1, 2, 3]
        assert [row["training_iteration"] for row in rows(record)] == [1, 2, 3]
        assert record.last_row["done"] is True
        assert record.last_row["training_iteration"] == 3
        assert record.analysis["number"]["avg"] == 2
        assert [index for index, _, _ in record.checkpoints] == [0, 1, 2]
    image = replay.image(first.experiment.path)
    assert image.closed == "finished"
    assert all(not trial.captured for trial in image.trials.values())


class Steps(tune.Trainable):
    """Counts to three, and saves when it is told to."""

    def setup(self, config: dict[str, Any]) -> None:
        self.number = 0

    def step(self) -> dict[str, Any]:
        self.number += 1
        return {"number": self.number, "done": self.number == 3}

    def save_checkpoint(self, directory: str) -> None:
        Path(directory, "number").write_text(str(self.number))

    def load_checkpoint(self, directory: str | None) -> None:
        assert directory is not None
        self.number = int(Path(directory, "number").read_text())


@pytest.mark.parametrize("hook", ["on_trial_result", "on_trial_save"])
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.always("2-on_trial_result", "2-on_trial_save")
def test_classes_go_on_where_they_were(tmp_path: Path, hook: str, at: int) -> None:
    """A checkpoint that a class saved is used, whether or not the driver had heard of it."""
    saving = CheckpointConfig(checkpoint_frequency=1, checkpoint_at_end=True)
    first = plan(tmp_path, Steps, checkpoint=saving, callbacks=[Dies(hook, at)])
    killed(first)
    (record,) = run(again(first, search=Listed([{}]))).trials
    assert record.status == "TERMINATED"
    assert record.latest is not None
    assert record.latest[2]["number"] == 3
    assert numbers(record)[-1] == 3
    assert set(numbers(record)) == {1, 2, 3}
    if hook == "on_trial_save":
        assert numbers(record) == [1, 2, 3], "what was committed is not done again"


def test_a_trial_that_was_told_to_stop_does_not_go_past_it(tmp_path: Path) -> None:
    """A decision on record stands, although the driver died before the trial had ended."""
    first = plan(
        tmp_path, count, criteria={"number": 2}, callbacks=[Dies("on_checkpoint", number=2)]
    )
    killed(first)
    assert replay.image(first.experiment.path).trials["t0"].action == "stop"
    notes = Notes()
    (record,) = run(again(first, search=Listed([{}]), callbacks=[notes])).trials
    assert numbers(record) == [1, 2]
    assert record.status == "TERMINATED"
    assert notes.said == [("complete", "t0", "TERMINATED"), ("end",)]


@pytest.mark.chaos
def test_a_result_that_nobody_received_counts(tmp_path: Path) -> None:
    """A checkpoint is there before its report is: its row is judged, and can end the trial."""
    first = plan(
        tmp_path, count, criteria={"number": 2}, callbacks=[Dies("on_trial_result", number=2)]
    )
    killed(first)
    assert replay.image(first.experiment.path).trials["t0"].iteration == 1
    search, notes = Listed([{}]), Notes()
    (record,) = run(again(first, search=search, callbacks=[notes])).trials
    assert numbers(record) == [1, 2]
    assert ("result", "t0", 2) in notes.said
    assert search.told[-1] == ("complete", "t0", 2, False)


def test_a_restore_that_is_killed_is_restored(tmp_path: Path) -> None:
    """At its first step, and before a trial is taken up: both times everything is still there."""
    first = plan(tmp_path, count, [{}, {}], callbacks=[Dies("on_trial_result", 3)])
    killed(first)
    for hook in ("on_step_begin", "on_trial_start"):
        killed(again(first, search=Listed([{}, {}]), callbacks=[Dies(hook)]))
    outcome = run(again(first, search=Listed([{}, {}])))
    assert [numbers(record) for record in outcome.trials] == [[1, 2, 3], [1, 2, 3]]


# --- groups of trials -----------------------------------------------------------------------------


def fails_or_counts(config: dict[str, Any]) -> None:
    """Fails after two reports if it is told to and no flag is there."""
    start = saved() or 0
    for number in range(start + 1, 4):
        if number == 3 and config.get("fails") and not Path(config["fails"]).exists():
            raise CustomError("as told")
        tune.report({"number": number}, checkpoint=save(number))


@pytest.fixture
def half_failed(tmp_path: Path) -> Any:
    """An experiment that has ended with one trial finished and one failed, and a way to mend it."""
    flag = tmp_path / "mended"
    configs = [{"fails": None}, {"fails": str(flag)}]
    first = plan(tmp_path, fails_or_counts, configs)
    run(first)
    return first, configs, flag


def test_what_has_ended_stays(half_failed: Any) -> None:
    """Nothing of it runs or is told again, and its record is as good as it was."""
    first, configs, _ = half_failed
    notes, search = Notes(), Listed(configs)
    done, failed = run(again(first, search=search, callbacks=[notes])).trials
    assert notes.said == [("end",)]
    assert (done.status, failed.status) == ("TERMINATED", "ERROR")
    assert done.last_row["number"] == 3
    assert done.last_row["done"] is True
    assert done.last_row["experiment_tag"] == "0"
    assert done.config == configs[0]
    assert done.analysis["number"]["max"] == 3
    assert [index for index, _, _ in done.checkpoints] == [0, 1, 2]
    assert isinstance(failed.error, RayTaskError)
    assert isinstance(failed.error, CustomError)
    assert failed.failures == 1


def test_failed_trials_go_on(half_failed: Any) -> None:
    """From their last checkpoint, under their own ids, with their failures counted."""
    first, configs, flag = half_failed
    flag.touch()
    search = Listed(configs)
    outcome = run(again(first, search=search, resume=ResumeConfig(errored=RESUME)))
    done, mended = outcome.trials
    assert (done.status, mended.status) == ("TERMINATED", "TERMINATED")
    assert (mended.trial_id, mended.failures) == ("t1", 1)
    assert mended.error is None
    assert numbers(mended) == [1, 2, 3]


@pytest.mark.chaos
def test_failed_trials_that_go_on_and_fail_again(half_failed: Any) -> None:
    """The failures before count; the searcher is told of the end once."""
    first, configs, _ = half_failed
    search = Listed(configs)
    outcome = run(again(first, search=search, resume=ResumeConfig(errored=RESUME)))
    assert outcome.trials[1].status == "ERROR"
    assert outcome.trials[1].failures == 2
    assert search.told.count(("complete", "t1", None, True)) == 1, "while it learned of the past"


@pytest.mark.chaos
def test_failed_trials_start_again(half_failed: Any) -> None:
    """As new trials from the beginning; the old ones stay on disk and are no results any more."""
    first, configs, flag = half_failed
    flag.touch()
    outcome = run(
        again(
            first,
            search=Listed(configs),
            resume=ResumeConfig(errored=RESTART),
            dirname_of=lambda trial: f"again_{trial.trial_id}",
        )
    )
    done, anew = outcome.trials
    assert (done.trial_id, anew.status) == ("t0", "TERMINATED")
    assert anew.trial_id != "t1"
    assert (anew.config, anew.tag) == (configs[1], "1")
    assert numbers(anew) == [1, 2, 3]
    assert [index for index, _, _ in anew.checkpoints] == [0, 1, 2]
    assert Path(first.experiment.path, "f_t1").is_dir()
    image = replay.image(first.experiment.path)
    assert image.trials["t1"].restarted_by == anew.trial_id
    third = run(again(first, search=Listed(configs), resume=ResumeConfig(errored=RESUME)))
    assert [record.trial_id for record in third.trials] == ["t0", anew.trial_id]


def test_unfinished_trials_can_be_left(tmp_path: Path) -> None:
    """With SKIP they end as they are, and nothing of them runs."""
    first = plan(tmp_path, count, [{}, {}, {}], callbacks=[Dies("on_trial_result", 3)])
    killed(first)
    notes = Notes()
    resume = ResumeConfig(unfinished=SKIP)
    outcome = run(again(first, search=Listed([{}, {}, {}]), callbacks=[notes], resume=resume))
    assert {record.status for record in outcome.trials} == {"TERMINATED"}
    assert not [said for said in notes.said if said[0] == "start"]
    image = replay.image(first.experiment.path)
    assert {trial.status for trial in image.trials.values()} == {"TERMINATED"}


def test_failures_before_a_kill_count(tmp_path: Path) -> None:
    """A trial that has used up its retries fails for good at its next failure."""

    def fails_at_two(config: dict[str, Any]) -> None:
        for number in range((saved() or 0) + 1, 4):
            tune.report({"number": number}, checkpoint=save(number))
            if number >= 2:
                raise CustomError("again")

    failure = FailureConfig(max_failures=1)
    first = plan(tmp_path, fails_at_two, failure=failure, callbacks=[Dies("on_trial_recover")])
    killed(first)
    (record,) = run(again(first, search=Listed([{}]))).trials
    assert (record.status, record.failures) == ("ERROR", 2)


@pytest.mark.parametrize("fail_fast", [True, "raise"])
@pytest.mark.always("True")
def test_fail_fast_ends_one_run_only(tmp_path: Path, fail_fast: Any) -> None:
    """What was cut short by somebody else's failure goes on, and the old failure ends nothing."""
    configs = [{"fails": str(tmp_path / "never")}, {"fails": None}, {"fails": None}]
    failure = FailureConfig(fail_fast=fail_fast)
    first = plan(tmp_path, fails_or_counts, configs, cpus=1, failure=failure)
    if fail_fast == "raise":
        with pytest.raises(CustomError):
            run(first)
    else:
        run(first)
    outcome = run(again(first, search=Listed(configs)))
    assert [record.status for record in outcome.trials] == ["ERROR", "TERMINATED", "TERMINATED"]
    assert numbers(outcome.trials[2]) == [1, 2, 3]


# --- what is on disk ------------------------------------------------------------------------------


@pytest.fixture
def cut(tmp_path: Path) -> Any:
    """An experiment that was killed with two checkpoints of its only trial on record."""
    first = plan(tmp_path, count, callbacks=[Dies("on_checkpoint", 3)])
    killed(first)
    return first, Path(first.experiment.path, "f_t0")


def test_a_checkpoint_that_is_gone_is_lost(cut: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The next older one is used, loudly, and its number is not given to another."""
    first, directory = cut
    shutil.rmtree(directory / "checkpoint_000002")
    shutil.rmtree(directory / "checkpoint_000001")
    (record,) = run(again(first, search=Listed([{}]))).trials
    assert record.status == "TERMINATED"
    assert [index for index, _, _ in record.checkpoints] == [0, 3, 4]
    assert [row["number"] for _, _, row in record.checkpoints] == [1, 2, 3]
    assert "on record, but gone or damaged: not used (f_t0 000001" in caplog.text


def test_a_damaged_checkpoint_is_not_used(cut: Any, caplog: pytest.LogCaptureFixture) -> None:
    """After an unclean end every byte is compared; a bad one goes to quarantine."""
    first, directory = cut
    (directory / "checkpoint_000002" / "number").write_text("9")
    (record,) = run(again(first, search=Listed([{}]))).trials
    assert [row["number"] for _, _, row in record.checkpoints] == [1, 2, 3]
    assert "failed verification" in caplog.text
    assert list(directory.glob(".milepost-quarantine-*"))


def test_a_damaged_manifest_is_not_used(cut: Any) -> None:
    """Without its manifest a checkpoint is none; what is left of it is put aside."""
    first, directory = cut
    (directory / "checkpoint_000002" / ".milepost.json").write_text("{}")
    (record,) = run(again(first, search=Listed([{}]))).trials
    assert [row["number"] for _, _, row in record.checkpoints] == [1, 2, 3]
    assert not (directory / "checkpoint_000002").exists()
    assert list(directory.glob(".milepost-quarantine-*"))


@pytest.mark.parametrize("left", ["all but the manifest", "nothing"])
def test_one_without_manifest_stays_where_it_is(
    cut: Any, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is foreign now: not used, not renamed, and its number is not given to another."""
    first, directory = cut
    newest = directory / "checkpoint_000002"
    (newest / ".milepost.json").unlink()
    if left == "nothing":
        shutil.rmtree(newest)
        newest.mkdir()
    there = sorted(path.name for path in newest.iterdir())
    (record,) = run(again(first, search=Listed([{}]))).trials
    assert [index for index, _, _ in record.checkpoints] == [0, 1, 3]
    assert [row["number"] for _, _, row in record.checkpoints] == [1, 2, 3]
    assert sorted(path.name for path in newest.iterdir()) == there
    assert not list(directory.glob(".milepost-quarantine-*"))
    assert f"{newest} has no manifest any more" in caplog.text


def test_numbers_of_foreign_directories_are_left_alone(cut: Any) -> None:
    """A directory that somebody put there is neither used nor in the way."""
    first, directory = cut
    shutil.rmtree(directory / "checkpoint_000002")
    shutil.copytree(directory / "checkpoint_000000", directory / "checkpoint_000007")
    (record,) = run(again(first, search=Listed([{}]))).trials
    assert [index for index, _, _ in record.checkpoints][-1] == 8
    assert (directory / "checkpoint_000007" / "number").read_text() == "1"


def test_another_number_of_checkpoints_to_keep(cut: Any) -> None:
    """It holds for what is there already, once the start is known to be good."""
    first, directory = cut
    keep = CheckpointConfig(num_to_keep=1)
    (record,) = run(again(first, search=Listed([{}]), checkpoint=keep)).trials
    assert len(record.checkpoints) == 1
    assert len(verify.committed(str(directory))) == 1


def test_deleting_goes_on(tmp_path: Path) -> None:
    """What an earlier run had decided to delete is deleted, also of trials that have ended."""
    keep = CheckpointConfig(num_to_keep=1)
    first = plan(tmp_path, count, checkpoint=keep, callbacks=[Dies("on_checkpoint", 3)])
    killed(first)
    run(again(first, search=Listed([{}])))
    (trial,) = replay.image(first.experiment.path).trials.values()
    assert trial.status == "TERMINATED"
    assert not trial.deleting
    assert len(verify.committed(str(Path(first.experiment.path, "f_t0")))) == 1


# --- the run as a whole ---------------------------------------------------------------------------


def test_a_run_that_goes_on_elsewhere_is_not_disturbed(tmp_path: Path) -> None:
    """The error names its driver; nothing was changed."""
    first = plan(tmp_path, count)
    journal = Journal.open(open_experiment(first.experiment.path))
    try:
        with pytest.raises(LeaseLostError, match="in use by process"):
            run(again(first, search=Listed([{}])))
    finally:
        journal.close(None)


def test_values_that_cannot_be_loaded_are_asked_for_by_name(tmp_path: Path) -> None:
    """Each key and trial is named, nothing is changed, and a value can be given instead."""
    moved = tmp_path / "moved"

    def load(flag: str) -> str:
        if Path(flag).exists():
            raise ImportError("No module named 'parts'")
        return "part"

    class Part:
        def __reduce__(self) -> Any:
            return load, (str(moved),)

        def __repr__(self) -> str:
            return "<a part>"

    configs = [{"model": {"part": Part()}}]
    first = plan(tmp_path, count, configs, callbacks=[Dies("on_trial_result", 2)])
    killed(first)
    before = replay.image(first.experiment.path)
    moved.touch()
    with pytest.raises(TuneError, match=r"trial t0 holds values.*\n.*model/part, which was <a"):
        run(again(first, search=Listed([{}])))
    after = replay.image(first.experiment.path)
    assert after.trials == before.trials
    assert after.closed is None, "the end of the earlier run still counts as unclean"
    asked = []

    def supply(trial_id: str, where: str, text: str, error: Exception) -> Any:
        asked.append((trial_id, where))
        return 5

    (record,) = run(again(first, search=Listed([{}]), supply=supply)).trials
    assert numbers(record) == [1, 2, 3]
    assert asked == [("t0", "model/part")]
    assert record.config == {"model": {"part": 5}}


def test_other_resources_and_concurrency_count(tmp_path: Path) -> None:
    """For trials that go on as well as for new ones."""
    from milepost.api.resources import placement_group_of

    restored, busy = tmp_path / "restored", tmp_path / "busy"

    def train(config: dict[str, Any]) -> None:
        if not restored.exists():
            count(config)
            return
        busy.touch(exist_ok=False)  # there is room for one at a time
        count(config)
        busy.unlink()

    first = plan(tmp_path, train, [{}] * 3, callbacks=[Dies("on_trial_result", 1)])
    killed(first)
    restored.touch()
    two = placement_group_of({"cpu": 2})
    outcome = run(again(first, search=Listed([{}] * 3), resources=lambda config: two))
    assert [record.resources for record in outcome.trials] == [two] * 3
    assert [record.status for record in outcome.trials] == ["TERMINATED"] * 3


def test_resources_that_are_not_there(tmp_path: Path) -> None:
    """A trial that can never go on ends the restore at once, and everything is still there."""
    from milepost.api.resources import placement_group_of

    first = plan(tmp_path, count, callbacks=[Dies("on_trial_result", 2)])
    killed(first)
    huge = placement_group_of({"cpu": 64})
    with pytest.raises(TuneError, match="f_t0 can never go on: it asks for CPU 64"):
        run(again(first, search=Listed([{}]), resources=lambda config: huge))
    (record,) = run(again(first, search=Listed([{}]))).trials
    assert numbers(record) == [1, 2, 3]


def test_time_used_up_before_counts(tmp_path: Path) -> None:
    """The time budget is the experiment's, not each run's."""
    first = plan(tmp_path, count, callbacks=[Dies("on_trial_result", 1)])
    killed(first)
    elapsed = replay.image(first.experiment.path).elapsed_s
    assert elapsed > 0
    notes = Notes()
    outcome = run(again(first, search=Listed([{}]), time_budget_s=elapsed / 2, callbacks=[notes]))
    assert [record.status for record in outcome.trials] == ["TERMINATED"]
    assert not [said for said in notes.said if said[0] == "start"]


def test_it_is_told_before_anything_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, and as lines of the display unless it is silent."""
    first = plan(tmp_path, count, [{}, {}], cpus=1, callbacks=[Dies("on_trial_result", 2)])
    killed(first)
    shown: list[str] = []

    class Display:
        def update(self, view: Any) -> None:
            pass

        def line(self, text: str, stream: str) -> None:
            shown.append(text)

        def close(self) -> None:
            pass

    with caplog.at_level(logging.INFO, logger="milepost.control"):
        changed = again(
            first,
            search=Listed([{}, {}]),
            resume=ResumeConfig(unfinished=ResumeConfig.ResumeType.SKIP),
            progress=Display(),
            verbose=1,
        )
        run(changed)
    assert shown[0] == "2 trials end where they are"
    assert all(line in caplog.text for line in shown)


def test_a_temporary_directory_is_no_experiment() -> None:
    """Only what is an experiment can be gone on with."""
    from milepost.errors import StorageError

    with tempfile.TemporaryDirectory() as empty, pytest.raises(StorageError, match="experiment"):
        open_experiment(empty)
