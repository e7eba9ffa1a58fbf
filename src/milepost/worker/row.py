"""Result rows: the fields that every row gets besides what user code reports."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from milepost.worker import node
from milepost.worker.protocol import Counters


class RowBuilder:
    """Turns reported metrics into rows and counts iterations, time, steps and episodes.

    The names and rules are those of Ray Tune. The controller adds ``config`` and
    ``experiment_tag``.

    Args:
        trial_id: goes into each row.
        counters: where the totals go on; what counts "since restore" starts at 0.

    Attributes:
        iteration: rows so far, over all attempts.
        last: the last row, or an empty dict.
    """

    def __init__(self, trial_id: str, counters: Counters) -> None:
        self.trial_id = trial_id
        self.restart(counters)

    def restart(self, counters: Counters) -> None:
        """Go on from these totals, after a restore or a reset."""
        self.iteration = counters.training_iteration
        self.time_total_s = counters.time_total_s
        self.timesteps_total = counters.timesteps_total
        self.episodes_total = counters.episodes_total
        self.iterations_since_restore = 0
        self.time_since_restore = 0.0
        self.timesteps_since_restore = 0
        self.last: dict[str, Any] = {}

    def next(
        self, metrics: Mapping[str, Any], took_s: float, *, overwrite_timestamp: bool
    ) -> dict[str, Any]:
        """Build the next row.

        Args:
            metrics: what user code reported; it is not changed.
            took_s: seconds since the last row; a ``time_this_iter_s`` of the user wins.
            overwrite_timestamp: whether a ``timestamp`` of the user is replaced, as in the
                function API.

        Returns:
            A new dict: the user's keys first, then ours.
        """
        row = dict(metrics)
        self.iteration += 1
        self.iterations_since_restore += 1
        given = row.get("time_this_iter_s")
        time_this_iter_s = took_s if given is None else given
        self.time_total_s += time_this_iter_s
        self.time_since_restore += time_this_iter_s
        row.setdefault("done", False)
        steps = row.get("timesteps_this_iter")
        if steps is not None:
            self.timesteps_total = (self.timesteps_total or 0) + steps
            self.timesteps_since_restore += steps
        episodes = row.get("episodes_this_iter")
        if episodes is not None:
            self.episodes_total = (self.episodes_total or 0) + episodes
        if self.timesteps_total is not None:
            row.setdefault("timesteps_total", self.timesteps_total)
        if self.episodes_total is not None:
            row.setdefault("episodes_total", self.episodes_total)
        row.setdefault("training_iteration", self.iteration)
        row.update(
            self.filled(
                time_this_iter_s,
                timestamp=None if overwrite_timestamp else row.get("timestamp"),
            )
        )
        self.last = row
        return row

    def filled(
        self, time_this_iter_s: Any, *, timestamp: Any = None, now: datetime | None = None
    ) -> dict[str, Any]:
        """The fields that always replace the user's."""
        now = now or datetime.now()
        fields = {
            "trial_id": self.trial_id,
            "date": now.isoformat("_", "seconds").replace(":", "-"),
            "timestamp": timestamp or int(now.timestamp()),
            "time_this_iter_s": time_this_iter_s,
            "time_total_s": self.time_total_s,
            "pid": os.getpid(),
            "hostname": node.hostname(),
            "node_ip": node.ip(),
            "time_since_restore": self.time_since_restore,
            "iterations_since_restore": self.iterations_since_restore,
        }
        if self.timesteps_since_restore:
            fields["timesteps_since_restore"] = self.timesteps_since_restore
        return fields
