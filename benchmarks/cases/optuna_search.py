"""What searching with Optuna costs: 200 trivial trials beside ``study.optimize`` alone.

``searcher_over_optimize`` compares CPU times: of all calls of the searcher, made one after the
other, and of ``optimize`` with the same sampler, space and values. ``in_a_run_over_optimize`` is
the same where a run makes the calls, and other work empties the processor's caches in between. What
a trial costs on top is the wall time of ``fit``, less that of ``optimize``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from common import library, run_config, start, storage, tell, tune_module

tune = tune_module()
TRIALS = 200
TURNS = 5  # of which the fastest counts: others had to share the machine


def value(config: dict[str, float]) -> float:
    return (config["x"] - 0.3) ** 2 + abs(config["rate"] - 0.01) * config["layers"]


def train(config: dict[str, float]) -> None:
    tune.report({"loss": value(config)})


def space() -> dict[str, Any]:
    return {
        "x": tune.uniform(0, 1),
        "rate": tune.loguniform(1e-4, 1e-1),
        "layers": tune.randint(1, 9),
    }


def timed_search() -> Any:
    """An ``OptunaSearch`` that adds up the CPU time of its calls."""
    from importlib import import_module

    from optuna.samplers import TPESampler

    base = import_module(f"{library()}.tune.search.optuna").OptunaSearch

    class TimedSearch(base):  # type: ignore[misc]
        cpu_s = 0.0

    def timed(name: str) -> Callable[..., Any]:
        method = getattr(base, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            began = time.thread_time()
            try:
                return method(self, *args, **kwargs)
            finally:
                self.cpu_s += time.thread_time() - began

        return call

    for name in ("suggest", "on_trial_result", "on_trial_complete"):
        setattr(TimedSearch, name, timed(name))
    return TimedSearch(sampler=TPESampler(seed=1))


def called() -> float:
    """CPU seconds of the searcher when nothing else is done."""
    search = timed_search()
    search.set_search_properties("loss", "min", space())
    for number in range(TRIALS):
        config = search.suggest(str(number))
        result = {"loss": value(config), "training_iteration": 1}
        search.on_trial_result(str(number), result)
        search.on_trial_complete(str(number), result)
    return search.cpu_s


def searched(path: str) -> tuple[float, float]:
    """CPU seconds of the searcher in a run, and seconds of ``fit``."""
    search = timed_search()
    tuner = tune.Tuner(
        train,
        param_space=space(),
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=TRIALS, search_alg=search
        ),
        run_config=run_config(path),
    )
    began = time.perf_counter()
    grid = tuner.fit()
    took_s = time.perf_counter() - began
    assert len(grid) == TRIALS
    assert grid.num_errors == 0, grid.errors
    return search.cpu_s, took_s


def optimized() -> tuple[float, float]:
    """CPU seconds and seconds of ``study.optimize``."""
    import optuna

    def objective(trial: Any) -> float:
        config = {
            "x": trial.suggest_float("x", 0, 1),
            "rate": trial.suggest_float("rate", 1e-4, 1e-1, log=True),
            "layers": trial.suggest_int("layers", 1, 8),
        }
        trial.report(value(config), 1)
        return value(config)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    cpu, wall = time.thread_time(), time.perf_counter()
    study.optimize(objective, n_trials=TRIALS)
    return time.thread_time() - cpu, time.perf_counter() - wall


def main() -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    start(2)
    with storage() as path:
        calls, ours, alone = [], [], []
        for turn in range(TURNS):
            alone.append(optimized())
            calls.append(called())
            ours.append(searched(f"{path}/{turn}"))
    search_cpu_s, fit_s = (min(column) for column in zip(*ours, strict=True))
    optimize_cpu_s, optimize_s = (min(column) for column in zip(*alone, strict=True))
    tell(
        trials=TRIALS,
        searcher_cpu_per_trial_s=min(calls) / TRIALS,
        searcher_over_optimize=min(calls) / optimize_cpu_s,
        in_a_run_over_optimize=search_cpu_s / optimize_cpu_s,
        on_top_per_trial_s=(fit_s - optimize_s) / TRIALS,
    )


main()
