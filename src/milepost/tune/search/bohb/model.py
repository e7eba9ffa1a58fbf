"""The model of BOHB: which configurations are likely to be good ones.

After Falkner, Klein and Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale"
(2018): on the largest budget that has enough results, one density of the best configurations and
one of the others; of several draws from the former, the one at which their ratio is largest.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from milepost.tune.search.bohb.density import Density

if TYPE_CHECKING:
    import numpy as np

_LEAST_DENSITY = 1e-32


class Model:
    """Learns from losses at several budgets, and proposes rows.

    Args:
        levels: how many categories each column of a row has; 0 for a number from 0 to 1.
        rng: draws.
        min_points_in_model: how many results a budget has before it is modelled; at least one more
            than there are columns.
        top_n_percent: the share of results that count as good, in percent.
        num_samples: how many rows are drawn for a proposal.
        random_fraction: the share of proposals that are drawn at random.
        bandwidth_factor: how much wider than the model draws spread.
        min_bandwidth: the smallest bandwidth.
    """

    def __init__(
        self,
        levels: list[int],
        rng: np.random.Generator,
        *,
        min_points_in_model: int | None = None,
        top_n_percent: float = 15,
        num_samples: int = 64,
        random_fraction: float = 1 / 3,
        bandwidth_factor: float = 3,
        min_bandwidth: float = 1e-3,
    ) -> None:
        self._levels = levels
        self._rng = rng
        self._least_points = max(min_points_in_model or 0, len(levels) + 1)
        self._top_percent = top_n_percent
        self._num_samples = num_samples
        self._random_fraction = random_fraction
        self._bandwidth_factor = bandwidth_factor
        self._min_bandwidth = min_bandwidth
        self._results: dict[float, list[tuple[np.ndarray[Any, Any], float]]] = {}
        self._densities: dict[float, tuple[Density, Density]] = {}

    @property
    def budget(self) -> float | None:
        """The budget that is modelled; None while there are too few results."""
        return max(self._densities, default=None)

    def learn(self, row: np.ndarray[Any, Any], budget: float, loss: float) -> None:
        """Take a result; a loss that is no number is the worst.

        Args:
            row: the configuration; NaN where a variable has no value.
            budget: what was spent.
            loss: the smaller the better.
        """
        results = self._results.setdefault(budget, [])
        results.append((row, math.inf if math.isnan(loss) else loss))
        modelled = self.budget
        if modelled is not None and budget < modelled:
            return
        if len(results) >= self._least_points + 2:
            self._fit(budget)

    def _fit(self, budget: float) -> None:
        import numpy as np

        results = sorted(self._results[budget], key=lambda result: result[1])
        rows = self._imputed(np.array([row for row, _ in results], dtype=float))
        count = len(rows)
        good = max(self._least_points, int(self._top_percent * count / 100))
        bad = max(self._least_points, int((100 - self._top_percent) * count / 100))
        best, others = rows[:good], rows[good : good + bad]
        if not len(others):
            return
        least = self._min_bandwidth
        self._densities[budget] = (
            Density(best, self._levels, least),
            Density(others, self._levels, least),
        )

    def propose(self) -> np.ndarray[Any, Any] | None:
        """Return the row of a promising configuration; None when one shall be drawn at random."""
        budget = self.budget
        if budget is None or self._rng.uniform() < self._random_fraction:
            return None
        import numpy as np

        good, bad = self._densities[budget]
        rows = good.draw(self._rng, self._num_samples, factor=self._bandwidth_factor)
        ratios = np.maximum(good.at(rows), _LEAST_DENSITY) / np.maximum(
            bad.at(rows), _LEAST_DENSITY
        )
        best: np.ndarray[Any, Any] = rows[int(np.argmax(ratios))]
        return best

    def _imputed(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Fill missing values with those of other rows, or at random where no row has one."""
        import numpy as np

        for column, categories in enumerate(self._levels):
            missing = np.isnan(rows[:, column])
            if not missing.any():
                continue
            known = rows[~missing, column]
            count = int(missing.sum())
            if len(known):
                rows[missing, column] = self._rng.choice(known, size=count)
            elif categories:
                rows[missing, column] = self._rng.integers(categories, size=count)
            else:
                rows[missing, column] = self._rng.uniform(size=count)
        return rows
