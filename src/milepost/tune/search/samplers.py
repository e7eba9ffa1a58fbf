"""How values are drawn from a domain. NumPy is imported at the first draw."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING, Any

from milepost.api.checks import ArgumentError
from milepost.tune.search.bounds import number, require_step

if TYPE_CHECKING:
    import numpy as np

    from milepost.tune.search.domains import Domain

    #: Where randomness comes from: a NumPy generator of either kind, or a seed.
    RandomState = np.random.Generator | np.random.RandomState | int | None


class RandomSource:
    """One interface over NumPy's two kinds of random generators, whose position can be kept.

    NumPy is imported at the first draw: a search over grids alone never needs it.

    Args:
        random_state: a ``Generator`` or ``RandomState``, used as it is; a seed for a new
            generator; None for NumPy's global generator, so that ``np.random.seed`` counts.
    """

    def __init__(self, random_state: RandomState = None) -> None:
        self._given = random_state
        self._rng: Any = None
        self._is_marked = False
        self._state_at_mark: Any = None

    @property
    def rng(self) -> Any:
        """The generator that draws."""
        if self._rng is None:
            self._rng = _generator(self._given)
        if self._is_marked and self._state_at_mark is None:
            self._state_at_mark = _state_of(self._rng)
        return self._rng

    def integers(self, low: int, high: int, size: int) -> Any:
        """Draw whole numbers from ``low`` up to but not including ``high``."""
        rng = self.rng
        draw = rng.integers if hasattr(rng, "integers") else rng.randint
        return draw(low, high, size=size)

    def mark(self) -> None:
        """Keep in mind where the generator is now."""
        self._is_marked = True
        self._state_at_mark = None

    def state_at_mark(self) -> Any:
        """Return where the generator was at the last :meth:`mark`.

        When that is nowhere in particular (NumPy's global generator, before anybody has imported
        NumPy and thus could have seeded it), a seed is drawn, and draws begin with it.
        """
        if self._state_at_mark is not None:
            return self._state_at_mark
        if self._rng is None and isinstance(self._given, int):
            return "seed", self._given
        if self._rng is None and self._given is None and "numpy" not in sys.modules:
            self._given = int.from_bytes(os.urandom(4))
            return "seed", self._given
        return _state_of(self.rng)

    @classmethod
    def at(cls, state: Any) -> RandomSource:
        """Return a source with a generator of its own that goes on from a state."""
        import numpy as np

        kind, value = state
        if kind == "seed":
            return cls(value)
        if kind == "RandomState":
            legacy = np.random.RandomState()
            legacy.set_state(value)
            return cls(legacy)
        bits = getattr(np.random, kind)()
        bits.state = value
        return cls(np.random.Generator(bits))


def _generator(random_state: Any) -> Any:
    import numpy as np

    if random_state is None:
        return np.random
    if isinstance(random_state, np.random.RandomState | np.random.Generator):
        return random_state
    return np.random.default_rng(random_state)


def _state_of(rng: Any) -> tuple[str, Any]:
    """The kind of a generator and its position, both of which pickle."""
    import numpy as np

    if isinstance(rng, np.random.Generator):
        return type(rng.bit_generator).__name__, rng.bit_generator.state
    return "RandomState", rng.get_state()


def random_source(random_state: Any) -> RandomSource:
    """Return a source as it is, and make one of anything else."""
    return random_state if isinstance(random_state, RandomSource) else RandomSource(random_state)


class Sampler:
    """Draws values from a domain."""

    def sample(
        self,
        domain: Domain,
        config: Any = None,
        size: int = 1,
        random_state: Any = None,
    ) -> Any:
        """Return one value, or ``size`` of them.

        Args:
            domain: what to draw from.
            config: the configuration drawn so far, for domains that depend on it.
            size: how many values; 1 returns a plain value, more a list or array.
            random_state: see :class:`RandomSource`.
        """
        raise NotImplementedError


class BaseSampler(Sampler):
    """A sampler of a domain without bounds of its own."""

    def __str__(self) -> str:
        return "Base"


class Uniform(Sampler):
    """Every value, or every whole number, is as likely as another."""

    def __str__(self) -> str:
        return "Uniform"

    def sample(
        self, domain: Domain, config: Any = None, size: int = 1, random_state: Any = None
    ) -> Any:
        """Draw uniformly."""
        return domain.shaped(domain.draw_uniform(random_source(random_state), size), size)


class LogUniform(Sampler):
    """Every order of magnitude is as likely as another.

    Args:
        base: has no effect; passing it warns.
    """

    def __init__(self, base: Any = None) -> None:
        from milepost.tune.search.primitives import warn_of_base

        warn_of_base(base)

    def __str__(self) -> str:
        return "LogUniform"

    def sample(
        self, domain: Domain, config: Any = None, size: int = 1, random_state: Any = None
    ) -> Any:
        """Draw uniformly in the logarithm."""
        return domain.shaped(domain.draw_log_uniform(random_source(random_state), size), size)


class Normal(Sampler):
    """Values around a mean.

    Args:
        mean: the centre.
        sd: the standard deviation, more than 0.
    """

    def __init__(self, mean: float = 0.0, sd: float = 0.0) -> None:
        number("A mean", mean)
        if not number("A standard deviation", sd) > 0:
            raise ArgumentError(f"A standard deviation must be more than 0, got sd={sd!r}.")
        self.mean = mean
        self.sd = sd

    def __str__(self) -> str:
        return "Normal"

    def sample(
        self, domain: Domain, config: Any = None, size: int = 1, random_state: Any = None
    ) -> Any:
        """Draw from the normal distribution."""
        draws = random_source(random_state).rng.normal(self.mean, self.sd, size=size)
        return domain.shaped(draws, size)


class Grid(Sampler):
    """Marks a domain of which every value is tried."""

    def sample(
        self, domain: Domain, config: Any = None, size: int = 1, random_state: Any = None
    ) -> Any:
        """Refuse: a grid is expanded, not drawn from."""
        raise RuntimeError("A grid is expanded into trials; it cannot be drawn from.")


class Quantized(Sampler):
    """Rounds another sampler's values to multiples of ``q``.

    Args:
        sampler: draws the values.
        q: the step.
    """

    def __init__(self, sampler: Sampler, q: float) -> None:
        require_step(q)
        self.sampler = sampler
        self.q = q

    def get_sampler(self) -> Sampler:
        """Return the sampler whose values are rounded."""
        return self.sampler

    def sample(
        self, domain: Domain, config: Any = None, size: int = 1, random_state: Any = None
    ) -> Any:
        """Draw and round."""
        source = random_source(random_state)
        grid, scale = domain.quantization(self.q)
        values = self.sampler.sample(grid, config, size, source)
        rounded = [domain.cast(scale(value)) for value in ([values] if size == 1 else values)]
        return rounded[0] if size == 1 else rounded


def grid_index(value: float, q: float, up: bool) -> int:
    """Return the multiple of ``q`` at a bound: the bound itself if it is one, else inside of it.

    Args:
        value: the bound; finite.
        q: the step.
        up: True for a lower bound, which is rounded up; False for an upper one.
    """
    steps = value / q
    nearest = round(steps)
    if math.isclose(steps, nearest, rel_tol=1e-9, abs_tol=1e-9):
        return nearest
    return math.ceil(steps) if up else math.floor(steps)
