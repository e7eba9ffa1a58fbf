"""Evaluates each suggestion of a searcher several times."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from milepost.api.checks import ArgumentError
from milepost.api.searcher import Searcher
from milepost.tune.compatible import check_searcher

if TYPE_CHECKING:
    from milepost.tune.compatible import Setting

logger = logging.getLogger("milepost.tune")

#: Key of the configuration that tells a repetition its number, from 0.
TRIAL_INDEX = "__trial_index__"


@dataclass(slots=True)
class _Group:
    """The trials of one suggestion.

    Attributes:
        primary: the trial under whose id the searcher knows the suggestion.
        config: the suggestion.
        members: ids of its trials.
        scores: metric of each one that has ended; NaN when it failed.
    """

    primary: str
    config: dict[str, Any]
    members: list[str] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)


class Repeater(Searcher):
    """Runs each suggestion several times and tells the searcher the mean. Mirrors Ray's class.

    Args:
        searcher: proposes configurations.
        repeat: how many trials each suggestion gets; they count towards ``num_samples``.
        set_index: tell each trial its number under the key ``__trial_index__``.

    Raises:
        ValueError: ``repeat`` is no whole number above 0.
        RuntimeError: ``searcher`` is none.
    """

    def __init__(self, searcher: Searcher, repeat: int = 1, set_index: bool = True) -> None:
        if isinstance(repeat, bool) or not isinstance(repeat, int) or repeat < 1:
            raise ArgumentError(f"repeat must be a whole number above 0, got {repeat!r}.")
        if not isinstance(searcher, Searcher):
            raise RuntimeError(
                f"Repeater repeats the suggestions of a Searcher, got {searcher!r}. Repeat those "
                "of a BasicVariantGenerator with a larger num_samples."
            )
        self.searcher = searcher
        self.repeat = repeat
        self._set_index = set_index
        self._groups: list[_Group] = []
        self._group_of: dict[str, _Group] = {}
        self._current: _Group | None = None
        super().__init__(metric=searcher.metric, mode=searcher.mode)

    def check_run(self, setting: Setting) -> None:
        """Refuse what the searcher refuses; a limit is one of repetitions.

        Raises:
            ValueError, KeyError: the searcher does not go with the run.
        """
        check_searcher(self.searcher, replace(setting, limit=None))

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Hand everything to the searcher."""
        samples = spec.get("num_samples")
        if samples and samples > 0 and samples % self.repeat:
            logger.warning(
                "num_samples=%s is no multiple of repeat=%s: the last suggestion gets fewer "
                "trials, and the searcher never learns of it.",
                samples,
                self.repeat,
            )
        taken = self.searcher.set_search_properties(metric, mode, config, **spec)
        self._metric, self._mode = self.searcher.metric, self.searcher.mode
        return taken

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the current suggestion once more, or a new one."""
        group = self._current
        if group is None or len(group.members) >= self.repeat:
            config = self.searcher.suggest(trial_id)
            if config is None or config == Searcher.FINISHED:
                return config
            group = self._current = _Group(trial_id, dict(config))  # type: ignore[arg-type]
            self._groups.append(group)
        index = len(group.members)
        group.members.append(trial_id)
        self._group_of[trial_id] = group
        return {**group.config, TRIAL_INDEX: index} if self._set_index else dict(group.config)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the searcher the mean when all repetitions have ended.

        Repetitions that failed or reported no number do not count; when none counts, the searcher
        is told of a failure.

        Raises:
            KeyError: the trial was not suggested here.
        """
        group = self._group_of[trial_id]
        value = (result or {}).get(self.searcher.metric) if not error else None
        group.scores[trial_id] = math.nan if value is None else float(value)
        if len(group.scores) < self.repeat:
            return
        valid = [score for score in group.scores.values() if not math.isnan(score)]
        self.searcher.on_trial_complete(
            group.primary,
            result={self.searcher.metric: fmean(valid)} if valid else None,
            error=not valid,
        )
        self._groups.remove(group)
        for member in group.members:
            del self._group_of[member]

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
