"""A Gaussian process bandit whose rewards change with time: what PB2 chooses configs by.

See Parker-Holder et al., "Provably Efficient Online Hyperparameter Optimization with
Population-Based Bandits", and Bogunovic et al., "Time-Varying Gaussian Process Bandit
Optimization". NumPy and SciPy are imported when they are first used.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

#: How many of the newest observations count.
MOST: Final = 1000

_STARTS: Final = 10
_NOISE: Final = 1e-2
_FORGETTING: Final = (0.0, 0.05, 0.2)
_LENGTHS: Final = (0.1, 0.3, 1.0)


class Observation(NamedTuple):
    """What a trial has gained in a stretch of time.

    Attributes:
        time: at its end.
        before: the score at its beginning.
        values: the hyper-parameters.
        gain: change of the score per unit of time.
    """

    time: float
    before: float
    values: tuple[float, ...]
    gain: float


def choose(
    observations: Sequence[Observation],
    pending: Sequence[tuple[float, ...]],
    bounds: Sequence[tuple[float, float]],
    time: float,
    score: float,
    rng: Any,
) -> tuple[float, ...] | None:
    """Return the hyper-parameters that promise most: the highest upper confidence bound.

    Args:
        observations: the newest 1000 count.
        pending: what was chosen for other trials, and is not known yet; counts as if it had brought
            what is expected.
        bounds: of each hyper-parameter.
        time: when they will be used.
        score: of the trial that goes on with them.
        rng: a NumPy ``RandomState``.

    Returns:
        The values; None when nothing is known.
    """
    import numpy as np
    from scipy.optimize import minimize

    known = list(observations)[-MOST:]
    if not known:
        return None
    low = np.array([bound[0] for bound in bounds], float)
    width = np.array([max(bound[1] - bound[0], 1e-12) for bound in bounds], float)
    times = np.array([seen.time for seen in known] + [time])
    scores = np.array([seen.before for seen in known] + [score])
    rounds = _scaled(times) * len(np.unique(times))
    levels = _scaled(scores)
    points = (np.array([seen.values for seen in known], float) - low) / width
    features = np.column_stack([rounds[:-1], levels[:-1], points])
    now, level = rounds[-1], levels[-1]
    gains = _standardised(np.array([seen.gain for seen in known], float))

    model = _Model(features, gains)
    if pending:
        others = (np.array(pending, float) - low) / width
        expected = np.column_stack([np.full(len(others), now), np.full(len(others), level), others])
        model = model.given(expected)
    beta = math.sqrt(0.2 + max(0.0, math.log(0.4 * max(len(known), 1))))

    def missed(point: Any) -> float:
        mean, deviation = model.predict(np.concatenate([[now, level], point])[None, :])
        return -float(mean[0] + beta * deviation[0])

    best, least = None, math.inf
    for start in rng.uniform(size=(_STARTS, len(bounds))):
        found = minimize(missed, start, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(bounds))
        if best is None or found.fun < least:
            best, least = np.clip(found.x, 0.0, 1.0), found.fun
    return tuple(float(value) for value in low + best * width)


class _Model:
    """A Gaussian process over (round, score, hyper-parameters)."""

    def __init__(self, features: Any, gains: Any, shape: tuple[float, float] | None = None) -> None:
        self._features, self._gains = features, gains
        self._length, self._forgetting = shape or self._likeliest()
        self._factor, self._weights = self._fit(self._length, self._forgetting)

    def given(self, features: Any) -> _Model:
        """The model if these points had brought what it expects of them."""
        import numpy as np

        mean, _ = self.predict(features)
        return _Model(
            np.concatenate([self._features, features]),
            np.concatenate([self._gains, mean]),
            (self._length, self._forgetting),
        )

    def predict(self, features: Any) -> tuple[Any, Any]:
        """Mean and standard deviation at some points."""
        import numpy as np
        from scipy.linalg import cho_solve

        cross = _kernel(features, self._features, self._length, self._forgetting)
        mean = cross @ self._weights
        variance = 1.0 - np.einsum("ij,ji->i", cross, cho_solve(self._factor, cross.T))
        return mean, np.sqrt(np.clip(variance, 1e-12, None))

    def _fit(self, length: float, forgetting: float) -> tuple[Any, Any]:
        import numpy as np
        from scipy.linalg import cho_factor, cho_solve

        kernel = _kernel(self._features, self._features, length, forgetting)
        factor = cho_factor(kernel + _NOISE * np.eye(len(kernel)), lower=True)
        return factor, cho_solve(factor, self._gains)

    def _likeliest(self) -> tuple[float, float]:
        """The length scale and forgetting under which the gains are most likely."""
        return max(itertools.product(_LENGTHS, _FORGETTING), key=self._likelihood)

    def _likelihood(self, shape: tuple[float, float]) -> float:
        import numpy as np

        factor, weights = self._fit(*shape)
        return float(-0.5 * self._gains @ weights - np.log(np.diag(factor[0])).sum())


def _kernel(one: Any, other: Any, length: float, forgetting: float) -> Any:
    """How alike gains are: less, the more rounds lie between, and the further points are apart."""
    import numpy as np

    apart = np.abs(one[:, None, 0] - other[None, :, 0])
    square = ((one[:, None, 1:] - other[None, :, 1:]) ** 2).sum(-1)
    return (1 - forgetting) ** (apart / 2) * np.exp(-square / (2 * length**2))


def _scaled(values: Any) -> Any:
    """Values from 0 to 1; all 0 when they are equal."""
    least, most = values.min(), values.max()
    return (values - least) / (most - least) if most > least else values * 0.0


def _standardised(values: Any) -> Any:
    """Values with mean 0 and deviation 1; all 0 when they are equal."""
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > 0 else values * 0.0
