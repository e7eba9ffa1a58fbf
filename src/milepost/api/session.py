"""This process's use of the machine: how many CPUs and GPUs trials may take."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

logger = logging.getLogger("milepost")

_KNOWN = ("num_cpus", "num_gpus", "resources", "ignore_reinit_error")


@dataclass(frozen=True, slots=True)
class ClusterResources:
    """What trials of this process may use together.

    Attributes:
        cpus: number of CPUs.
        gpus: ids of the GPUs, in the form of ``CUDA_VISIBLE_DEVICES``.
        custom: other resources by name.
    """

    cpus: float
    gpus: tuple[str, ...] = ()
    custom: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, float]:
        """Return amounts by resource name, in Ray's spelling."""
        amounts = {"CPU": float(self.cpus)}
        if self.gpus:
            amounts["GPU"] = float(len(self.gpus))
        return {**amounts, **self.custom}


class Session:
    """What :func:`init` returns: a context manager that ends the session on leaving."""

    def __init__(self, resources: ClusterResources) -> None:
        self.resources = resources

    def disconnect(self) -> None:
        """Same as :func:`shutdown`."""
        shutdown()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutdown()

    def __repr__(self) -> str:
        return f"<milepost session: {self.resources.as_dict()}>"


_DRIVER_LIST = "/proc/driver/nvidia/gpus"

_session: Session | None = None
_lent: ContextVar[ClusterResources | None] = ContextVar("milepost_lent", default=None)
_at_shutdown: list[Callable[[], None]] = []


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    ignore_reinit_error: bool = False,
    **ignored: Any,
) -> Session:
    """Say how much of this machine trials may use. Mirrors ``ray.init``; calling it is optional.

    No process is started. Without it, trials use the CPUs that this process may run on (affinity
    and container limits respected) and the GPUs that it can see.

    Args:
        address: where a cluster is; only None and ``"local"`` mean this machine.
        num_cpus: CPUs that trials may reserve together; it may exceed the machine's.
        num_gpus: GPUs that trials may reserve together.
        resources: further resources by name, for trials that ask for them.
        ignore_reinit_error: return the running session instead of raising.
        **ignored: Ray's other arguments; they have no meaning here and are named in the log.

    Returns:
        The session; as a context manager it ends on leaving.

    Raises:
        RuntimeError: :func:`init` was called before, without :func:`shutdown`.
        ValueError: a number is negative, or the address names a cluster.
    """
    global _session
    if _session is not None:
        if ignore_reinit_error:
            return _session
        raise RuntimeError(
            "milepost.init() was called twice. Call milepost.shutdown() first, or pass "
            "ignore_reinit_error=True to keep the first call's settings."
        )
    if address not in (None, "local"):
        raise ValueError(
            f"milepost.init(address={address!r}): this version runs trials on this machine only. "
            "Leave address out."
        )
    if ignored:
        logger.info(
            "milepost.init() ignores %s: there is no cluster to configure. It takes %s.",
            ", ".join(sorted(ignored)),
            ", ".join(_KNOWN),
        )
    cpus = default_cpus() if num_cpus is None else _amount("num_cpus", num_cpus)
    custom = {name: _amount(f"resources[{name!r}]", n) for name, n in (resources or {}).items()}
    _session = Session(ClusterResources(cpus, _gpus(num_gpus), custom))
    return _session


def shutdown() -> None:
    """Forget what :func:`init` was told, and end what a run had left warm for the next one.

    Safe to call without :func:`init`. Mirrors ``ray.shutdown``.
    """
    global _session
    _session = None
    while _at_shutdown:
        _at_shutdown.pop()()


def at_shutdown(end: Callable[[], None]) -> None:
    """Have something called once, at the next :func:`shutdown`."""
    if end not in _at_shutdown:
        _at_shutdown.append(end)


def is_initialized() -> bool:
    """Whether :func:`init` was called (or a run started) since the last :func:`shutdown`."""
    return _session is not None


def ensure_initialized() -> ClusterResources:
    """Start a session with the machine's own resources unless one runs; return its resources.

    Where others have been lent (:func:`using`), those are returned.
    """
    lent = _lent.get()
    return (_session or init()).resources if lent is None else lent


@contextlib.contextmanager
def using(lent: ClusterResources) -> Iterator[None]:
    """Have runs of this thread use what they were lent, in place of the session's resources."""
    token = _lent.set(lent)
    try:
        yield
    finally:
        _lent.reset(token)


def cluster_resources() -> dict[str, float]:
    """Return what trials may use together, such as ``{"CPU": 8.0, "GPU": 1.0}``."""
    return current_resources().as_dict()


def current_resources() -> ClusterResources:
    """Return the session's resources, or what a session would have, without starting one."""
    if _session is not None:
        return _session.resources
    return ClusterResources(default_cpus(), visible_gpus())


def default_cpus() -> float:
    """Return how many CPUs this process may use: its affinity, and its container's limit.

    A limit of a fraction of a CPU counts as one.
    """
    affinity = len(os.sched_getaffinity(0))
    limit = _cgroup_cpus()
    return float(affinity if limit is None else max(1, min(affinity, math.floor(limit))))


def visible_gpus() -> tuple[str, ...]:
    """Return the ids of the GPUs this process can see, without loading a driver library.

    ``CUDA_VISIBLE_DEVICES`` decides when it is set (also to nothing); else the devices that the
    NVIDIA driver lists, or ``nvidia-smi`` where the driver keeps no list.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        ids = [part.strip() for part in visible.split(",")]
        # CUDA stops at the first id that is no device.
        end = next((i for i, part in enumerate(ids) if part in ("", "-1", "NoDevFiles")), len(ids))
        return tuple(ids[:end])
    try:
        number = len(os.listdir(_DRIVER_LIST))
    except OSError:  # no driver, or one that keeps no list, as under WSL
        number = _count_with_nvidia_smi()
    return tuple(str(i) for i in range(number))


def _count_with_nvidia_smi() -> int:
    import shutil

    command = shutil.which("nvidia-smi")
    if command is None:
        return 0
    import subprocess

    try:
        done = subprocess.run(
            [command, "--list-gpus"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("No GPUs are used: %s cannot list them: %s", command, error)
        return 0
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


def _gpus(number: int | None) -> tuple[str, ...]:
    seen = visible_gpus()
    if number is None:
        return seen
    count = _amount("num_gpus", number)
    if count != int(count):
        raise ValueError(f"milepost.init(num_gpus={number!r}): it must be a whole number.")
    # As with Ray, more GPUs than are visible may be declared, for tests of scheduling.
    declared = tuple(str(i) for i in range(len(seen), int(count)))
    return seen[: int(count)] + declared


def _amount(name: str, value: Any) -> float:
    if isinstance(value, bool) or not hasattr(value, "__float__") or not float(value) >= 0:
        raise ValueError(f"milepost.init({name}={value!r}): it must be a number, zero or more.")
    return float(value)


def _cgroup_cpus(root: str = "/sys/fs/cgroup") -> float | None:
    """CPUs that the container's quota allows, or None without a quota."""
    try:
        with open(f"{root}/cpu.max") as file:  # cgroup v2
            quota, period = file.read().split()
    except OSError:
        try:
            with open(f"{root}/cpu/cpu.cfs_quota_us") as file:  # cgroup v1
                quota = file.read().strip()
            with open(f"{root}/cpu/cpu.cfs_period_us") as file:
                period = file.read().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
