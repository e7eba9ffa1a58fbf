"""What trials need and what is free: exact sums of CPUs, GPUs and other resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# Amounts are whole numbers of this part, so that 0.1 + 0.2 fits into 0.3.
_PARTS = 10_000
_GPU = "GPU"


def _parts(amount: float) -> int:
    return round(amount * _PARTS)


@dataclass(frozen=True, slots=True)
class Request:
    """What one trial needs, as bundles of exact amounts; the first is its own process's.

    Make it with :func:`request_of`.
    """

    bundles: tuple[tuple[tuple[str, int], ...], ...]

    @property
    def total(self) -> dict[str, int]:
        """The sum over all bundles."""
        total: dict[str, int] = {}
        for bundle in self.bundles:
            for name, amount in bundle:
                total[name] = total.get(name, 0) + amount
        return total

    def first(self, number: int) -> Request:
        """What the first bundles ask for."""
        return Request(self.bundles[:number])

    def only(self, bundle: int) -> Request:
        """What one bundle asks for."""
        return Request(self.bundles[bundle : bundle + 1])

    def cpus(self, bundle: int) -> float:
        """CPUs of one bundle."""
        return dict(self.bundles[bundle]).get("CPU", 0) / _PARTS

    @property
    def has_gpus(self) -> bool:
        """Whether any bundle asks for GPUs."""
        return any(name == _GPU for bundle in self.bundles for name, _ in bundle)

    def __str__(self) -> str:
        return shown(self.total)


@dataclass(frozen=True, slots=True)
class Grant:
    """Resources that a trial holds.

    Attributes:
        request: what was asked.
        gpus: per bundle, the ids of its GPUs and the amount taken of each.
    """

    request: Request
    gpus: tuple[tuple[tuple[str, int], ...], ...]

    def gpu_ids(self, bundle: int) -> tuple[str, ...] | None:
        """GPU ids for the process of one bundle; None when it asked for none."""
        return tuple(gpu for gpu, _ in self.gpus[bundle]) or None


def request_of(bundles: Iterable[Mapping[str, float]]) -> Request:
    """Make a request from bundles of amounts, the trial's own process first (it may be empty)."""
    return Request(
        tuple(
            tuple(sorted((name, _parts(amount)) for name, amount in bundle.items() if amount))
            for bundle in bundles
        )
        or ((),)
    )


def shown(amounts: Mapping[str, int]) -> str:
    """Amounts for people: ``CPU 2, GPU 0.5``, or ``nothing``."""
    return ", ".join(f"{name} {amounts[name] / _PARTS:g}" for name in sorted(amounts)) or "nothing"


class Pool:
    """Resources shared by all trials; what is granted never exceeds what there is.

    Args:
        amounts: resource -> amount, without GPUs.
        gpus: ids of the GPUs.
    """

    def __init__(self, amounts: Mapping[str, float], gpus: Sequence[str] = ()) -> None:
        self._total = {name: _parts(n) for name, n in amounts.items() if name != _GPU}
        self._free = dict(self._total)
        self._gpus = dict.fromkeys(gpus, _PARTS)

    @property
    def total(self) -> dict[str, float]:
        """All there is."""
        amounts = {name: amount / _PARTS for name, amount in self._total.items()}
        return {**amounts, _GPU: float(len(self._gpus))} if self._gpus else amounts

    @property
    def used(self) -> dict[str, float]:
        """What trials hold now."""
        amounts = {name: (n - self._free[name]) / _PARTS for name, n in self._total.items()}
        if self._gpus:
            amounts[_GPU] = sum(_PARTS - left for left in self._gpus.values()) / _PARTS
        return amounts

    def why_never(self, request: Request) -> str | None:
        """Why a request can never be met, even by an idle machine; None when it can."""
        if self.fits_without(request, ()):
            return None
        return f"it asks for {request}, and there is {shown(self.amounts)} in all"

    @property
    def amounts(self) -> dict[str, int]:
        """All there is, in parts."""
        gpus = {_GPU: len(self._gpus) * _PARTS} if self._gpus else {}
        return {**self._total, **gpus}

    def fits_without(self, request: Request, held: Iterable[Grant]) -> bool:
        """Whether a request can be met once everything is given back but for some grants."""
        rest = Pool({}, ())
        rest._total, rest._free = self._total, dict(self._total)
        rest._gpus = dict.fromkeys(self._gpus, _PARTS)
        for grant in held:
            rest._take(grant)
        return rest.fits(request)

    def fits(self, request: Request) -> bool:
        """Whether a request can be met now."""
        return self._assign(request) is not None

    def acquire(self, request: Request) -> Grant | None:
        """Take what a request asks for, or nothing at all."""
        gpus = self._assign(request)
        if gpus is None:
            return None
        grant = Grant(request, gpus)
        self._take(grant)
        return grant

    def _take(self, grant: Grant) -> None:
        for name, amount in grant.request.total.items():
            if name != _GPU:
                self._free[name] -= amount
        for bundle in grant.gpus:
            for gpu, amount in bundle:
                self._gpus[gpu] -= amount

    def release(self, grant: Grant) -> None:
        """Give back what was granted."""
        for name, amount in grant.request.total.items():
            if name != _GPU:
                self._free[name] += amount
        for bundle in grant.gpus:
            for gpu, amount in bundle:
                self._gpus[gpu] += amount

    def validate(self, grants: Iterable[Grant]) -> None:
        """Check that what is free and what is granted add up to what there is."""
        free, gpus = dict(self._free), dict(self._gpus)
        for grant in grants:
            for name, amount in grant.request.total.items():
                if name != _GPU:
                    free[name] += amount
            for bundle in grant.gpus:
                for gpu, amount in bundle:
                    gpus[gpu] += amount
        assert free == self._total, (free, self._total)
        assert all(amount == _PARTS for amount in gpus.values()), gpus
        assert all(amount >= 0 for amount in self._free.values()), self._free
        assert all(amount >= 0 for amount in self._gpus.values()), self._gpus

    def _assign(self, request: Request) -> tuple[tuple[tuple[str, int], ...], ...] | None:
        """Choose GPUs for each bundle; None when something is missing."""
        for name, amount in request.total.items():
            if name != _GPU and amount > self._free.get(name, 0):
                return None
        if not request.has_gpus:
            return ((),) * len(request.bundles)
        free = dict(self._gpus)
        chosen = []
        for bundle in request.bundles:
            taken = _choose(free, dict(bundle).get(_GPU, 0))
            if taken is None:
                return None
            for gpu, amount in taken:
                free[gpu] -= amount
            chosen.append(taken)
        return tuple(chosen)


def _choose(free: Mapping[str, int], amount: int) -> tuple[tuple[str, int], ...] | None:
    """Pick GPUs: whole ones, and for a fraction the fullest one that still has room."""
    whole, part = divmod(amount, _PARTS)
    idle = [gpu for gpu, left in free.items() if left == _PARTS]
    if len(idle) < whole:
        return None
    taken = [(gpu, _PARTS) for gpu in idle[:whole]]
    if part:
        room = [gpu for gpu, left in free.items() if left >= part and gpu not in idle[:whole]]
        if not room:
            return None
        taken.append((min(room, key=lambda gpu: free[gpu]), part))
    return tuple(taken)
