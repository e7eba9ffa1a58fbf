"""Limits how many suggestions of a searcher are out at once."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from milepost.api.checks import ArgumentError
from milepost.api.searcher import Searcher
from milepost.tune.compatible import check_searcher

if TYPE_CHECKING:
    from milepost.tune.compatible import Setting

logger = logging.getLogger("milepost.tune")


class ConcurrencyLimiter(Searcher):
    """Lets a searcher have only so many trials out at once. Mirrors Ray's class.

    Args:
        searcher: proposes configurations.
        max_concurrent: how many may be out.
        batch: tell the searcher of results only when the whole batch of ``max_concurrent`` trials
            has ended.

    Raises:
        ValueError: ``max_concurrent`` is no whole number above 0.
        RuntimeError: ``searcher`` is none.
    """

    def __init__(self, searcher: Searcher, max_concurrent: int, batch: bool = False) -> None:
        _require_count(max_concurrent)
        if not isinstance(searcher, Searcher):
            raise RuntimeError(
                f"ConcurrencyLimiter limits a Searcher, got {searcher!r}. Limit a "
                "BasicVariantGenerator with its own argument max_concurrent."
            )
        super().__init__(metric=searcher.metric, mode=searcher.mode)
        self.searcher = searcher
        self.max_concurrent = max_concurrent
        self.batch = batch
        self.live_trials: set[str] = set()
        self._unfinished = 0
        self._held_back: dict[str, tuple[dict[str, Any] | None, bool]] = {}
        self._searcher_limits = bool(searcher.set_max_concurrency(max_concurrent))

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Change the limit; returns True.

        Raises:
            ValueError: it is no whole number above 0.
        """
        _require_count(max_concurrent)
        self.max_concurrent = max_concurrent
        self._searcher_limits = bool(self.searcher.set_max_concurrency(max_concurrent))
        return True

    def check_run(self, setting: Setting) -> None:
        """Refuse a run with another limit, and what the searcher refuses.

        Raises:
            ValueError: one of the limits contradicts the other.
        """
        if setting.limit and setting.limit != self.max_concurrent:
            raise ValueError(
                f"TuneConfig(max_concurrent_trials={setting.limit}) contradicts the "
                f"ConcurrencyLimiter, which was made with max_concurrent={self.max_concurrent}. "
                "Leave one of them out."
            )
        check_searcher(self.searcher, replace(setting, limit=None))

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Hand everything to the searcher."""
        taken = self.searcher.set_search_properties(metric, mode, config, **spec)
        self._metric, self._mode = self.searcher.metric, self.searcher.mode
        return taken

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the searcher's suggestion; None while the limit is reached."""
        if self._searcher_limits:
            return self.searcher.suggest(trial_id)
        if len(self.live_trials) >= self.max_concurrent:
            return None
        suggestion = self.searcher.suggest(trial_id)
        if suggestion is not None and suggestion != Searcher.FINISHED:
            self.live_trials.add(trial_id)
            self._unfinished += 1
        return suggestion

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell the searcher."""
        self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the searcher, at once or with the whole batch, and make room."""
        if self._searcher_limits:
            self.searcher.on_trial_complete(trial_id, result=result, error=error)
        elif trial_id not in self.live_trials:
            return
        elif not self.batch:
            self.searcher.on_trial_complete(trial_id, result=result, error=error)
            self.live_trials.discard(trial_id)
            self._unfinished -= 1
        else:
            self._held_back[trial_id] = (result, error)
            self._unfinished -= 1
            if self._unfinished <= 0:
                self._end_batch()

    def _end_batch(self) -> None:
        for trial_id, (result, error) in self._held_back.items():
            self.searcher.on_trial_complete(trial_id, result=result, error=error)
            self.live_trials.discard(trial_id)
        self._held_back.clear()
        self._unfinished = 0

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Let the searcher learn from a point."""
        self.searcher.add_evaluated_point(parameters, value, error, pruned, intermediate_values)

    def on_pause(self, trial_id: str) -> None:
        """Tell the searcher that a trial is paused, if it wants to know."""
        _call(self.searcher, "on_pause", trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """Tell the searcher that a trial goes on, if it wants to know."""
        _call(self.searcher, "on_unpause", trial_id)

    def get_state(self) -> dict[str, Any]:
        """Return what is out; the searcher's own state is kept apart from it."""
        return {name: value for name, value in vars(self).items() if name != "searcher"}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`get_state` returned."""
        vars(self).update(state)

    def save(self, checkpoint_path: str) -> None:
        """Let the searcher write its state to a file."""
        self.searcher.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """Let the searcher take back its state from a file."""
        self.searcher.restore(checkpoint_path)


def _require_count(max_concurrent: Any) -> None:
    if isinstance(max_concurrent, bool) or not isinstance(max_concurrent, int):
        raise ArgumentError(f"max_concurrent must be a whole number, got {max_concurrent!r}.")
    if max_concurrent <= 0:
        raise ArgumentError(f"max_concurrent must be above 0, got {max_concurrent!r}.")


def _call(searcher: Searcher, hook: str, trial_id: str) -> None:
    method = getattr(searcher, hook, None)
    if method is None:
        logger.warning(
            "%s has no %s(), so it is not told about trial %s.",
            type(searcher).__name__,
            hook,
            trial_id,
        )
        return
    method(trial_id)
