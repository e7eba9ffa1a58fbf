"""Population based training."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Collection, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Final

from milepost.api.checks import require_numbers
from milepost.api.fields import TRAINING_ITERATION
from milepost.errors import TuneError
from milepost.tune.schedulers import explore
from milepost.tune.schedulers.comparing import ComparingScheduler
from milepost.tune.schedulers.explore import Draws
from milepost.tune.schedulers.pbt_replay import PopulationBasedTrainingReplay
from milepost.tune.schedulers.population import Member, in_turn, quantiles

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.tune.compatible import Setting

__all__ = ["PopulationBasedTraining", "PopulationBasedTrainingReplay"]

log = logging.getLogger("milepost.tune")

#: What is saved with a run; the rest is what the user has given.
_STATE: Final = ("_members", "_draws", "_copied_times", "_next_sync", "_num_checkpoints",
                 "_num_perturbations", "_said")  # fmt: skip
_CHANGED: Final = "@perturbed"


class PopulationBasedTraining(ComparingScheduler):
    """Has bad trials go on from the checkpoints of good ones, with a changed config.

    Mirrors ``ray.tune.schedulers.PopulationBasedTraining``. See Jaderberg et al., "Population
    Based Training of Neural Networks". All trials of a population are trained at once. After each
    ``perturbation_interval`` a trial is compared with the others: one of the worst takes over
    checkpoint and config of one of the best, and the config is changed a little.

    The checkpoint is that of the result by which the donor was compared. Nothing is copied: it is
    kept until the other trial has committed one of its own, whatever ``num_to_keep`` says. A
    function has to report a checkpoint with the results at which trials are compared; without one,
    nobody goes on from that trial. ``time_attr`` and ``training_iteration`` go on from the donor's.

    A NaN is compared with nothing. Random choices begin from Python's and NumPy's global
    generators, and are the scheduler's own from then on, so that a restored run makes those that it
    would have made.

    Args:
        time_attr: the entry of results that tells how far a trial is.
        metric: the metric; None takes that of ``TuneConfig``.
        mode: ``"min"`` or ``"max"``; None takes that of ``TuneConfig``.
        perturbation_interval: how often a trial is compared, in units of ``time_attr``.
        burn_in_period: no trial is compared before.
        hyperparam_mutations: hyper-parameter -> how it may change: a domain such as
            ``tune.uniform(0, 1)`` or a function without arguments for numbers, a list for choices,
            a dict for nested ones. Those that the config lacks are drawn from it at the start.
        quantile_fraction: the share of trials that counts as the best, and as the worst; 0 to 0.5.
        resample_probability: how often a value is drawn anew instead of changed a little.
        perturbation_factors: numbers are multiplied by one of these.
        custom_explore_fn: changed config -> config; called last.
        log_config: whether changes are listed in ``pbt_global.txt`` and ``pbt_policy_*.txt``.
        require_attrs: whether a result without metric or time is an error.
        synch: whether all trials wait for each other before they are compared.

    Raises:
        ValueError: an argument is out of range.
        TypeError: a mutation is none of the above, or an argument is no number or function.
        TuneError: there is neither a mutation nor a ``custom_explore_fn``.
    """

    _supports_buffered_results = False

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        perturbation_interval: float = 60.0,
        burn_in_period: float = 0.0,
        hyperparam_mutations: dict[str, Any] | None = None,
        quantile_fraction: float = 0.25,
        resample_probability: float = 0.25,
        perturbation_factors: Sequence[float] = (1.2, 0.8),
        custom_explore_fn: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        log_config: bool = True,
        require_attrs: bool = True,
        synch: bool = False,
    ) -> None:
        super().__init__(time_attr, metric, mode)
        owner = type(self).__name__
        mutations = {} if hyperparam_mutations is None else hyperparam_mutations
        explore.check(owner, mutations)
        if not mutations and custom_explore_fn is None:
            raise TuneError(
                f"{owner} needs to know what to change: give hyperparam_mutations or "
                "custom_explore_fn."
            )
        if custom_explore_fn is not None and not callable(custom_explore_fn):
            raise TypeError(
                f"{owner}(custom_explore_fn=...) must be a function from config to config, got "
                f"{custom_explore_fn!r}."
            )
        require_numbers(
            owner,
            perturbation_interval=perturbation_interval,
            burn_in_period=burn_in_period,
            quantile_fraction=quantile_fraction,
            resample_probability=resample_probability,
        )
        checks: tuple[tuple[bool, str, Any, str], ...] = (
            (0 <= quantile_fraction <= 0.5, "quantile_fraction", quantile_fraction, "0 to 0.5"),
            (perturbation_interval > 0, "perturbation_interval", perturbation_interval, "above 0"),
            (burn_in_period >= 0, "burn_in_period", burn_in_period, "0 or more"),
            (
                0 <= resample_probability <= 1,
                "resample_probability",
                resample_probability,
                "0 to 1",
            ),
            (
                _are_factors(perturbation_factors),
                "perturbation_factors",
                perturbation_factors,
                "two numbers or more",
            ),
        )
        for holds, name, value, must_be in checks:
            if not holds:
                raise ValueError(f"{owner}({name}=...) must be {must_be}, got {value!r}.")
        self._perturbation_interval = perturbation_interval
        self._burn_in_period = burn_in_period
        self._hyperparam_mutations = mutations
        self._quantile_fraction = quantile_fraction
        self._resample_probability = resample_probability
        self._perturbation_factors = tuple(perturbation_factors)
        self._custom_explore_fn = custom_explore_fn
        self._log_config = log_config
        self._require_attrs = require_attrs
        self._synch = synch
        self._members: dict[str, Member] = {}
        self._draws: Draws | None = None
        self._copied_times: dict[str, tuple[float, float]] = {}
        self._next_sync = max(perturbation_interval, burn_in_period)
        self._num_checkpoints = 0
        self._num_perturbations = 0

    def check_run(self, setting: Setting) -> None:
        """Refuse a run whose trials cannot be compared or go on from each other.

        Raises:
            ValueError: they cannot, or a searcher proposes them.
        """
        super().check_run(setting)
        if setting.searcher is not None:
            raise ValueError(self._goes_with_no(setting.searcher))
        setting.require_checkpoints(
            type(self).__name__, "has trials go on from each other's checkpoints"
        )

    def doubts(self, setting: Setting) -> list[str]:
        """Return what is probably misspelt."""
        name = type(self).__name__
        return list(explore.misspelt(name, self._hyperparam_mutations, setting.space))

    def _goes_with_no(self, searcher: str) -> str:
        return (
            f"{type(self).__name__} changes configs by itself and cannot be used with the "
            f"searcher {searcher}. Leave search_alg out of TuneConfig; param_space says where "
            "trials begin."
        )

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take over the run's metric and mode; False if there is one here and there."""
        self._random()  # before anything of it is saved
        return super().set_search_properties(metric, mode, **spec)

    def _random(self) -> Draws:
        if self._draws is None:
            self._draws = Draws(self._draws_from_numpy())
        return self._draws

    def _draws_from_numpy(self) -> bool:
        return explore.uses_numpy(self._hyperparam_mutations)

    # --- trials come and go -----------------------------------------------------------------

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take a trial into the population; hyper-parameters that its config lacks are drawn.

        Raises:
            ValueError: there is no metric or no mode, or a searcher proposes the trials.
        """
        super().on_trial_add(tune_controller, trial)
        searcher = getattr(tune_controller.search_alg, "searcher", None)
        if searcher is not None:
            raise ValueError(self._goes_with_no(type(searcher).__name__))
        if trial.trial_id in self._members:  # it is tried again
            return
        self._members[trial.trial_id] = Member(_tag_before(trial))
        config = dict(trial.config)
        if drawn := self._fill(config):
            trial.set_config(config)
            trial.evaluated_params.update(_flat(drawn))

    def _fill(self, config: dict[str, Any]) -> dict[str, Any]:
        """Draw what a config lacks; return that."""
        return explore.fill(config, self._hyperparam_mutations, self._random())

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Forget the trial; others may have waited for it."""
        self._leave(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Forget the trial; others may have waited for it."""
        self._leave(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Forget a trial that has failed for good; one that is tried again stays."""
        if trial.is_finished():
            self._leave(tune_controller, trial)

    def _leave(self, tune_controller: Any, trial: Trial) -> None:
        self._members.pop(trial.trial_id, None)
        self._copied_times.pop(trial.trial_id, None)
        if self._synch and any(member.time for member in self._members.values()):
            self._synchronise(tune_controller)

    # --- results ----------------------------------------------------------------------------

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Compare a trial with the others, if it is time to.

        Raises:
            RuntimeError: the result lacks the metric or time.
            TypeError: the metric or time is no number.
        """
        member = self._members.get(trial.trial_id)
        measured = self._measured(trial, result)
        if measured is None:
            self._miss(result)
            return self.CONTINUE
        time, score = measured
        if member is None:  # it ran before this scheduler did
            member = self._members[trial.trial_id] = Member(_tag_before(trial))
        if time < self._burn_in_period or time - member.perturbed < self._perturbation_interval:
            return self.CONTINUE
        self._note(trial, member, result, time, score)
        if self._synch:
            self._offer(tune_controller, trial, member)
            self._synchronise(tune_controller)
            return self.PAUSE
        member.perturbed = time
        lower, upper = self._quantiles(tune_controller)
        if trial in upper:
            self._offer(tune_controller, trial, member)
        else:
            self._withdraw(tune_controller, trial, member)
        if trial in lower and self._exploit(tune_controller, trial, upper):
            return self.NOOP
        others = tune_controller.get_trials()
        waiting = any(tune_controller.waits_for_room(other) for other in others)
        return self.PAUSE if waiting else self.CONTINUE

    def _note(
        self, trial: Trial, member: Member, result: dict[str, Any], time: float, score: float
    ) -> None:
        """Remember the result by which a trial is compared."""
        member.score, member.time = score, time
        member.iteration = int(result.get(TRAINING_ITERATION, 0))
        self._copied_times.pop(trial.trial_id, None)

    def _miss(self, result: dict[str, Any]) -> None:
        lacking = self._lacking(result)
        text = (
            f"{type(self).__name__} needs {lacking!r} in every result, and one came without."
            + self._advice(lacking, result)
        )
        if self._require_attrs:
            raise RuntimeError(
                f"{text} Results without it are passed over with require_attrs=False. What was "
                "reported and committed is kept."
            )
        self._warn_once(lacking, f"{text} Such results are passed over.")

    def _quantiles(self, tune_controller: Any) -> tuple[list[Trial], list[Trial]]:
        return quantiles(tune_controller.get_trials(), self._members, self._quantile_fraction)

    def _offer(self, tune_controller: Any, trial: Trial, member: Member) -> None:
        tune_controller.save_trial(trial)
        member.offers = True
        self._num_checkpoints += 1

    def _withdraw(self, tune_controller: Any, trial: Trial, member: Member) -> None:
        if member.offers:
            member.offers = False
            tune_controller.release_trial(trial)

    # --- all at once ------------------------------------------------------------------------

    def _synchronise(self, tune_controller: Any) -> None:
        """Compare all trials, unless one is still on its way."""
        live = [t for t in tune_controller.get_trials() if not t.is_finished()]
        known = [(trial, self._members[trial.trial_id]) for trial in live
                 if trial.trial_id in self._members]  # fmt: skip
        if not known or any(member.time < self._next_sync for _, member in known):
            return
        for _, member in known:
            member.perturbed = member.time
        self._next_sync = max(
            self._next_sync + self._perturbation_interval, *(member.time for _, member in known)
        )
        lower, upper = self._quantiles(tune_controller)
        donors = {trial.trial_id for trial in upper}
        for trial in in_turn([trial for trial, _ in known], lower, upper):
            if trial.trial_id not in donors:
                self._withdraw(tune_controller, trial, self._members[trial.trial_id])
            if trial in lower:
                self._exploit(tune_controller, trial, upper)

    # --- exploit and explore ----------------------------------------------------------------

    def _exploit(self, tune_controller: Any, trial: Trial, upper: list[Trial]) -> bool:
        """Have a trial go on from one of the best; False if that has no checkpoint."""
        donor = self._random().random.choice(upper)
        member, good = self._members[trial.trial_id], self._members[donor.trial_id]
        config = self._explored(donor, trial)
        tag = self._tag(member.tag, config)
        if not good.offers:
            log.info("Trial %s has not been saved since it is one of the best.", donor.trial_id)
            return False
        accepted: bool = tune_controller.exploit_trial(
            trial, donor, good.iteration, config, tag, self._policy(member, good, donor, config)
        )
        if not accepted:
            log.info(
                "Trial %s could not go on from trial %s, which has no checkpoint of iteration %d.",
                trial.trial_id,
                donor.trial_id,
                good.iteration,
            )
            return False
        self._copied_times[trial.trial_id] = good.perturbed, good.time
        self._num_perturbations += 1
        log.info(
            "Trial %s (score %.6g) goes on from iteration %d of trial %s (score %.6g) as %s",
            trial.trial_id,
            member.score,
            good.iteration,
            donor.trial_id,
            good.score,
            tag,
        )
        return True

    def on_trial_exploit(self, tune_controller: Any, trial: Trial, donor: Trial) -> None:
        """A trial has gone on from another: its time is that one's."""
        times = self._copied_times.pop(trial.trial_id, None)
        member = self._members.get(trial.trial_id)
        if times is not None and member is not None:
            member.perturbed, member.time = times

    def _explored(self, donor: Trial, trial: Trial) -> dict[str, Any]:
        """The donor's config, changed, for another trial."""
        return explore.explored(
            donor.config,
            self._hyperparam_mutations,
            self._random(),
            resample_probability=self._resample_probability,
            factors=self._perturbation_factors,
            custom=self._custom_explore_fn,
        )

    def _tag(self, tag: str, config: dict[str, Any]) -> str:
        from milepost.tune.search.tags import format_vars

        shown = format_vars(explore.values_at(config, self._hyperparam_mutations))
        return f"{tag}{_CHANGED}[{shown}]"

    def _policy(self, member: Member, good: Member, donor: Trial, config: dict[str, Any]) -> str:
        """The line for the log files."""
        if not self._log_config:
            return ""
        line = [member.tag, good.tag, member.iteration, good.iteration, donor.config, config]
        try:
            return json.dumps(line, default=explore.as_text)
        except (TypeError, ValueError):  # keys that JSON lacks, or a circle
            return json.dumps([*line[:4], f"{donor.config!r}", f"{config!r}"])

    # --- whose turn it is -------------------------------------------------------------------

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the trial that is furthest behind, of those that could start now."""
        waiting = [
            (member.time, trial)
            for trial in tune_controller.get_trials()
            if trial.status in ("PENDING", "PAUSED")
            and (member := self._members.get(trial.trial_id)) is not None
            and not (self._synch and member.time >= self._next_sync)
        ]
        waiting.sort(key=lambda pair: pair[0])
        return next((trial for _, trial in waiting if tune_controller.has_room_for(trial)), None)

    # --- state ------------------------------------------------------------------------------

    def debug_string(self) -> str:
        """Return how many checkpoints were kept for others, and how many trials went on so."""
        return (
            f"{type(self).__name__}: {self._num_checkpoints} checkpoints, "
            f"{self._num_perturbations} perturbs"
        )

    def save(self, checkpoint_path: str) -> None:
        """Write the state to a file; what the user has given stays out of it, it may be any."""
        with open(checkpoint_path, "wb") as file:
            pickle.dump({name: getattr(self, name) for name in self._state()}, file)

    def restore(self, checkpoint_path: str) -> None:
        """Take back what :meth:`save` wrote to a file."""
        with open(checkpoint_path, "rb") as file:
            vars(self).update(pickle.load(file))

    def _state(self) -> tuple[str, ...]:
        return _STATE


def _tag_before(trial: Trial) -> str:
    """A trial's experiment tag before any change of its config; one that is restored has more."""
    return trial.experiment_tag.partition(_CHANGED)[0]


def _are_factors(factors: Any) -> bool:
    """Whether numbers can be multiplied by one or another of these."""
    return (
        isinstance(factors, Collection)
        and len(factors) > 1
        and all(isinstance(factor, Real) for factor in factors)
    )


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    from milepost.api.nested import flatten_dict

    return flatten_dict(values)
