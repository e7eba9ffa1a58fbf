"""What ``docs/searchers.md`` shows works as it is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from milepost import tune
from milepost.tune.search.flat_space import FlatSpace

GUIDE = Path(__file__).parents[3] / "docs" / "searchers.md"


def fence(containing: str) -> str:
    """The one piece of Python in the guide with this text."""
    found = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (code,) = [code for code in found if containing in code]
    return str(code)


def train(config: dict[str, Any]) -> None:
    tune.report({"loss": config["lr"] * config["layers"]})


@pytest.mark.timeout(240)
@pytest.mark.parametrize("containing", ["grid_search", "OptunaSearch(seed=42)"])
def test_runs(containing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both make 20 trials, each with values of the space."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    namespace: dict[str, Any] = {"tune": tune, "train": train}
    exec(fence(containing), namespace)
    results = namespace["tuner"].fit()
    assert len(results) == 20
    for result in results:
        assert 1e-5 <= result.config["lr"] <= 1e-1
        assert result.config["layers"] in range(1, 5)
    if containing == "grid_search":
        assert sorted(r.config["optimizer"] for r in results) == ["adam"] * 10 + ["sgd"] * 10


def test_optunas_own_terms() -> None:
    """The function of the guide defines the space, with a variable that depends on another."""
    from milepost.tune.search.optuna import OptunaSearch

    namespace: dict[str, Any] = {"OptunaSearch": OptunaSearch}
    exec(fence("suggest_categorical"), namespace)
    searcher = namespace["searcher"]
    configs = [searcher.suggest(str(i)) for i in range(10)]
    assert all(c["epochs"] == 10 for c in configs)
    assert all(("momentum" in c) == (c["optimizer"] == "sgd") for c in configs)
    searcher.on_trial_complete("0", {"loss": 1.0, "seconds": 2.0})
    assert searcher.study.best_trials[0].values == [1.0, 2.0]


MADE: dict[str, Any] = {
    "uniform": tune.uniform(0, 1),
    "loguniform": tune.loguniform(0.1, 1),
    "randn": tune.randn(0, 1),
    "quniform": tune.quniform(0, 1, 0.5),
    "randint": tune.randint(0, 5),
    "lograndint": tune.lograndint(1, 5),
    "qrandint": tune.qrandint(0, 6, 2),
    "qloguniform": tune.qloguniform(0.5, 2, 0.5),
    "qlograndint": tune.qlograndint(2, 8, 2),
    "choice": tune.choice([1, 2]),
    "variables inside a choice": tune.choice([{"a": tune.uniform(0, 1)}, {"b": 2}]),
    "grid_search": tune.grid_search([1, 2]),
}


def table() -> list[Any]:
    """Each cell of the table of what libraries search: searcher, variable, what it says."""
    lines = [line for line in GUIDE.read_text().splitlines() if line.startswith("|")]
    first = next(i for i, line in enumerate(lines) if "| Optuna |" in line)
    names = ["optuna", "hyperopt", "bayesopt", "nevergrad", "bohb", "ax"]
    cells = []
    for line in lines[first + 2 :]:
        variables, *said = [cell.strip() for cell in line.strip("|").split("|")]
        for position, variable in enumerate(variables.replace("`", "").split(", ")):
            for name, cell in zip(names, said, strict=True):
                # where a cell says two things, each is about one of the variables
                choices = cell.split(", ") if "step dropped, error" in cell else [cell]
                cells.append((name, variable, choices[min(position, len(choices) - 1)]))
    return cells


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "variable", "says"), table())
def test_what_can_be_searched(
    name: str, variable: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each cell of the table is true."""
    module = {"bayesopt": "bayes_opt", "bohb": "ConfigSpace"}.get(name, name)
    pytest.importorskip(module)
    searcher = tune.create_searcher(name)
    space = {"v": MADE[variable], "other": tune.uniform(0, 1)}
    if says == "error":
        with pytest.raises(ValueError, match="cannot search 'v'"):
            searcher.set_search_properties("loss", "min", space)
        return
    with caplog.at_level("WARNING", logger="milepost.tune"):
        searcher.set_search_properties("loss", "min", space)
    assert ("cannot round 'v'" in caplog.text) == ("step dropped" in says)
    suggested = searcher.suggest("t")["v"]
    assert (
        next(iter(FlatSpace({"v": suggested}, "", keeps_constants=False).dimensions), None) is None
    )
