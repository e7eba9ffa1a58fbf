"""Runs under a pseudo-terminal: shows a run, and stops where the test looks at the screen."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any

from milepost.display.choice import choose


def trial(number: int, status: str, iteration: int, error: str | None = None) -> Any:
    row = {"training_iteration": iteration, "time_total_s": 1.5, "accuracy": iteration / 100}
    return SimpleNamespace(
        name=f"train_1a2b3_{number:05d}",
        status=status,
        evaluated={"lr": 0.1 / (number + 1)},
        row=row,
        iteration=iteration,
        failures=int(error is not None),
        error=error,
        latest_checkpoint=iteration,
    )


def view(iteration: int, running: int = 2) -> Any:
    ended = [trial(i, "TERMINATED", 9) for i in range(10, 22)]
    failed = [trial(30, "ERROR", 1, error="ValueError: bad")]
    running_trials = [trial(i, "RUNNING", iteration) for i in range(running)]
    return SimpleNamespace(
        name="digits",
        metric="accuracy",
        mode="max",
        total=20,
        elapsed_s=2.0,
        counts={"RUNNING": running, "TERMINATED": len(ended), "ERROR": 1},
        running=running_trials,
        failed=failed,
        best=ended[0],
        resources_used={"CPU": 2.0},
        resources_total={"CPU": 2.0},
        committed_count=4,
        committed_bytes=4096,
        pending_commits=1,
        trials=lambda limit: (running_trials + ended + failed)[:limit],
    )


def look(name: str) -> None:
    """Let the test look at the screen; it answers with one line."""
    sys.stderr.flush()
    sys.__stdout__.write(f"\x1b]2;{name}\x07")  # a title: visible to the test, not on the screen
    sys.__stdout__.flush()
    sys.stdin.readline()


def main(running: int) -> None:
    now = [0.0]
    logging.basicConfig(format="%(message)s")
    chosen = choose(1, metric="accuracy", mode="max").surface
    surface = type(chosen)(clock=lambda: now[0])
    print("before the run", type(surface).__name__)
    for iteration in range(1, 4):
        now[0] += 1.0
        surface.update(view(iteration, running))
        surface.line(f"(train pid=7) epoch {iteration} \x1b[3A\x1b[Jdone")
        surface.line(f"(train pid=7) trouble {iteration}", "stderr")
        print(f"script says {iteration}")
        now[0] += 1.0
        surface.update(view(iteration, running))
    look("running")
    surface.close()
    print("after the run")
    look("ended")


if __name__ == "__main__":
    main(int(sys.argv[1]))
