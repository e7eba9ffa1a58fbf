"""Which surface shows a run."""

from __future__ import annotations

import os
from dataclasses import dataclass

from milepost.api.callback import Callback
from milepost.api.progress import ProgressReporter
from milepost.display.surface import Surface, is_terminal


@dataclass(frozen=True, slots=True)
class Display:
    """What shows a run.

    Attributes:
        surface: is given the run as a whole, and the lines of its workers.
        callbacks: are told about single trials; they come after the user's own callbacks.
    """

    surface: Surface
    callbacks: list[Callback]


def choose(
    verbose: int,
    *,
    reporter: ProgressReporter | None = None,
    metric: str | None = None,
    mode: str | None = None,
) -> Display:
    """Return what shows a run, fit for where standard output goes.

    A terminal gets a live table, a notebook a table in its cell, anything else plain lines.

    Args:
        verbose: 0 shows only what workers print; 1 also the run and its trials; 2 also each
            result and checkpoint.
        reporter: the user's own, which then shows the run instead of a table.
        metric: the metric that is optimised, if any.
        mode: ``"min"`` or ``"max"``.
    """
    if reporter is not None:
        from milepost.display.custom import Custom, ReporterCalls

        custom = Custom()
        return Display(custom, [ReporterCalls(reporter, custom, metric=metric, mode=mode)])
    if verbose <= 0:
        from milepost.display.surface import Silent

        return Display(Silent(), [])
    surface = _surface()
    if verbose == 1 and not surface.tells_trials:
        return Display(surface, [])
    from milepost.display.events import ResultLines, TrialLines

    lines = ResultLines if verbose >= 2 else TrialLines
    return Display(surface, [lines(surface, metric=metric)])


def _surface() -> Surface:
    from milepost.display.notebook import Notebook, in_notebook

    if in_notebook():
        return Notebook()
    if has_live_terminal():
        from milepost.display.terminal import Terminal

        return Terminal()
    from milepost.display.plain import Plain

    return Plain()


def has_live_terminal() -> bool:
    """Tell whether standard output is a terminal whose cursor can be moved."""
    return is_terminal("stdout") and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
