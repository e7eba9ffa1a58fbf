"""Aim: a callback for the driver."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from milepost.integrations.tracker import (
    Ending,
    Tracked,
    TrackerCallback,
    is_under,
    number,
    require,
)
from milepost.integrations.wandb_setup import plain

log = logging.getLogger("milepost.integrations")

#: In the trial's directory: the id of its run.
NOTE: Final = ".aim_run"

_EXCLUDED: Final = ("config", "pid", "timestamp", "time_total_s", "training_iteration")


class AimLoggerCallback(TrackerCallback):
    """Logs each trial to a run of Aim. Mirrors ``ray.tune.logger.aim.AimLoggerCallback``.

    Metrics are named ``ray/tune/<flat key>``, with ``timesteps_total`` or else
    ``training_iteration`` as their step. The reported values ``context`` (a dict) and ``epoch``
    are handed on as such. A trial that goes on after a restore goes on in its run.

    Args:
        repo: path or address of the repository; the experiment's directory if None.
        experiment_name: of Aim; the experiment's name if None.
        metrics: flat keys of results that are logged; all numbers if None.
        **aim_run_kwargs: for ``aim.Run``.

    Raises:
        ImportError: Aim is not installed.
        ValueError: ``metrics`` is empty.
    """

    tracker: ClassVar[str] = "Aim"

    def __init__(
        self,
        repo: str | None = None,
        experiment_name: str | None = None,
        metrics: Sequence[str] | None = None,
        **aim_run_kwargs: Any,
    ) -> None:
        require("aim", "aim", type(self).__name__)
        if metrics is not None and not metrics:
            raise ValueError("metrics must name at least one metric; None logs all of them.")
        super().__init__()
        self._repo = repo
        self._experiment_name = experiment_name
        self._metrics = None if metrics is None else list(metrics)
        self._aim_run_kwargs = aim_run_kwargs

    # --- in the thread ----------------------------------------------------------------------

    def _begin(self, trial: Tracked, run_id: str | None) -> tuple[str, Any]:
        from aim import Run
        from aim.sdk.errors import MissingRunError

        # What the driver prints and uses is not the trial's.
        options: dict[str, Any] = {
            "repo": self._repo or trial.experiment_path,
            "experiment": self._experiment_name or trial.experiment,
            "capture_terminal_logs": False,
            "system_tracking_interval": None,
            **self._aim_run_kwargs,
        }
        # Aim chooses the id, and a driver that was killed has not told anybody.
        note = Path(trial.path, NOTE)
        if run_id is None and note.exists():
            run_id = note.read_text(encoding="utf-8").strip()
        run = None
        if run_id is not None:
            try:
                run = Run(run_hash=run_id, force_resume=True, **options)
            except MissingRunError:
                log.warning("Aim has run %s of %s no more: it gets a new one.", run_id, trial.name)
        if run is None:
            run = Run(**options)
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(run.hash, encoding="utf-8")
        run.name = trial.name
        run["trial_id"] = trial.trial_id
        run["trial_path"] = run["trial_log_dir"] = trial.path
        self._go_on(trial, run)
        return str(run.hash), run

    def _go_on(self, trial: Tracked, run: Any) -> None:
        # What was searched, as it is now: a scheduler may have changed the config.
        from milepost.api.nested import flatten_dict

        config = flatten_dict(trial.config)
        names = set(trial.evaluated) & set(config)
        run["hparams"] = plain(
            {**trial.evaluated, **{name: config[name] for name in sorted(names)}}
        )

    def _log(self, trial: Tracked, run: Any, result: dict[str, Any], at: float) -> None:
        step = result.get("timesteps_total") or result.get("training_iteration")
        context = {
            key.removeprefix("context/"): value
            for key, value in result.items()
            if key.startswith("context/")
        }
        if "node_ip" in result:
            run["trial_ip"] = result["node_ip"]
        for key, value in result.items():
            if is_under(key, (*_EXCLUDED, "context", "epoch")):
                continue
            if self._metrics is not None and key not in self._metrics:
                continue
            simple = number(value)
            if simple is None or not math.isfinite(simple):
                continue
            run.track(
                float(simple) if isinstance(simple, bool) else simple,
                name=f"ray/tune/{key}",
                step=step,
                epoch=result.get("epoch"),
                context=context or None,
            )

    def _end(self, trial: Tracked, run: Any, ending: Ending) -> None:
        run["trial_status"] = ending
        run.close()
