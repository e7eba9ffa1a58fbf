"""Whether the kernel has killed processes of ours because memory had run out."""

from __future__ import annotations

import os
from collections.abc import Iterator

_V1 = "memory.oom_control"
_V2 = "memory.events"


class OomKills:
    """Counts what the kernel killed for memory in this process's control group.

    Workers are in the same group, unless somebody has moved them.

    Args:
        proc: where the process file system is mounted.
        cgroups: where control groups are mounted, of version 1 or 2.
    """

    def __init__(self, proc: str = "/proc", cgroups: str = "/sys/fs/cgroup") -> None:
        self._file = next(filter(os.path.isfile, _candidates(proc, cgroups)), None)

    def count(self) -> int | None:
        """How many processes so far; None where the kernel does not tell."""
        if self._file is None:
            return None
        try:
            with open(self._file) as file:
                for line in file:
                    name, _, number = line.partition(" ")
                    if name == "oom_kill":
                        return int(number)
        except (OSError, ValueError):  # the group is gone, or says something else
            return None
        return None


def _candidates(proc: str, cgroups: str) -> Iterator[str]:
    """Where the counter may be, the most telling place first."""
    try:
        with open(os.path.join(proc, "self", "cgroup")) as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return
    for _, controllers, path in lines:
        # In a container the path may be the host's, while its own group is at the mount point.
        if "memory" in controllers.split(","):
            yield os.path.join(cgroups, "memory", path.lstrip("/"), _V1)
            yield os.path.join(cgroups, "memory", _V1)
        elif not controllers:
            for mounted in (cgroups, os.path.join(cgroups, "unified")):
                yield os.path.join(mounted, path.lstrip("/"), _V2)
                yield os.path.join(mounted, _V2)
