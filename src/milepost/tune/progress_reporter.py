"""Progress reporters, under Ray's module name."""

from __future__ import annotations

from milepost.api.progress import ProgressReporter
from milepost.display.reporters import CLIReporter, JupyterNotebookReporter

__all__ = ["CLIReporter", "JupyterNotebookReporter", "ProgressReporter"]
