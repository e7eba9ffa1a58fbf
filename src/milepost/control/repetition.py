"""Results that a restored trial reports once more, as its checkpoint is older than its last one."""

from __future__ import annotations


class Repetition:
    """Tells results of which an earlier run has told everybody from new ones.

    Whoever learns from results (searcher, scheduler, stopper) remembers those; hearing of them
    twice it would decide otherwise than in a run that was never cut.

    Args:
        until: iteration of the trial's last result of which they know; 0 if they know of none.

    Attributes:
        until: as given; 0 once a new result has come, since whatever is reported again after that
            would have been in a run without a cut, too.
    """

    __slots__ = ("_last", "until")

    def __init__(self, until: int = 0) -> None:
        self.until = until
        self._last = -1

    def begin(self) -> None:
        """The trial starts, from whatever checkpoint."""
        self._last = -1

    def has(self, iteration: int) -> bool:
        """Whether the trial's next result is one that they know; to be asked once for each.

        An iteration that does not grow, because user code counts in its own way, is a new result.
        """
        if iteration > self.until:
            self.until = 0
        known = self._last < iteration <= self.until
        self._last = max(self._last, iteration)
        return known
