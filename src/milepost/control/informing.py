"""Tells the searcher about trials, under the ids by which it knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milepost.api.search_algorithm import SearchAlgorithm


class Informant:
    """Stands between a run and its searcher, which is told of each trial's end once.

    Args:
        search: proposes the trials.

    Attributes:
        names: trial id -> the id by which the searcher knows the trial, where that is another
            one; None where the searcher was told already that the trial has ended, and it was
            restored all the same.
    """

    def __init__(self, search: SearchAlgorithm) -> None:
        self._search = search
        self.names: dict[str, str | None] = {}

    def name_of(self, trial_id: str) -> str | None:
        """The id by which the searcher knows a trial; None if it does not want to know more."""
        return self.names.get(trial_id, trial_id)

    def replace(self, old: str, new: str, *, has_ended: bool) -> None:
        """A trial takes the place of another one, of which no more will be told."""
        name = self.names.pop(old, old)
        self.names[new] = None if has_ended else name

    def forget(self, trial_id: str) -> None:
        """Tell no more of a trial: its end was told already."""
        self.names[trial_id] = None

    def result(self, trial_id: str, flat: dict[str, Any]) -> None:
        """A trial has reported and goes on."""
        name = self.name_of(trial_id)
        if name is not None:
            self._search.on_trial_result(name, flat)

    def end(
        self, trial_id: str, flat: dict[str, Any] | None = None, *, error: bool = False
    ) -> None:
        """A trial has ended; ``flat`` is its last result."""
        name = self.name_of(trial_id)
        if name is not None:
            self._search.on_trial_complete(name, result=flat, error=error)
        self.names.pop(trial_id, None)
