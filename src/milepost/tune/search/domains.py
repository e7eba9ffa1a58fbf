"""Domains: sets of values that a search variable may take."""

from __future__ import annotations

import copy
import inspect
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from milepost.tune.search import bounds
from milepost.tune.search.samplers import (
    Grid,
    LogUniform,
    Normal,
    Quantized,
    RandomSource,
    Sampler,
    Uniform,
    grid_index,
)

if TYPE_CHECKING:
    from milepost.tune.search.samplers import RandomState

logger = logging.getLogger("milepost.tune")

D = TypeVar("D", bound="Domain")


class Domain:
    """A set of values, and how to draw from it. Mirrors ``ray.tune.search.sample.Domain``."""

    #: Drawn with when no sampler was chosen.
    default_sampler_cls: ClassVar[type[Sampler]] = Uniform

    sampler: Sampler | None = None

    def cast(self, value: Any) -> Any:
        """Return a value as the domain's plain Python type."""
        return value

    def set_sampler(self, sampler: Sampler, allow_override: bool = False) -> None:
        """Choose how values are drawn.

        Raises:
            ValueError: one was chosen before, and ``allow_override`` is False.
        """
        if self.sampler is not None and not allow_override:
            raise ValueError(
                f"{type(self).__name__}{self.domain_str} is drawn from with {self.sampler} "
                f"already; it cannot also be drawn from with {sampler}."
            )
        self.sampler = sampler

    def get_sampler(self) -> Sampler:
        """Return how values are drawn."""
        return self.sampler if self.sampler is not None else self.default_sampler_cls()

    def sample(
        self,
        config: Any = None,
        size: int = 1,
        random_state: RandomState | RandomSource = None,
    ) -> Any:
        """Return one value, or ``size`` of them.

        Args:
            config: the configuration drawn so far, for :class:`Function`.
            size: how many values; 1 returns a plain value, more a list or array.
            random_state: a NumPy generator or a seed; None draws from NumPy's global generator.
        """
        return self.get_sampler().sample(self, config, size, random_state)

    def is_grid(self) -> bool:
        """Whether every value is tried instead of drawn."""
        return isinstance(self.sampler, Grid)

    def is_function(self) -> bool:
        """Whether values come from a user's function."""
        return False

    def is_valid(self, value: Any) -> bool:
        """Whether the domain holds a value."""
        raise NotImplementedError

    @property
    def domain_str(self) -> str:
        """The bounds, for messages."""
        return "(unknown)"

    def draw_uniform(self, source: RandomSource, size: int) -> Any:
        """Draw ``size`` values uniformly."""
        raise self._not_drawn("uniformly")

    def draw_log_uniform(self, source: RandomSource, size: int) -> Any:
        """Draw ``size`` values uniformly in their logarithm."""
        raise self._not_drawn("log-uniformly")

    def quantization(self, q: float) -> tuple[Domain, Callable[[Any], Any]]:
        """Return the domain to draw from, and what turns a draw into a multiple of ``q``."""
        raise self._not_drawn(f"in steps of {q!r}")

    def shaped(self, draws: Any, size: int) -> Any:
        """Return draws as users get them: a plain value when there is one."""
        return self.cast(draws[0]) if size == 1 else draws

    def __repr__(self) -> str:
        """As it is written in a search space: ``quniform(0, 1, q=0.1)``."""
        sampler = self.sampler
        if isinstance(sampler, Quantized):
            return f"q{self._written(sampler.get_sampler())}, q={sampler.q!r})"
        return f"{self._written(sampler)})"

    def _written(self, sampler: Sampler | None) -> str:
        """The function that made it with its arguments, but for the last parenthesis."""
        return f"{type(self).__name__}{self.domain_str.removesuffix(')')}"

    def _not_drawn(self, how: str) -> TypeError:
        return TypeError(f"{type(self).__name__}{self.domain_str} cannot be drawn from {how}.")

    def _with(self: D, sampler: Sampler, override: bool = False) -> D:
        new = copy.copy(self)
        new.set_sampler(sampler, allow_override=override)
        return new


class Float(Domain):
    """Numbers between two bounds.

    Args:
        lower: the lower bound, included; None for no bound.
        upper: the upper bound, not included; None for no bound.

    Raises:
        TypeError: a bound is no number.
        ValueError: a bound is NaN.
    """

    def __init__(self, lower: float | None, upper: float | None) -> None:
        self.lower = -math.inf if lower is None else bounds.number("A lower bound", lower)
        self.upper = math.inf if upper is None else bounds.number("An upper bound", upper)

    def cast(self, value: Any) -> float:
        """Return a float."""
        return float(value)

    def uniform(self) -> Float:
        """Return a copy that is drawn from uniformly.

        Raises:
            ValueError: a bound is missing, or the lower one is above the upper one.
        """
        self._require_finite("A uniform range")
        return self._with(Uniform())

    def loguniform(self, base: Any = None) -> Float:
        """Return a copy that is drawn from uniformly in the logarithm.

        Raises:
            ValueError: the lower bound is not more than 0 or above the upper one, or the latter is
                missing.
        """
        _require_positive(self.lower)
        self._require_finite("A log-uniform range")
        return self._with(LogUniform(base))

    def normal(self, mean: float = 0.0, sd: float = 1.0) -> Float:
        """Return a copy that is drawn from normally; the bounds are not applied."""
        return self._with(Normal(mean, sd))

    def quantized(self, q: float) -> Float:
        """Return a copy whose values are multiples of ``q``.

        Raises:
            ValueError: a bound is no multiple of ``q``, or ``q`` is not more than 0.
        """
        bounds.require_step(q)
        for side, bound in (("lower", self.lower), ("upper", self.upper)):
            if math.isfinite(bound) and not math.isclose(bound / q, round(bound / q)):
                raise ValueError(
                    f"The {side} bound {bound!r} is no multiple of q={q!r}. Choose bounds that "
                    "are, so that they can be reached."
                )
        return self._with(Quantized(self.get_sampler(), q), override=True)

    def is_valid(self, value: Any) -> bool:
        """Whether a number lies between the bounds, both included."""
        return bool(self.lower <= value <= self.upper)

    @property
    def domain_str(self) -> str:
        """The bounds, for messages."""
        return f"({self.lower}, {self.upper})"

    def _written(self, sampler: Sampler | None) -> str:
        if isinstance(sampler, Normal):
            return f"randn({sampler.mean!r}, {sampler.sd!r}"
        name = "loguniform" if isinstance(sampler, LogUniform) else "uniform"
        return f"{name}({self.lower!r}, {self.upper!r}"

    def draw_uniform(self, source: RandomSource, size: int) -> Any:
        """Draw ``size`` numbers uniformly."""
        return source.rng.uniform(self.lower, self.upper, size=size)

    def draw_log_uniform(self, source: RandomSource, size: int) -> Any:
        """Draw ``size`` numbers uniformly in their logarithm."""
        import numpy as np

        return np.exp(source.rng.uniform(np.log(self.lower), np.log(self.upper), size=size))

    def quantization(self, q: float) -> tuple[Domain, Callable[[Any], Any]]:
        """Snap the bounds inward to the grid; draws are rounded to it."""
        import numpy as np

        snapped = [
            grid_index(bound, q, up) * q if math.isfinite(bound) else bound
            for bound, up in ((self.lower, True), (self.upper, False))
        ]
        return Float(*snapped), lambda value: np.round(value / q) * q

    def _require_finite(self, what: str) -> None:
        if not math.isfinite(self.lower):
            raise ValueError(f"{what} needs a lower bound, got {self.domain_str}.")
        if not math.isfinite(self.upper):
            raise ValueError(f"{what} needs an upper bound, got {self.domain_str}.")
        bounds.require_order(self.lower, self.upper)


class Integer(Domain):
    """Whole numbers between two bounds.

    Args:
        lower: the lower bound, included.
        upper: the upper bound, not included.

    Raises:
        TypeError: a bound is no whole number.
    """

    def __init__(self, lower: int, upper: int) -> None:
        self.lower = bounds.whole("A lower bound", lower)
        self.upper = bounds.whole("An upper bound", upper)

    def cast(self, value: Any) -> int:
        """Return an int."""
        return int(value)

    def uniform(self) -> Integer:
        """Return a copy that is drawn from uniformly.

        Raises:
            ValueError: the lower bound is above the upper one.
        """
        bounds.require_order(self.lower, self.upper)
        return self._with(Uniform())

    def loguniform(self, base: Any = None) -> Integer:
        """Return a copy that is drawn from uniformly in the logarithm.

        Raises:
            ValueError: the lower bound is not more than 0, or above the upper one.
        """
        _require_positive(self.lower)
        bounds.require_order(self.lower, self.upper)
        return self._with(LogUniform(base))

    def quantized(self, q: int) -> Integer:
        """Return a copy whose values are multiples of ``q``, the upper bound included.

        Raises:
            ValueError: there is no such multiple, or ``q`` is not more than 0.
        """
        bounds.require_step(q)
        self.quantization(q)
        return self._with(Quantized(self.get_sampler(), q), override=True)

    def is_valid(self, value: Any) -> bool:
        """Whether a number lies between the bounds, both included."""
        return bool(self.lower <= value <= self.upper)

    @property
    def domain_str(self) -> str:
        """The bounds, for messages."""
        return f"({self.lower}, {self.upper})"

    def _written(self, sampler: Sampler | None) -> str:
        name = "lograndint" if isinstance(sampler, LogUniform) else "randint"
        return f"{name}({self.lower!r}, {self.upper!r}"

    def draw_uniform(self, source: RandomSource, size: int) -> Any:
        """Draw ``size`` whole numbers uniformly."""
        return source.integers(self.lower, self.upper, size)

    def draw_log_uniform(self, source: RandomSource, size: int) -> Any:
        """Draw ``size`` whole numbers uniformly in their logarithm."""
        import numpy as np

        draws = np.exp(source.rng.uniform(np.log(self.lower), np.log(self.upper), size=size))
        return np.floor(draws).astype(int)

    def quantization(self, q: float) -> tuple[Domain, Callable[[Any], Any]]:
        """Draw an index on the grid; it is multiplied by ``q``."""
        low, high = grid_index(self.lower, q, True), grid_index(self.upper, q, False)
        # With a step of one this is the range itself, whose upper bound is not included.
        end = high if q == 1 else high + 1
        if end <= low:
            raise ValueError(f"There is no multiple of q={q!r} in {self.domain_str}.")
        return Integer(low, end), lambda index: index * q


class Categorical(Domain):
    """A few values to choose from.

    Args:
        categories: the values.

    Raises:
        TypeError: they are no list or the like.
        ValueError: there are none.
    """

    def __init__(self, categories: Iterable[Any]) -> None:
        self.categories: Sequence[Any] = bounds.categories_of(categories)

    def uniform(self) -> Categorical:
        """Return a copy that is drawn from uniformly."""
        return self._with(Uniform())

    def grid(self) -> Categorical:
        """Return a copy of which every value is tried."""
        return self._with(Grid())

    def is_valid(self, value: Any) -> bool:
        """Whether a value is among the categories."""
        return value in self.categories

    @property
    def domain_str(self) -> str:
        """The categories, for messages."""
        return f"{self.categories}"

    def _written(self, sampler: Sampler | None) -> str:
        return f"{'grid_search' if self.is_grid() else 'choice'}({list(self.categories)!r}"

    def __len__(self) -> int:
        return len(self.categories)

    def __getitem__(self, index: Any) -> Any:
        return self.categories[index]

    def draw_uniform(self, source: RandomSource, size: int) -> Any:
        """Draw ``size`` indices uniformly and return their values."""
        import numpy as np

        return [self.categories[i] for i in source.rng.choice(np.arange(len(self)), size=size)]


class Function(Domain):
    """Values from a user's function, called last, when the rest of the configuration is known.

    Args:
        func: takes the configuration, or nothing.

    Raises:
        TypeError: it cannot be called.
        ValueError: it needs more than one argument.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        if not callable(func):
            raise TypeError(f"sample_from needs a function, got {func!r}.")
        self.func = func
        self.pass_config = _takes_config(func)
        self._has_told = False

    def is_function(self) -> bool:
        """True."""
        return True

    def is_valid(self, value: Any) -> bool:
        """True: nothing is known of a function's values."""
        return True

    @property
    def domain_str(self) -> str:
        """The function, for messages."""
        return f"{self.func}()"

    def _written(self, sampler: Sampler | None) -> str:
        name = getattr(self.func, "__qualname__", None) or type(self.func).__qualname__
        return f"sample_from({name}"

    def sample(self, config: Any = None, size: int = 1, random_state: Any = None) -> Any:
        """Call the function; ``random_state`` has no effect on it."""
        configs = config if isinstance(config, list) else [config] * size
        values = [self._call(one) for one in configs]
        return values[0] if size == 1 else values

    def _call(self, config: Any) -> Any:
        if not self.pass_config:
            return self.func()
        try:
            return self.func(config)
        except (AttributeError, KeyError) as error:
            if "config" not in (getattr(error, "name", None), *error.args):
                raise
            from milepost.tune.search.expressions import AttributeView

            value = self.func(AttributeView({"config": config}))
            if not self._has_told:
                self._has_told = True
                logger.warning(
                    "%s reads spec.config: functions given to sample_from take the config itself; "
                    "write lambda config: config[...].",
                    self.func,
                )
            return value


def _takes_config(func: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):  # some built-ins tell nothing about themselves
        return True
    for takes, arguments in ((True, ({},)), (False, ())):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return takes
    raise ValueError(
        f"sample_from needs a function that takes the config or nothing, got {func} with "
        f"{signature}."
    )


def _require_positive(lower: float) -> None:
    if not lower > 0:
        raise ValueError(
            f"A log-uniform range needs a lower bound above 0, got {lower!r}. Give the bounds "
            "themselves, not their logarithms."
        )
