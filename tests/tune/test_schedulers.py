"""Schedulers: the interface, the simplest one, and making one by name."""

from __future__ import annotations

import inspect
import logging
import operator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from milepost.tune import schedulers
from milepost.tune.schedulers import FIFOScheduler, TrialScheduler, create_scheduler


def test_fifo_starts_what_waits_first() -> None:
    """The run knows which trial waits first; the scheduler does not search for it."""
    trial = SimpleNamespace()
    assert FIFOScheduler().choose_trial_to_run(_Run(trial)) is trial
    assert FIFOScheduler().choose_trial_to_run(_Run(None)) is None


class _Run:
    """A run, as far as this scheduler looks at it."""

    def __init__(self, waiting: Any) -> None:
        self._waiting = waiting

    def first_waiting_trial(self) -> Any:
        return self._waiting


def test_fifo_never_stops_a_trial() -> None:
    """Every result goes on, and the other hooks do nothing."""
    fifo, trial = FIFOScheduler(), SimpleNamespace()
    assert fifo.on_trial_result(None, trial, {"loss": 1}) == TrialScheduler.CONTINUE
    fifo.on_trial_add(None, trial)
    fifo.on_trial_error(None, trial)
    fifo.on_trial_complete(None, trial, {})
    fifo.on_trial_remove(None, trial)
    assert "FIFO" in fifo.debug_string()
    assert fifo.supports_buffered_results


def test_constants() -> None:
    """Users' schedulers return these."""
    constants = (
        TrialScheduler.CONTINUE,
        TrialScheduler.PAUSE,
        TrialScheduler.STOP,
        TrialScheduler.NOOP,
    )
    assert constants == ("CONTINUE", "PAUSE", "STOP", "NOOP")


def test_the_metric_is_set_once() -> None:
    """A metric given in two places is refused, even if it is the same."""
    fifo = FIFOScheduler()
    assert fifo.metric is None
    assert fifo.set_search_properties(None, None)
    assert fifo.set_search_properties("loss", "min", num_samples=3)
    assert fifo.metric == "loss"
    assert fifo.set_search_properties(None, None)
    assert not fifo.set_search_properties("loss", "min")


def test_state(tmp_path: Path) -> None:
    """A scheduler's state goes to a file and back."""
    one, other = FIFOScheduler(), FIFOScheduler()
    one.set_search_properties("loss", "min")
    one.save(str(tmp_path / "state"))
    other.restore(str(tmp_path / "state"))
    assert other.metric == "loss"


def test_create_scheduler(caplog: pytest.LogCaptureFixture) -> None:
    """Names are found in any case; arguments it does not take are named in the log."""
    assert isinstance(create_scheduler("FIFO"), FIFOScheduler)
    with caplog.at_level(logging.WARNING, logger="milepost.tune"):
        create_scheduler("fifo", grace_period=3)
    assert "FIFOScheduler takes no grace_period" in caplog.text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("async_hyperband", "AsyncHyperBandScheduler"),
        ("AsyncHyperBand", "AsyncHyperBandScheduler"),
        ("median_stopping_rule", "MedianStoppingRule"),
        ("medianstopping", "MedianStoppingRule"),
        ("hyperband", "HyperBandScheduler"),
        ("HB_BOHB", "HyperBandForBOHB"),
    ],
)
def test_names_of_schedulers(name: str, kind: str) -> None:
    """Each of Ray's names makes its scheduler, with the arguments that it takes."""
    scheduler = create_scheduler(name, metric="loss", mode="min", points=3)
    assert type(scheduler).__name__ == kind
    assert scheduler.metric == "loss"


@pytest.mark.parametrize("name", ["asha", "population", ""])
def test_schedulers_that_are_not_here(name: str) -> None:
    """The error says what this version has, and what else can be passed."""
    with pytest.raises(ValueError, match=r"Available are: .*fifo.*TrialScheduler"):
        create_scheduler(name)
    if name == "asha":
        with pytest.raises(ValueError, match=r"Did you mean 'async_hyperband'\? Available are"):
            create_scheduler(name)


_COMPARED = "time_attr='training_iteration', metric=None, mode=None, max_t="
SIGNATURES = {
    "AsyncHyperBandScheduler": (
        f"({_COMPARED}100, grace_period=1, reduction_factor=4, brackets=1, stop_last_trials=True)"
    ),
    "HyperBandScheduler": f"({_COMPARED}81, reduction_factor=3, stop_last_trials=True)",
    "HyperBandForBOHB": f"({_COMPARED}81, reduction_factor=3, stop_last_trials=True)",
    "MedianStoppingRule": (
        "(time_attr='time_total_s', metric=None, mode=None, grace_period=60.0, "
        "min_samples_required=3, min_time_slice=0, hard_stop=True)"
    ),
    "PopulationBasedTraining": (
        "(time_attr='time_total_s', metric=None, mode=None, perturbation_interval=60.0, "
        "burn_in_period=0.0, hyperparam_mutations=None, quantile_fraction=0.25, "
        "resample_probability=0.25, perturbation_factors=(1.2, 0.8), custom_explore_fn=None, "
        "log_config=True, require_attrs=True, synch=False)"
    ),
    "PopulationBasedTrainingReplay": "(policy_file)",
    "pb2.PB2": (
        "(time_attr='time_total_s', metric=None, mode=None, perturbation_interval=60.0, "
        "hyperparam_bounds=None, quantile_fraction=0.25, log_config=True, require_attrs=True, "
        "synch=False, custom_explore_fn=None)"
    ),
}


@pytest.mark.parametrize(("kind", "signature"), SIGNATURES.items())
def test_signatures(kind: str, signature: str) -> None:
    """Arguments, their order and their defaults are Ray's."""
    found = inspect.signature(operator.attrgetter(kind)(schedulers))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
    bare = inspect.Signature(plain)
    assert str(bare) == signature
