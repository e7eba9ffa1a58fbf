"""How reported checkpoints are validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from milepost.api import checks
from milepost.api.config import Config, FieldCheck, checked
from milepost.api.spelling import did_you_mean

if TYPE_CHECKING:
    from milepost.checkpoint.handle import Checkpoint


class ValidationFn(Protocol):
    """A function that validates a checkpoint. Mirrors ``ray.train.ValidationFn``."""

    def __call__(self, checkpoint: Checkpoint, **kwargs: Any) -> dict[str, Any]:
        """Return metrics, which are added to those of the checkpoint.

        Args:
            checkpoint: a committed one.
            **kwargs: from ``ValidationTaskConfig(fn_kwargs=...)``.
        """
        ...


def _named(owner: str, name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{owner}.{name} must be a dict of arguments by name, got {value!r}.")
    return dict(value)


#: What entries of ``ray_remote_kwargs`` are called among resources.
_AMOUNTS = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}


def _remote(owner: str, name: str, value: Any) -> dict[str, Any]:
    given = _named(owner, name, value)
    for key, amount in given.items():
        if key == "resources":
            for resource, each in _named(f"{owner}.{name}", key, amount).items():
                if resource in ("CPU", "GPU"):
                    raise ValueError(
                        f"{owner}.{name}['resources'] must not have {resource!r}: write "
                        f"num_{resource.lower()}s={each!r} in its place."
                    )
                _amount(f"{owner}.{name}['resources']", resource, each)
        elif key in _AMOUNTS:
            _amount(f"{owner}.{name}", key, amount)
        else:
            known = (*_AMOUNTS, "resources")
            raise ValueError(
                f"{owner}.{name}[{key!r}] cannot take effect, got {amount!r}: the function runs in "
                f"a process of this run's own. Only {', '.join(known)} can be set."
                + did_you_mean(key, known)
            )
    return given


def _amount(owner: str, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{owner}[{name!r}] must be a number, got {value!r}.")
    if not float(value) >= 0:
        raise ValueError(f"{owner}[{name!r}] must be 0 or more, got {value!r}.")


def _timeout(owner: str, name: str, value: Any) -> Any:
    try:
        return checks.seconds(owner, name, value)
    except ValueError as error:
        raise checks.ArgumentError(f"{error} None sets no limit.") from None


@checked
@dataclass
class ValidationTaskConfig(Config):
    """How one checkpoint is validated. Mirrors ``ray.train.ValidationTaskConfig``.

    Args:
        fn_kwargs: what the function is given besides the checkpoint; default nothing.
        timeout_s: seconds (or a ``timedelta``) that it may take; None (the default) is no limit.

    Raises:
        TypeError: a value has the wrong type, or a field is misspelt.
        ValueError: the timeout is not positive; an ``AssertionError`` too, as in Ray.
    """

    fn_kwargs: dict[str, Any] | None = None
    timeout_s: float | None = None

    _checks: ClassVar[Mapping[str, FieldCheck]] = {
        "fn_kwargs": _named,
        "timeout_s": checks.optional(_timeout),
    }

    def overlaid(self, validation: bool | ValidationTaskConfig) -> ValidationTaskConfig | None:
        """Return how a checkpoint is validated that was reported with ``validation``.

        Args:
            validation: the argument of ``report``. A config adds its arguments to these, and its
                own limit of time counts, be it none.

        Returns:
            The config for this checkpoint; None for False.

        Raises:
            TypeError: it is neither a bool nor a config.
        """
        if isinstance(validation, ValidationTaskConfig):
            return ValidationTaskConfig(
                {**(self.fn_kwargs or {}), **(validation.fn_kwargs or {})}, validation.timeout_s
            )
        if not checks.boolean("report()", "validation", validation):
            return None
        return ValidationTaskConfig(dict(self.fn_kwargs or {}), self.timeout_s)

    def _repr_html_(self) -> str:
        from milepost.api.html import config_table

        return config_table(self)


@checked
@dataclass
class ValidationConfig(Config):
    """How a trainer validates checkpoints, outside of its workers. Mirrors Ray's class.

    Args:
        fn: ``fn(checkpoint, **kwargs) -> dict`` of metrics.
        task_config: what holds where ``report`` is called with ``validation=True``; the default is
            no arguments and no limit of time.
        ray_remote_kwargs: what the function holds while it runs, which the run's workers leave
            free: ``num_cpus``, ``num_gpus``, ``memory`` (bytes), ``resources`` (a dict);
            default nothing.

    Raises:
        TypeError: a value has the wrong type, or a field is misspelt.
        ValueError: ``ray_remote_kwargs`` has an entry that cannot take effect, or a negative
            amount.

    Example:
        >>> def accuracy(checkpoint, split):
        ...     with checkpoint.as_directory() as path:
        ...         return {"accuracy": ...}
        >>> config = ValidationConfig(accuracy, ValidationTaskConfig({"split": "valid"}))
        >>> config.task(ValidationTaskConfig(timeout_s=60))
        ValidationTaskConfig(fn_kwargs={'split': 'valid'}, timeout_s=60)
    """

    fn: ValidationFn
    task_config: ValidationTaskConfig | None = None
    ray_remote_kwargs: dict[str, Any] | None = None

    _checks: ClassVar[Mapping[str, FieldCheck]] = {
        "fn": checks.function,
        "task_config": checks.instance_of(ValidationTaskConfig, ValidationTaskConfig),
        "ray_remote_kwargs": _remote,
    }

    def task(self, validation: bool | ValidationTaskConfig) -> ValidationTaskConfig | None:
        """Return how a checkpoint is validated; see :meth:`ValidationTaskConfig.overlaid`."""
        assert self.task_config is not None
        return self.task_config.overlaid(validation)

    @property
    def resources(self) -> dict[str, float]:
        """What the function holds while it runs, of what the run may use."""
        given = dict(self.ray_remote_kwargs or {})
        amounts = dict(given.pop("resources", None) or {})
        amounts |= {name: given.pop(key) for key, name in _AMOUNTS.items() if key in given}
        return {name: float(amount) for name, amount in amounts.items() if amount}

    def _repr_html_(self) -> str:
        from milepost.api.html import config_table

        return config_table(self)
