"""Progress as lines, where output is a file or a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from milepost.display.picture import facts, final_picture, title
from milepost.display.surface import Surface
from milepost.display.text import render

if TYPE_CHECKING:
    from milepost.control.view import RunView

#: Seconds between two status lines.
PERIOD_S = 30.0
#: Width of the table at the end; files have none of their own.
WIDTH = 120


class Plain(Surface):
    """Writes a status line every 30 seconds and a table at the end; never moves the cursor."""

    tells_trials = True

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(period_s=PERIOD_S, clock=clock)
        self.hold(PERIOD_S)  # a run shorter than that needs no status line

    def draw(self, view: RunView) -> None:
        """Write one status line."""
        said = "; ".join(f"{label.lower()}: {text}" for label, text in facts(view) if text)
        self.line(f"{title(view)}; {said}" if said else title(view))

    def finish(self, view: RunView) -> None:
        """Write the final table."""
        self.write("\n" + render(final_picture(view), width=WIDTH))
