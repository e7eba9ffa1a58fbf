"""What ``tune.run`` does with arguments that older scripts pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.journal import experiment as experiments
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
        ({"restore": "/tmp/c"}, tune.TuneError, "cannot start trials from a given checkpoint"),
        ({"resume": "PROMPT"}, DeprecationWarning, "PROMPT"),
        ({"resume": "AUTO+ERORED"}, ValueError, "Did you mean 'ERRORED'"),
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


@pytest.mark.parametrize("asked", [{"resume": True}, {"resume_config": tune.ResumeConfig()}])
def test_resuming_is_refused_when_there_is_something(tmp_path: Path, asked: Any) -> None:
    """Asking to resume an existing run is a clear error, not a run from the start."""
    experiments.create(str(tmp_path / "exp"), name="exp", trainable="train")
    with pytest.raises(tune.TuneError, match="cannot go on with an earlier run yet") as caught:
        tune.run(train, name="exp", storage_path=tmp_path, **asked)
    assert not isinstance(caught.value, FileExistsError)


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
