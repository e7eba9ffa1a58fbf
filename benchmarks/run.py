"""Run the cases under Milepost and under Ray, each in a fresh process, and print the ratios.

``python benchmarks/run.py [--only CASE ...] [--ray-python PATH]``; without a Python that has Ray,
Milepost's figures stand alone. Everything measured goes to ``benchmarks/results/`` as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

from common import MARK

HERE = Path(__file__).parent
CASES = (
    "import_time",
    "one_trial",
    "second_fit",
    "trivial_trials",
    "many_trials",
    "kill_to_report",
    "metric_reports",
    "checkpoint_reports",
    "checkpoint_burst",
    "sustained_checkpoints",
    "copy_only",
    "journal_append",
    "open_experiment",
    "restore",
    "simulated_asha",
    "pbt_exploits",
    "optuna_search",
    "train_run",
)
#: Cases of what Ray does not have in this form.
MILEPOST_ONLY = {"journal_append", "open_experiment", "restore", "simulated_asha"}
#: What is aimed at on two idle cores: (case, figure) -> (bound, whether it is an upper one).
AIMS = {
    ("import_time", "import_s"): (0.1, True),
    ("one_trial", "process_s"): (0.6, True),
    ("second_fit", "second_fit_s"): (0.15, True),
    ("trivial_trials", "for_200_trials_s"): (2.0, True),
    ("many_trials", "end_over_start"): (1.3, True),
    ("many_trials", "driver_bytes_per_trial"): (2000, True),
    ("kill_to_report", "kill_to_report_s"): (0.1, True),
    ("metric_reports", "for_5000_reports_s"): (1.0, True),
    ("checkpoint_reports", "4KiB_mkdtemp_s"): (0.001, True),
    ("checkpoint_reports", "4KiB_TemporaryDirectory_s"): (0.001, True),
    ("checkpoint_reports", "8x1MiB_mkdtemp_s"): (0.001, True),
    ("checkpoint_reports", "8x1MiB_TemporaryDirectory_s"): (0.001, True),
    ("checkpoint_reports", "512MiB_mkdtemp_s"): (0.001, True),
    ("checkpoint_reports", "512MiB_TemporaryDirectory_s"): (0.001, True),
    ("sustained_checkpoints", "checkpoints_per_s"): (200, False),
    ("copy_only", "report_over_cp"): (1.3, True),
    ("simulated_asha", "cpu_per_result_s"): (0.0001, True),
    ("pbt_exploits", "pbt_over_alone"): (1.5, True),
    ("pbt_exploits", "pbt_written_over_saved"): (1.05, True),
    ("optuna_search", "searcher_over_optimize"): (1.1, True),
    ("optuna_search", "on_top_per_trial_s"): (0.01, True),
    ("train_run", "report_512MiB_rank0_s"): (0.002, True),
    ("train_run", "report_512MiB_rank1_s"): (0.002, True),
    ("train_run", "report_1MiB_rank0_s"): (0.002, True),
    ("train_run", "report_1MiB_rank1_s"): (0.002, True),
    ("journal_append", "append_p50_s"): (50e-6, True),
    ("journal_append", "end_over_start"): (1.5, True),
    ("open_experiment", "open_grid_with_import_s"): (1.0, True),
    ("open_experiment", "open_result_s"): (1.0, True),
    ("restore", "restore_to_report_s"): (3.0, True),
}

#: Figures that say what was done, not how well.
CIRCUMSTANCES = {"trials", "kills", "reports", "records", "plain_MiB_per_s", "cp_s"}

Figures = dict[str, float]


def measure(case: str, library: str, python: str, timeout_s: float) -> Figures | str:
    """Return the figures of one case, or why there are none."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "RAY_DEDUP_LOGS": "0"}
    try:
        done = subprocess.run(
            [python, str(HERE / "cases" / f"{case}.py"), library],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,  # a case that fails is told with the others
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return f"took more than {timeout_s:.0f} s"
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(MARK):
            figures: Figures = json.loads(line.removeprefix(MARK))
            return figures
    said = [
        line for line in done.stderr.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)
    ]
    return f"failed: {said[-1] if said else f'exit code {done.returncode}'}"


def verdict(case: str, figure: str, value: float) -> str:
    """Return the aim for a figure and whether it is met; empty without an aim."""
    if (case, figure) not in AIMS:
        return ""
    bound, is_upper = AIMS[case, figure]
    is_met = value <= bound if is_upper else value >= bound
    return f"{'<' if is_upper else '>'} {bound:g}  {'met' if is_met else 'MISSED'}"


def show(case: str, ours: Figures | str, theirs: Figures | str | None) -> None:
    """Print a case: ours, Ray's, how many times better ours is, the aim."""
    print(case)
    for library, figures in (("milepost", ours), ("ray", theirs)):
        if isinstance(figures, str):
            print(f"  {library}: {figures}")
    if isinstance(ours, str):
        return
    for figure, value in ours.items():
        other = theirs.get(figure) if isinstance(theirs, dict) else None
        told = "" if other is None else f"{other:.5g}"
        print(
            f"  {figure:32} {value:12.5g} {told:>12} {gain(figure, value, other):>9}  "
            f"{verdict(case, figure, value)}"
        )


def gain(figure: str, ours: float, theirs: float | None) -> str:
    """Return how many times better ours is; empty where that cannot be said."""
    if theirs is None or figure in CIRCUMSTANCES or not ours or not theirs:
        return ""
    return f"{ours / theirs if figure.endswith('_per_s') else theirs / ours:.1f}x"


def main() -> int:
    """Run what was asked for; the exit status tells whether all of ours could be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, metavar="CASE")
    parser.add_argument("--ray-python", help="a Python interpreter that has Ray")
    parser.add_argument("--timeout-s", type=float, default=900.0, help="for one case (900)")
    options = parser.parse_args()
    measured: dict[str, dict[str, Figures | str]] = {}
    print(f"{'':34} {'milepost':>12} {'ray':>12} {'better by':>9}  aim")
    missed = failed = 0
    for case in options.only:
        ours = measure(case, "milepost", sys.executable, options.timeout_s)
        theirs = (
            measure(case, "ray", options.ray_python, options.timeout_s)
            if options.ray_python and case not in MILEPOST_ONLY
            else None
        )
        show(case, ours, theirs)
        measured[case] = {"milepost": ours} | ({"ray": theirs} if theirs is not None else {})
        if isinstance(ours, str):
            failed += 1
            continue
        missed += any(verdict(case, name, value).endswith("MISSED") for name, value in ours.items())
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    path = results / time.strftime("%Y-%m-%d_%H-%M-%S.json")
    machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
    path.write_text(json.dumps({"machine": machine, "cases": measured}, indent=2) + "\n")
    print(f"\n{failed} cases failed, {missed} missed an aim. All figures: {path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
