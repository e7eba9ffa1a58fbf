"""How many workers a training run has, and what each of them holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from milepost.api import checks
from milepost.api.config import Config, FieldCheck, checked
from milepost.api.resources import Bundle, PlacementGroupFactory

_STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
_NO_TPUS = "TPUs are not supported by this version of Milepost. Train on GPUs or CPUs."
# How much of a machine's kind a worker holds: next to nothing, it only has to be there.
_OF_KIND = 0.001


def _whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _num_workers(owner: str, name: str, value: Any) -> int | tuple[int, int]:
    if _whole(value):
        if value < 0:
            raise ValueError(f"{owner}.{name} must be 0 or more, got {value!r}.")
        return int(value)
    if not (isinstance(value, tuple) and len(value) == 2 and all(map(_whole, value))):
        raise ValueError(
            f"{owner}.{name} must be a whole number or a tuple of two, (least, most), got "
            f"{value!r} ({type(value).__name__})."
        )
    least, most = int(value[0]), int(value[1])
    if least < 1:
        raise ValueError(
            f"{owner}.{name} must allow no fewer than 1 worker, got {value!r}: nothing is trained "
            "without any. num_workers=0 alone trains in the driver's process."
        )
    if least > most:
        raise ValueError(
            f"{owner}.{name} must be (least, most), got {value!r}. Did you mean {(most, least)!r}?"
        )
    return least, most


def _trainer_resources(owner: str, name: str, value: Any) -> Any:
    if isinstance(value, Mapping) and not any(value.values()):
        return value  # asks for nothing, which is what it gets
    return checks.refused(
        "A trainer runs in the driver's process and holds no resources. Leave it out, and give "
        "each worker what it needs with resources_per_worker.",
        None,
    )(owner, name, value)


def _resources(owner: str, name: str, value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{owner}.{name} must be a dict such as {{'CPU': 2, 'GPU': 1}}, got {value!r} "
            f"({type(value).__name__})."
        )
    amounts: dict[str, float] = {}
    for resource, amount in value.items():
        known = resource.upper() if resource in ("cpu", "gpu", "tpu") else resource
        if not isinstance(known, str) or not known or known in amounts:
            raise ValueError(
                f"{owner}.{name} must name each resource once, got {resource!r} in {value!r}."
            )
        number = isinstance(amount, int | float) or hasattr(amount, "__float__")
        if not number or isinstance(amount, bool) or not 0 <= float(amount) < math.inf:
            raise ValueError(
                f"{owner}.{name}: the amount of {resource!r} must be a number, 0 or more, got "
                f"{amount!r}."
            )
        amounts[known] = amount
    if "TPU" in amounts:
        raise ValueError(f"{owner}.{name} asks for TPUs: {value!r}. {_NO_TPUS}")
    return amounts


def _labels(owner: str, name: str, value: Any) -> Any:
    selectors = value if isinstance(value, list) else [value]
    for selector in selectors:
        if not isinstance(selector, Mapping) or not all(
            isinstance(text, str) for item in selector.items() for text in item
        ):
            raise ValueError(
                f"{owner}.{name} must be a dict of labels, such as {{'zone': 'a'}}, or a list of "
                f"such dicts, one per worker, got {value!r}."
            )
    return value


def _tpu(owner: str, name: str, value: Any) -> bool:
    if checks.boolean(owner, name, value):
        raise ValueError(f"{owner}.{name}=True: {_NO_TPUS} ScalingConfig(use_gpu=True) does.")
    return False


def _topology(owner: str, name: str, value: Any) -> None:
    raise ValueError(f"{owner}.{name}={value!r} is for TPUs only. {_NO_TPUS}")


@checked
@dataclass
class ScalingConfig(Config):
    """How many workers a training run has, and what each holds. Mirrors Ray's class.

    Args:
        trainer_resources: raises, unless it asks for nothing; trainers hold no resources.
        num_workers: how many workers train; 0 runs the training function in the driver's process.
            A tuple ``(least, most)`` lets the run choose by what is free. Default 1.
        use_gpu: whether each worker has a GPU; default False.
        resources_per_worker: what each worker holds, such as ``{"CPU": 4, "GPU": 0.5}``. Without
            it, that is one GPU with ``use_gpu``, else one CPU.
        placement_strategy: ``"PACK"`` (the default), ``"SPREAD"``, ``"STRICT_PACK"`` or
            ``"STRICT_SPREAD"``: whether workers share machines.
        accelerator_type: a kind of GPU that workers' machines must have, such as ``"A100"``.
        label_selector: labels that workers' machines must have; a list has one entry per worker.
        use_tpu: raises for True.
        topology: raises; it is for TPUs.
        elastic_resize_monitor_interval_s: seconds (or a ``timedelta``) between two looks whether
            an elastic run could have another number of workers; default 60.

    Raises:
        ValueError: a value is out of range, values contradict each other, or TPUs are asked for.
        TypeError: a value has the wrong type, or a field is misspelt.
        DeprecationWarning: ``trainer_resources`` asks for anything.

    Example:
        >>> ScalingConfig(num_workers=4, use_gpu=True).total_resources
        {'GPU': 4.0}
    """

    trainer_resources: dict[str, float] | None = None
    num_workers: int | tuple[int, int] = 1
    use_gpu: bool = False
    resources_per_worker: dict[str, float] | None = None
    placement_strategy: str = "PACK"
    accelerator_type: str | None = None
    label_selector: dict[str, str] | list[dict[str, str]] | None = None
    use_tpu: bool = False
    topology: str | None = None
    elastic_resize_monitor_interval_s: float = 60.0

    _checks: ClassVar[Mapping[str, FieldCheck]] = {
        "trainer_resources": _trainer_resources,
        "num_workers": _num_workers,
        "use_gpu": checks.boolean,
        "resources_per_worker": checks.optional(_resources),
        "placement_strategy": checks.one_of(*_STRATEGIES),
        "accelerator_type": checks.optional(checks.text),
        "label_selector": checks.optional(_labels),
        "use_tpu": _tpu,
        "topology": checks.optional(_topology),
        "elastic_resize_monitor_interval_s": checks.delay,
    }

    def __post_init__(self) -> None:
        self._check_together()

    @property
    def elasticity_enabled(self) -> bool:
        """Whether the run chooses how many workers it has."""
        return isinstance(self.num_workers, tuple)

    @property
    def min_workers(self) -> int:
        """The least number of workers."""
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def max_workers(self) -> int:
        """The greatest number of workers."""
        return self.num_workers[1] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def num_cpus_per_worker(self) -> float:
        """CPUs of each worker."""
        return self._per_worker.get("CPU", 0)

    @property
    def num_gpus_per_worker(self) -> float:
        """GPUs of each worker."""
        return self._per_worker.get("GPU", 0)

    @property
    def num_tpus_per_worker(self) -> float:
        """0: there are no TPUs."""
        return 0

    @property
    def additional_resources_per_worker(self) -> dict[str, float]:
        """What each worker holds besides CPUs and GPUs."""
        return {name: n for name, n in self._per_worker.items() if name not in ("CPU", "GPU")}

    @property
    def total_resources(self) -> Bundle:
        """What all workers hold together, at most."""
        return {name: float(n * self.max_workers) for name, n in self._per_worker.items()}

    def as_placement_group_factory(self, num_workers: int | None = None) -> PlacementGroupFactory:
        """Return what a group of workers holds, one bundle per worker, by world rank.

        Args:
            num_workers: how many; by default as many as there may be.

        Raises:
            ValueError: the run cannot have this number of workers, needs none as it trains in the
                driver's process, or fields that were set later contradict each other or cannot
                take effect.
        """
        self._check_together()
        if self.label_selector:
            raise ValueError(
                f"ScalingConfig.label_selector={self.label_selector!r} cannot be met: this version "
                "of Milepost runs on one machine, which has no labels. Leave it out."
            )
        if num_workers is None:
            num_workers = self.max_workers
        if not max(1, self.min_workers) <= num_workers <= self.max_workers:
            raise ValueError(
                f"There is no group of {num_workers} workers with ScalingConfig(num_workers="
                f"{self.num_workers!r})."
                + (" It trains in the driver's process." if self.max_workers == 0 else "")
            )
        return PlacementGroupFactory([self._per_worker] * num_workers, self.placement_strategy)

    @property
    def _per_worker(self) -> dict[str, float]:
        if self.resources_per_worker is None:
            amounts: dict[str, float] = {} if self.use_gpu else {"CPU": 1}
        else:
            amounts = dict(self.resources_per_worker)
        if self.use_gpu:
            amounts.setdefault("GPU", 1)
        if self.accelerator_type is not None:
            amounts.setdefault(f"accelerator_type:{self.accelerator_type}", _OF_KIND)
        return amounts

    def _check_together(self) -> None:
        given = self.resources_per_worker
        if given is not None:
            if not self.use_gpu and given.get("GPU"):
                raise ValueError(
                    f"ScalingConfig(resources_per_worker={given!r}) has GPUs, and use_gpu is "
                    "False. Set use_gpu=True, or leave them out."
                )
            if self.use_gpu and given.get("GPU") == 0:
                raise ValueError(
                    f"ScalingConfig(use_gpu=True, resources_per_worker={given!r}): a worker that "
                    "uses a GPU needs some of one. Leave GPU out for a whole one."
                )
            if not any(self._per_worker.values()):
                raise ValueError(
                    f"ScalingConfig(resources_per_worker={given!r}): a worker must hold something, "
                    "or there is no limit to how many run at once. A little of a CPU will do: "
                    "{'CPU': 0.01}."
                )
        selectors = self.label_selector
        if isinstance(selectors, list) and len(selectors) != self.max_workers:
            raise ValueError(
                f"ScalingConfig.label_selector has {len(selectors)} entries for "
                f"{self.max_workers} workers, got {selectors!r}. A dict counts for all of them."
            )

    def _repr_html_(self) -> str:
        from milepost.api.html import config_table

        return config_table(self)
