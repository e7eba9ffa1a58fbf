"""What ``tune.run`` does with arguments that older scripts pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.tune import deprecated


def train(config: dict[str, Any]) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ({"local_dir": "/tmp/x"}, DeprecationWarning, "storage_path"),
        ({"chdir_to_trial_dir": False}, DeprecationWarning, "RAY_CHDIR_TO_TRIAL_DIR=0"),
        ({"mode": "biggest", "metric": "x"}, ValueError, "'biggest'"),
        ({"fail_fast": True, "max_failures": 2}, ValueError, "max_failures"),
        ({"export_formats": ["pickle"]}, tune.TuneError, "'pickle'"),
        ({"export_formats": ["model"]}, tune.TuneError, "does not export"),
        ({"restore": "/nowhere/c"}, FileNotFoundError, "the directory of a checkpoint"),
        ({"restore": __file__}, NotADirectoryError, "the directory of a checkpoint"),
        ({"resume": "PROMPT"}, DeprecationWarning, "PROMPT"),
        ({"resume": "AUTO+ERORED"}, ValueError, "Did you mean 'ERRORED'"),
        ({"resume": "ERRORED_ONLY"}, DeprecationWarning, "ERRORED_ONLY was removed"),
        ({"resume_config": {"errored": "resume"}}, TypeError, "must be a ResumeConfig"),
        ({"checkpoint_config": tune.CheckpointConfig(checkpoint_frequency=1)}, ValueError, "train"),
        ({"num_samples": 0}, ValueError, "num_samples"),
    ],
)
def test_arguments_that_cannot_take_effect(
    tmp_path: Path, argument: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Each raises at the call, names itself and says what to do; nothing is written."""
    with pytest.raises(error, match=message):
        tune.run(train, storage_path=tmp_path, **argument)
    assert list(tmp_path.iterdir()) == []


RESUME, RESTART, SKIP = tune.ResumeConfig.ResumeType


@pytest.mark.parametrize(
    ("asked", "unfinished", "errored"),
    [
        ({"resume": True}, RESUME, SKIP),
        ({"resume": "AUTO"}, RESUME, SKIP),
        ({"resume": "auto+errored"}, RESUME, RESUME),
        ({"resume": "AUTO+RESTART_ERRORED"}, RESUME, RESTART),
        ({"resume": "AUTO+RESTART_ERRORED+ERRORED"}, RESUME, RESUME),
        ({"resume": "AUTO+ERRORED_ONLY"}, SKIP, RESUME),
        ({"resume": "AUTO+RESTART_ERRORED_ONLY"}, SKIP, RESTART),
        ({"resume_config": tune.ResumeConfig(unfinished="skip")}, SKIP, SKIP),
        ({"resume": True, "resume_config": tune.ResumeConfig(errored="restart")}, RESUME, RESTART),
    ],
)
def test_ways_to_ask_for_resuming(asked: Any, unfinished: Any, errored: Any) -> None:
    """Each says what becomes of unfinished and of failed trials; finished ones stay."""
    wanted = deprecated.resume_option(asked.get("resume"), asked.get("resume_config"))
    assert wanted == tune.ResumeConfig(finished=SKIP, unfinished=unfinished, errored=errored)


@pytest.mark.parametrize("nothing", [None, False, ""])
def test_no_resuming(nothing: Any) -> None:
    """Whatever says nothing asks for a new run."""
    assert deprecated.resume_option(nothing, None) is None


def test_older_checkpoint_arguments_are_translated() -> None:
    """Each of the four becomes its field of CheckpointConfig, with a DeprecationWarning."""
    with pytest.warns(DeprecationWarning, match="is deprecated: use") as warned:
        config = deprecated.checkpoint_config(
            tune.CheckpointConfig(num_to_keep=9),
            keep_checkpoints_num=3,
            checkpoint_score_attr="min-loss",
            checkpoint_freq=5,
            checkpoint_at_end=True,
        )
    assert config == tune.CheckpointConfig(
        num_to_keep=3,
        checkpoint_score_attribute="loss",
        checkpoint_score_order="min",
        checkpoint_frequency=5,
        checkpoint_at_end=True,
    )
    assert len(warned) == 4


def test_experiments_of_the_wrong_kind() -> None:
    """run_experiments names what it was given."""
    with pytest.raises(tune.TuneError, match="got 3"):
        tune.run_experiments(3)  # type: ignore[arg-type]
    with pytest.raises(tune.TuneError, match="expected an Experiment in the list"):
        tune.run_experiments([train])  # type: ignore[list-item]
