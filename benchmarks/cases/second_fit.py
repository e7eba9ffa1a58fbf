"""A further fit in a process that has done one already."""

from __future__ import annotations

import time

from common import is_ray, p50, run_config, start, storage, tell, tune_module

tune = tune_module()


def train(config: dict[str, object]) -> None:
    tune.report({"loss": 1.0})


def main() -> None:
    start()
    seconds = []
    with storage() as path:
        for _ in range(4 if is_ray() else 10):
            tuner = tune.Tuner(train, run_config=run_config(path, name=f"run-{len(seconds)}"))
            began = time.perf_counter()
            tuner.fit()
            seconds.append(time.perf_counter() - began)
    tell(second_fit_s=p50(seconds[1:]))


main()
