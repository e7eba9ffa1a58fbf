from __future__ import annotations

from typing import Any


def test_a_script(place: Any) -> None:
    """The shortest script runs and prints its best result."""
    out = place.script(
        """
        from milepost import tune

        def train(config):
            for step in range(3):
                tune.report({"loss": (config["x"] - 2) ** 2 / (step + 1)})

        grid = tune.Tuner(train, param_space={"x": tune.grid_search([1, 2, 3])}).fit()
        print("BEST", grid.get_best_result("loss", "min").config)
        """
    )
    assert "BEST {'x': 2}" in out
    (experiment,) = place.experiments()
    assert len([p for p in experiment.iterdir() if not p.name.startswith(".")]) == 3
