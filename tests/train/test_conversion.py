"""Run configs of tuning given to trainers, and those of training given to a Tuner."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from milepost import train, tune
from milepost.api.config import given_fields
from milepost.api.training.conversion import for_training, for_tuning


class Told(train.UserCallback):
    """A callback of training."""


class Heard(tune.Callback):
    """A callback of tuning."""


def test_a_config_of_tuning_is_one_of_training(tmp_path: Path) -> None:
    """Everything that was set in it is kept, and what training adds has its defaults."""
    heard = Heard()
    given = tune.RunConfig(
        name="digits",
        storage_path=str(tmp_path),
        failure_config=tune.FailureConfig(max_failures=2),
        checkpoint_config=tune.CheckpointConfig(num_to_keep=3),
        sync_config=tune.SyncConfig(sync_artifacts=True),
        verbose=2,
        stop={"loss": 0.1},
        callbacks=[heard],
        log_to_file=True,
    )
    assert for_training(given) == train.RunConfig(
        name="digits",
        storage_path=str(tmp_path),
        failure_config=train.FailureConfig(max_failures=2),
        checkpoint_config=train.CheckpointConfig(num_to_keep=3),
        sync_config=train.SyncConfig(sync_artifacts=True),
        verbose=2,
        stop={"loss": 0.1},
        callbacks=[heard],
        log_to_file=True,
    )


def test_a_trainers_config_is_its_own() -> None:
    """None means the defaults; a config that was given is not changed by what a trainer does."""
    assert for_training(None) == train.RunConfig()
    given = train.RunConfig(callbacks=[Told()])
    taken = for_training(given)
    taken.name = "chosen"
    assert (given.name, taken.callbacks) == (None, given.callbacks)


def test_a_config_of_a_users_class() -> None:
    """Fields of a user's own class stay with it; those of ours are taken over."""

    @dataclasses.dataclass
    class Mine(tune.RunConfig):
        owner: str = "me"

    taken = for_training(Mine(name="x", owner="you"))
    assert (type(taken), taken.name) == (train.RunConfig, "x")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"name": "x"}, TypeError, r"run_config must be a RunConfig, .*write RunConfig\(\*\*"),
        (train.RunConfig, TypeError, r"write RunConfig\(\.\.\.\)"),
        (3, TypeError, "got 3"),
        (
            train.RunConfig(checkpoint_config=train.CheckpointConfig(checkpoint_frequency=2)),
            DeprecationWarning,
            r"checkpoint_frequency=2 has no effect.*report\(",
        ),
        (
            tune.RunConfig(checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True)),
            DeprecationWarning,
            "checkpoint_at_end=True has no effect.*to False",
        ),
    ],
)
def test_what_no_trainer_can_use(given: Any, error: type, message: str) -> None:
    """Something else than a config, and checkpoints that only trainables make, are refused."""
    with pytest.raises(error, match=message):
        for_training(given)


@pytest.mark.parametrize("unset", [{}, {"checkpoint_frequency": 0, "checkpoint_at_end": False}])
def test_checkpoints_that_are_not_asked_for(unset: dict[str, Any]) -> None:
    """Saying that none are made by themselves is fine."""
    config = train.RunConfig(checkpoint_config=train.CheckpointConfig(num_to_keep=1, **unset))
    assert for_training(config).checkpoint_config.num_to_keep == 1


def test_a_config_of_tuning_stays_what_it_is() -> None:
    """A Tuner is given the object itself, of whatever class."""
    config = tune.RunConfig(name="x")
    assert for_tuning(config) is config


def test_a_config_of_training_is_one_of_tuning() -> None:
    """What was set counts as set, so that a restored run takes only that from it."""
    config = train.RunConfig(
        stop={"loss": 1}, failure_config=train.FailureConfig(max_failures=4, trial_timeout_s=9)
    )
    taken = for_tuning(config)
    assert type(taken) is tune.RunConfig
    assert given_fields(taken) == {"stop", "failure_config"}
    assert taken.failure_config == tune.FailureConfig(max_failures=4, trial_timeout_s=9)
    assert type(taken.failure_config) is tune.FailureConfig
    assert given_fields(taken.failure_config) == {"max_failures", "trial_timeout_s"}


def test_a_failure_config_of_training_inside_one_of_tuning() -> None:
    """It is translated on its own, in a copy."""
    failure = train.FailureConfig(max_failures=4, controller_failure_limit=-1)
    config = tune.RunConfig(failure_config=failure)
    assert for_tuning(config).failure_config == tune.FailureConfig(max_failures=4)
    assert config.failure_config is failure


WORKERS_ONLY = [
    ({"callbacks": [Heard(), Told()]}, r"callbacks\[1\] is a milepost.train.UserCallback.*Told"),
    ({"worker_runtime_env": {"env_vars": {"A": "1"}}}, r"worker_runtime_env={'env_vars'.*Leave it"),
    ({"logging_config": train.LoggingConfig("DEBUG")}, r"logging_config=.*'DEBUG'"),
    (
        {"failure_config": train.FailureConfig(max_preemption_failures=3)},
        "FailureConfig.max_preemption_failures=3 is for training workers",
    ),
]


@pytest.mark.parametrize(("given", "message"), WORKERS_ONLY)
def test_a_tuner_refuses_what_is_for_workers(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """What would be ignored is an error of the line that makes the Tuner."""
    config = train.RunConfig(storage_path=str(tmp_path), **given)
    with pytest.raises(ValueError, match=message):
        tune.Tuner(lambda config: None, run_config=config)
    with pytest.raises(ValueError, match=message):
        tune.Tuner.restore(str(tmp_path), lambda config: None, run_config=config)


def objective(config: dict[str, Any]) -> None:
    for step in range(5):
        tune.report({"step": step})


def test_scripts_that_tune_with_configs_of_training(tmp_path: Path) -> None:
    """``train.RunConfig`` with the options of tuning works with ``Tuner``, and can be restored."""
    heard = []

    class Counting(tune.Callback):
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            heard.append(trial.trial_id)

    config = train.RunConfig(
        name="x",
        storage_path=str(tmp_path),
        stop={"step": 2},
        verbose=0,
        callbacks=[Counting()],
        failure_config=train.FailureConfig(max_failures=1),
        checkpoint_config=train.CheckpointConfig(num_to_keep=2),
    )
    (result,) = tune.Tuner(objective, run_config=config).fit()
    assert result.metrics["step"] == 2
    assert len(heard) == 3
    tuner = tune.Tuner.restore(
        str(tmp_path / "x"),
        objective,
        run_config=train.RunConfig(failure_config=train.FailureConfig(max_failures=5)),
    )
    assert [again.metrics["step"] for again in tuner.fit()] == [2]
