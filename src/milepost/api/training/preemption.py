"""What training workers are told when machines under them go away."""

from __future__ import annotations

from dataclasses import dataclass, field

from milepost.api import preemption


@dataclass(frozen=True, slots=True)
class PreemptionInfo(preemption.PreemptionInfo):
    """Which workers of a training run lose their machines, and when.

    Mirrors ``ray.train.PreemptionInfo``; ``reason`` and ``remaining_s`` are those of tuning trials.

    Attributes:
        deadline_ms: when they do, in milliseconds since the epoch; None if that is not known.
        preempted_node_to_ranks: ids of the machines, each with the world ranks of its workers.
        reason: why, such as ``"SIGTERM"``; empty (the default) if that is not known. Not in Ray.

    Example:
        >>> PreemptionInfo(None, {"node-b": [2, 3], "node-a": [0]}).preempted_ranks
        [0, 2, 3]
    """

    reason: str = field(default="", kw_only=True)
    deadline_ms: int | None
    preempted_node_to_ranks: dict[str, list[int]]

    @property
    def preempted_node_ids(self) -> list[str]:
        """Ids of the machines, sorted."""
        return sorted(self.preempted_node_to_ranks)

    @property
    def preempted_ranks(self) -> list[int]:
        """World ranks of all workers on them, sorted."""
        return sorted(rank for ranks in self.preempted_node_to_ranks.values() for rank in ranks)
