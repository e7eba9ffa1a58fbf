"""What the records of a run amount to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from milepost.journal import records as rec
from milepost.journal.image import InconsistentRecordError, RunImage, TrialImage, apply


def fold(*records: rec.AnyRecord) -> RunImage:
    state = RunImage()
    for seq, record in enumerate(records, 1):
        apply(state, seq, record)
    return state


def opened(epoch: int = 1, at: float = 0.5) -> rec.Opened:
    return rec.Opened(at=at, schema=1, uuid="u", epoch=epoch, host="h", pid=7, writer="w")


def committed(index: int, attempt: int = 0, at: float = 5.0) -> rec.Committed:
    return rec.Committed(
        at=at, trial="t1", attempt=attempt, index=index, iteration=9, nbytes=100, digest="d"
    )


def trial_after(make: Any, *records: rec.AnyRecord) -> TrialImage:
    return fold(opened(), make.created(lr=0.1), *records).trials["t1"]


def test_a_new_trial_is_pending(make: Any) -> None:
    """It has its config and nothing else."""
    trial = trial_after(make)
    assert (trial.status, trial.rows, trial.row, trial.attempts) == ("PENDING", 0, None, 0)
    assert msgspec.json.decode(trial.config) == {"lr": 0.1}
    assert not trial.is_finished


def test_reports_count_and_the_last_row_is_kept(make: Any) -> None:
    """Rows of all attempts count; iteration is that of the last one."""
    trial = trial_after(
        make,
        make.launched(),
        make.reported(iteration=1, loss=3.0),
        make.reported(iteration=2, loss=2.0),
        make.launched(attempt=1, at=8.0),
        make.reported(iteration=2, loss=1.0, attempt=1),
    )
    assert (trial.rows, trial.iteration, trial.attempts) == (3, 2, 2)
    assert trial.row is not None
    assert msgspec.json.decode(trial.row)["loss"] == 1.0
    assert trial.first_launched == 2.0
    assert trial.attempt_id == "a1"


def test_what_cut_a_trial_short_is_kept_until_it_goes_on(make: Any) -> None:
    """With what it was doing then; an end of its own leaves nothing of that."""
    past = make.launched(), make.reported(iteration=1)
    paused = rec.Changed(at=7.0, trial="t1", status="PAUSED")
    cut = rec.Changed(at=8.0, trial="t1", status="TERMINATED", cut_by="budget")
    again = rec.Changed(at=9.0, trial="t1", status="PENDING")
    trial = trial_after(make, *past, cut)
    assert (trial.cut_by, trial.cut_from, trial.action) == ("budget", "PENDING", "continue")
    trial = trial_after(make, *past, paused, cut)
    assert (trial.cut_by, trial.cut_from, trial.action) == ("budget", "PAUSED", "")
    trial = trial_after(make, *past, cut, again)
    assert (trial.cut_by, trial.cut_from, trial.action) == ("", "", "")


def test_a_checkpoint_goes_from_captured_to_committed_to_gone(make: Any) -> None:
    """Each step moves it, its row stays with it, and its number is never given again."""
    steps = [
        make.launched(),
        make.reported(checkpoint=0, loss=3.0),
        committed(0),
        rec.Deleting(at=6.0, trial="t1", index=0, reason="not among the best 1"),
        rec.Deleted(at=7.0, trial="t1", index=0),
    ]
    captured = trial_after(make, *steps[:2])
    assert list(captured.captured) == [0]
    assert captured.committed == {}
    kept = trial_after(make, *steps[:3])
    assert kept.captured == {}
    assert kept.committed[0].row == captured.captured[0].row
    assert (kept.committed[0].nbytes, kept.committed[0].digest) == (100, "d")
    going = trial_after(make, *steps[:4])
    assert list(going.committed) == [0]
    assert going.deleting == {0: "not among the best 1"}
    gone = trial_after(make, *steps)
    assert gone.committed == {}
    assert gone.deleting == {}
    assert {t.next_index for t in (captured, kept, going, gone)} == {1}


def test_a_class_trainable_saves_for_its_last_row(make: Any) -> None:
    """A checkpoint without a report of its own has the row before it."""
    saving = rec.Saving(at=4.0, trial="t1", attempt=0, index=3)
    trial = trial_after(make, make.launched(), make.reported(iteration=5), saving)
    assert trial.captured[3].row == trial.row
    assert trial.captured[3].iteration == 5
    assert trial.next_index == 4


def test_a_lost_checkpoint_is_no_checkpoint(make: Any) -> None:
    """It leaves a reason and a used number."""
    lost = rec.Lost(at=4.0, trial="t1", attempt=0, index=0, reason="disk full")
    trial = trial_after(make, make.launched(), make.reported(checkpoint=0), lost)
    assert (trial.captured, trial.committed, trial.lost) == ({}, {}, {0: "disk full"})
    assert trial.next_index == 1


def test_a_lost_checkpoint_that_is_committed_after_all_is_one(make: Any) -> None:
    """A later keeper may find it where an earlier one could not commit it."""
    lost = rec.Lost(at=4.0, trial="t1", attempt=0, index=0, reason="the directory is gone")
    trial = trial_after(make, make.launched(), make.reported(checkpoint=0), lost, committed(0))
    assert (list(trial.committed), trial.lost) == ([0], {})


def test_a_checkpoint_that_was_never_reported_is_known_by_its_manifest(make: Any) -> None:
    """An adopted checkpoint has no row here."""
    trial = trial_after(make, make.launched(), committed(4))
    assert trial.committed[4].row is None
    assert trial.next_index == 5


def test_failures_and_statuses(make: Any) -> None:
    """The last failure, the count and the last status are kept."""
    trial = trial_after(
        make, make.launched(), make.failure(number=1), make.failure(number=2), make.changed()
    )
    assert trial.failures == 2
    assert trial.failure is not None
    assert trial.failure.traceback.startswith("Traceback 2")
    assert trial.is_finished


def test_a_changed_config_replaces_the_old_one(make: Any) -> None:
    """Schedulers change configs; the tag says so."""
    change = rec.Reconfigured(at=4.0, trial="t1", config=make.raw({"lr": 0.2}), tag="1@perturbed")
    trial = trial_after(make, change)
    assert msgspec.json.decode(trial.config) == {"lr": 0.2}
    assert trial.tag == "1@perturbed"


def test_the_run_knows_its_last_driver_and_its_time(make: Any) -> None:
    """Time between epochs is nobody's work; a clock that went back counts as nothing."""
    state = fold(
        opened(at=100.0),
        rec.Planned(at=101.0, setup=make.raw({"a": 1})),
        rec.Searched(at=110.0, state="s1", took_s=0.25),
        rec.Searched(at=105.0, state="s2", took_s=0.5),
        rec.Closed(at=106.0, outcome="interrupted"),
        opened(epoch=2, at=500.0),
        rec.Searched(at=504.0, state="s3"),
    )
    assert state.elapsed_s == 1 + 9 + 1 + 4
    assert (state.epoch, state.opened, state.closed, state.searched) == (2, 500.0, None, "s3")
    assert (state.host, state.pid, state.seq) == ("h", 7, 7)
    assert (state.searched_seq, state.saves, state.saving_s) == (7, 3, 0.75)


def test_a_trial_knows_which_one_restarts_it(make: Any) -> None:
    """The old one stays as it was but for that; the new one begins from nothing."""
    again = msgspec.structs.replace(make.created("t2", lr=0.1), restarts="t1")
    state = fold(opened(), make.created(lr=0.1), make.launched(), make.reported(), again)
    assert state.trials["t1"].restarted_by == "t2"
    assert state.trials["t1"].rows == 1
    assert (state.trials["t2"].rows, state.trials["t2"].restarted_by) == (0, None)


def test_a_restart_of_an_unknown_trial_is_refused(make: Any) -> None:
    """It would hide nothing."""
    with pytest.raises(InconsistentRecordError, match="record 2 is about the trial 't0'"):
        fold(opened(), msgspec.structs.replace(make.created(), restarts="t0"))


def test_a_record_of_an_unknown_trial_is_refused(make: Any) -> None:
    """Nothing is invented."""
    with pytest.raises(InconsistentRecordError, match="record 2 is about the trial 't1'"):
        fold(opened(), make.changed())


def test_every_kind_of_record_is_folded() -> None:
    """No record type is missing in the fold."""
    from typing import get_args

    from milepost.journal import image

    handled = {rec.Created, *image._OF_RUN, *image._OF_TRIAL}
    assert handled == set(get_args(rec.AnyRecord))


def test_an_image_survives_json(make: Any) -> None:
    """A snapshot holds everything."""
    state = fold(
        opened(),
        make.created(lr=0.1),
        make.launched(),
        make.reported(checkpoint=0),
        committed(0),
        make.reported(checkpoint=1),
        make.failure(),
        rec.Deleting(at=6.0, trial="t1", index=0, reason="r"),
    )
    data = msgspec.json.encode(state)
    assert msgspec.json.encode(msgspec.json.decode(data, type=RunImage)) == data
