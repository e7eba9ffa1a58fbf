"""A kernel density over numbers from 0 to 1 and categories."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Of Scott's rule with a normal kernel.
_SCOTT = 1.06
# So many points make the narrowest kernels: fewer that happen to be close do not.
_MOST_NARROW = 100
_ROOT = math.sqrt(2 * math.pi)


class Density:
    """Where configurations lie: each is a kernel, a normal one per number.

    A category keeps its own with a probability of one less the bandwidth; the others share the
    rest (Aitchison and Aitken, 1976). One more kernel is even over the whole space: as in other
    Parzen estimators it keeps a few close points from being taken for all there is.

    Args:
        points: a row per configuration; numbers from 0 to 1, categories as whole numbers.
        levels: how many categories each column has; 0 for a number.
        least: the smallest bandwidth.
    """

    def __init__(self, points: np.ndarray[Any, Any], levels: list[int], least: float) -> None:
        import numpy as np

        self.points = points
        self.levels = levels
        count, width = points.shape
        self.bandwidths = np.empty(width)
        for column, categories in enumerate(levels):
            spread = _SCOTT * float(np.std(points[:, column])) * count ** (-1.0 / (4 + width))
            most = (categories - 1) / categories if categories else 1.0
            floor = max(least, 0.0 if categories else 1 / (1 + min(count, _MOST_NARROW)))
            self.bandwidths[column] = min(max(spread, floor), most)

    def at(self, candidates: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the density at each of several rows."""
        import numpy as np

        kernels = np.ones((len(candidates), len(self.points)))
        for column, categories in enumerate(self.levels):
            width = self.bandwidths[column]
            there, known = candidates[:, column][:, None], self.points[:, column][None, :]
            if categories == 1:
                continue
            if categories:
                kernels *= np.where(there == known, 1 - width, width / (categories - 1))
            else:
                kernels *= np.exp(-0.5 * ((there - known) / width) ** 2) / (width * _ROOT)
        even = math.prod(1 / max(categories, 1) for categories in self.levels)
        density: np.ndarray[Any, Any] = (kernels.sum(axis=1) + even) / (len(self.points) + 1)
        return density

    def draw(self, rng: np.random.Generator, count: int, *, factor: float) -> np.ndarray[Any, Any]:
        """Draw rows around the points.

        Args:
            rng: draws.
            count: how many.
            factor: the bandwidths of numbers are multiplied by it, so that draws spread wider.
        """
        import numpy as np

        which = rng.integers(len(self.points) + 1, size=count)
        is_even = which == len(self.points)
        rows = self.points[np.where(is_even, 0, which)].copy()
        for column, categories in enumerate(self.levels):
            width = self.bandwidths[column]
            if categories:
                moves = is_even | (rng.uniform(size=count) < width)
                others = rng.integers(categories, size=count)
                rows[:, column] = np.where(moves, others, rows[:, column])
            else:
                near = _within(rng, rows[:, column], width * factor)
                rows[:, column] = np.where(is_even, rng.uniform(size=count), near)
        return rows


def _within(
    rng: np.random.Generator, centres: np.ndarray[Any, Any], width: float
) -> np.ndarray[Any, Any]:
    """Draw from normal distributions, again where a draw is not from 0 to 1."""
    import numpy as np

    drawn = rng.normal(centres, width)
    for _ in range(100):
        outside = (drawn < 0) | (drawn > 1)
        if not outside.any():
            break
        drawn[outside] = rng.normal(centres[outside], width)
    return np.clip(drawn, 0, 1)
