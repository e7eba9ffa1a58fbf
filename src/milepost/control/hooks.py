"""Calls the hooks of users' callbacks."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from milepost.api.callback import Callback

if TYPE_CHECKING:
    from milepost.control.facade import Trial
    from milepost.control.plan import RunPlan

log = logging.getLogger("milepost.control")

_NAMES = tuple(name for name, _ in inspect.getmembers(Callback) if name.startswith("on_"))


class Hooks:
    """All callbacks of a run, in the order in which they are called.

    Exceptions of hooks are not caught, except for ``on_checkpoint``, as in Ray: a checkpoint that
    is committed stays committed whatever a callback thinks of it.

    Args:
        callbacks: of the run.
        trials: handed to each hook.
    """

    def __init__(self, callbacks: Sequence[Callback], trials: Sequence[Trial]) -> None:
        self._callbacks = callbacks
        self._trials = trials
        self.step = 0
        self._hooks: dict[str, list[Callable[..., Any]]] = {
            name: [getattr(c, name) for c in callbacks if is_overridden(c, name)] for name in _NAMES
        }

    @property
    def follows_steps(self) -> bool:
        """Whether a callback wants to be called at each step, so that steps must not be rare."""
        return bool(self._hooks["on_step_begin"] or self._hooks["on_step_end"])

    def setup(self, plan: RunPlan) -> None:
        """Call ``setup``; callbacks that do not take our keywords are called without."""
        total = plan.search.total_samples
        facts: dict[str, Any] = {
            "stop": None if plan.criteria is None else dict(plan.criteria),
            "num_samples": plan.num_samples,
            "total_num_samples": total,
            "time_budget_s": plan.time_budget_s,
        }
        for callback in self._callbacks:
            try:
                inspect.signature(callback.setup).bind(**facts)
            except TypeError:
                warnings.warn(
                    f"{type(callback).__name__}.setup() does not take {', '.join(facts)} as "
                    "keywords; add **info to its arguments.",
                    FutureWarning,
                    stacklevel=2,
                )
                callback.setup()
            else:
                callback.setup(**facts)

    def fire(self, name: str, **about: Any) -> None:
        """Call one hook of every callback that has it."""
        for hook in self._hooks[name]:
            hook(iteration=self.step, trials=self._trials, **about)

    def checkpoint(self, trial: Trial, checkpoint: Any) -> None:
        """Call ``on_checkpoint``, then ``on_trial_save``."""
        for hook in self._hooks["on_checkpoint"]:
            try:
                hook(iteration=self.step, trials=self._trials, trial=trial, checkpoint=checkpoint)
            except Exception:
                log.exception(
                    "on_checkpoint of %s failed for %s; the checkpoint is committed all the same",
                    type(getattr(hook, "__self__", hook)).__name__,
                    checkpoint.path,
                )
        self.fire("on_trial_save", trial=trial)

    def end(self) -> None:
        """Call ``on_experiment_end``."""
        for hook in self._hooks["on_experiment_end"]:
            hook(trials=self._trials)


def is_overridden(callback: Callback, name: str) -> bool:
    """Whether a callback does something in one of its hooks."""
    return getattr(getattr(callback, name), "__func__", None) is not getattr(Callback, name)
