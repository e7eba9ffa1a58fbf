"""Progress as a live table on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from milepost.display.ansi import harmless, render
from milepost.display.picture import LIVE_ERRORS, Picture, final_picture, live_picture
from milepost.display.surface import Stream, Surface, is_terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from milepost.control.view import RunView

#: Seconds between two drawings of the table.
PERIOD_S = 0.25
#: Seconds that lines wait for each other: each print redraws the table below it.
LINES_PERIOD_S = 0.1
#: Lines of the terminal that are neither rows of trials nor errors: title, facts, headings.
_AROUND = 14
#: Rows of trials on however low a terminal.
LEAST_ROWS = 3


class Terminal(Surface):
    """Keeps one table at the bottom of the terminal; lines scroll above it.

    Colours follow ``NO_COLOR``. What the script itself prints meanwhile also goes above the table.

    Args:
        console: where to draw; the default is standard output.
        clock: monotonic seconds.
    """

    def __init__(
        self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(period_s=PERIOD_S, clock=clock)
        self.hold(PERIOD_S)  # a shorter run needs no live table, only the final one
        self._console = console
        self._is_standard = console is None
        self._live: Live | None = None
        self._lines: list[str] = []
        self._lines_due = float("-inf")

    def update(self, view: RunView) -> None:
        """Draw the table if it is time to, and print the lines that came meanwhile."""
        super().update(view)
        if self._lines and self._clock() >= self._lines_due:
            self._print_lines()

    def line(self, text: str, stream: Stream = "stdout") -> None:
        """Show one line above the table, soon; lines for a redirected stream go there at once."""
        if self._is_standard and not is_terminal(stream):
            self.write(f"{text}\n", stream)
        else:
            self._lines.append(harmless(text))

    def draw(self, view: RunView) -> None:
        """Draw the table anew, in the place of the previous one."""
        console = self._open()
        errors = min(len(view.failed), LIVE_ERRORS)
        now = live_picture(view, max_rows=max(console.height - _AROUND - errors, LEAST_ROWS))
        self._guarded(lambda: self._show(now))

    def finish(self, view: RunView) -> None:
        """Take the live table away and print the final one, which may be longer than the screen."""
        console = self._open()
        self._stop_live()
        self._print_lines()
        end = render(final_picture(view), width=console.width, is_live=False)
        self._guarded(lambda: console.print(end))

    def close(self) -> None:
        """Print the end of the run and give the terminal back, whatever happened before."""
        try:
            super().close()
        finally:
            self._stop_live()
            self._print_lines()

    def _open(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console(highlight=False, emoji=False, markup=False)
        return self._console

    def _show(self, now: Picture) -> None:
        console = self._open()
        renderable = render(now, width=console.width, is_live=True)
        if self._live is not None:
            self._live.update(renderable, refresh=True)
            return
        from rich.live import Live

        self._live = Live(
            renderable,
            console=console,
            auto_refresh=False,
            transient=True,
            vertical_overflow="crop",
            redirect_stdout=is_terminal("stdout"),
            redirect_stderr=is_terminal("stderr"),
        )
        self._live.start(refresh=True)

    def _stop_live(self) -> None:
        live, self._live = self._live, None
        if live is None:
            return
        try:
            live.update("", refresh=True)  # stop() draws once more, whole, whatever the height
            live.stop()
        except (OSError, ValueError) as error:
            self.give_up(error)

    def _print_lines(self) -> None:
        lines, self._lines = self._lines, []
        self._lines_due = self._clock() + LINES_PERIOD_S
        if lines:
            self._guarded(lambda: self._open().out("\n".join(lines), highlight=False))

    def _guarded(self, act: Callable[[], Any]) -> None:
        if self._is_broken:
            return
        try:
            act()
        except (OSError, ValueError) as error:
            self.give_up(error)
