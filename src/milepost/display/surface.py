"""What all surfaces share: when they draw, and how text reaches the user's streams."""

from __future__ import annotations

import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from milepost.control.view import RunView

Stream = Literal["stdout", "stderr"]

_log = logging.getLogger("milepost.display")

#: Part of the driver's time that drawing may take, as long as the picture stays this fresh.
_SHARE = 0.05
_LONGEST_PAUSE_S = 1.0


def user_stream(stream: Stream) -> IO[str] | None:
    """Return the script's standard output or error, whatever it is now; None when it has none.

    Python starts without one when its descriptor is closed, as by ``script.py >&-``.
    """
    return sys.stdout if stream == "stdout" else sys.stderr


def is_terminal(stream: Stream) -> bool:
    """Tell whether a stream of the script goes to a terminal; False when it is closed."""
    try:
        return bool(user_stream(stream).isatty())  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):  # there is none, it cannot tell, it was closed
        return False


class Surface(ABC):
    """Shows a run somewhere, at most every ``period_s`` seconds.

    All methods are called from the driver's loop. A stream that cannot be written (a closed
    pipe) ends the display with one log line, never the run; one that was never there is passed
    over in silence, as ``print`` does.

    Args:
        period_s: seconds between two drawings; more when drawing is slow, up to a second or the
            time that a drawing takes. A trial's change of status cuts the pause short.
        clock: monotonic seconds.
    """

    #: Whether starts and ends of trials are told as lines, because no table shows them.
    tells_trials: ClassVar[bool] = False

    def __init__(self, *, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s = period_s
        self._clock = clock
        self._due = float("-inf")
        self._soonest = float("-inf")
        self._drawn_counts: dict[str, int] | None = None
        self._view: RunView | None = None
        self._is_broken = False

    def update(self, view: RunView) -> None:
        """Draw the run if it is time to; otherwise return at once.

        Args:
            view: computes what it is asked for, and only then.
        """
        self._view = view
        began = self._clock()
        if began < self._due and (began < self._soonest or view.counts == self._drawn_counts):
            return
        is_first = self._drawn_counts is None
        self._drawn_counts = dict(view.counts)
        self.draw(view)
        ended = self._clock()
        # What the first drawing costs are imports, which say nothing about the next.
        cost_s = 0.0 if is_first else ended - began
        pause_s = min(cost_s / _SHARE, max(_LONGEST_PAUSE_S, cost_s))
        self._soonest = ended + max(self._period_s, cost_s)
        self._due = ended + max(self._period_s, pause_s)

    def hold(self, seconds: float) -> None:
        """Draw nothing for some time: shorter runs are shown at their end only."""
        self._due = self._soonest = self._clock() + seconds

    def line(self, text: str, stream: Stream = "stdout") -> None:
        """Show one line, without its line end, so that it stays readable beside what is drawn."""
        self.write(f"{text}\n", stream)

    def close(self) -> None:
        """Draw the end of the run; nothing of the surface stays behind."""
        if self._view is not None:
            self.finish(self._view)
            self._view = None

    @abstractmethod
    def draw(self, view: RunView) -> None:
        """Show the run as it is now."""

    @abstractmethod
    def finish(self, view: RunView) -> None:
        """Show the run as it ended."""

    def write(self, text: str, stream: Stream = "stdout") -> None:
        """Write to the user's stream and flush, whatever its encoding."""
        out = user_stream(stream)
        if self._is_broken or out is None:
            return
        try:
            try:
                out.write(text)
            except UnicodeEncodeError as error:
                out.write(text.encode(error.encoding, "replace").decode(error.encoding))
            out.flush()
        except (OSError, ValueError) as error:  # ValueError: the file object was closed
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Stop showing anything: the output cannot be written."""
        self._is_broken = True
        _log.warning("Progress is not shown any more, output failed: %s. The run goes on.", error)


class Silent(Surface):
    """Shows the lines of workers and nothing else: ``verbose=0``."""

    def __init__(self) -> None:
        super().__init__(period_s=float("inf"))

    def update(self, view: RunView) -> None:
        """Remember the run, and look at nothing of it."""
        self._view = view

    def draw(self, view: RunView) -> None:
        """Show nothing."""

    def finish(self, view: RunView) -> None:
        """Show nothing."""
