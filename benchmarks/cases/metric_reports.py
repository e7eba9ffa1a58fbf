"""One trial with many reports without checkpoints, all result files on: 5,000 (Ray: 1,000)."""

from __future__ import annotations

import time

from common import is_ray, run_config, start, storage, tell, tune_module

tune = tune_module()
REPORTS = 1_000 if is_ray() else 5_000


def train(config: dict[str, int]) -> None:
    tune.report({"loss": 1.0})
    began = time.perf_counter()
    for step in range(config["reports"]):
        tune.report({"loss": 1.0 / (step + 1), "accuracy": step / 5000})
    tune.report({"loss": 0.0, "took_s": time.perf_counter() - began})


def main() -> None:
    start(1)
    with storage() as path:
        tuner = tune.Tuner(train, param_space={"reports": REPORTS}, run_config=run_config(path))
        began = time.perf_counter()
        grid = tuner.fit()
        fit_s = time.perf_counter() - began
    per_report = grid[0].metrics["took_s"] / REPORTS
    tell(
        reports=REPORTS,
        report_s=per_report,
        for_5000_reports_s=5000 * per_report,
        fit_for_5000_s=5000 * fit_s / REPORTS,
    )


main()
