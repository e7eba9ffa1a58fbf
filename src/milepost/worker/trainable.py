"""``Trainable``: the class that users subclass to train step by step."""

from __future__ import annotations

import copy
import logging
import os
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from milepost.errors import TuneError
from milepost.worker import dict_checkpoint, node
from milepost.worker.protocol import Counters
from milepost.worker.row import RowBuilder

if TYPE_CHECKING:
    from milepost.api.resources import PlacementGroupFactory
    from milepost.checkpoint.handle import Checkpoint

logger = logging.getLogger("milepost.worker")

SETUP_WARN_S = 10.0
EXPORT_FORMATS = ("checkpoint", "model", "onnx", "h5")
_OUTSIDE = "default"  # what Ray calls a trial that is none


@dataclass(frozen=True)
class TrainingResult:
    """What :meth:`Trainable.save` returns: a checkpoint and the metrics it belongs to."""

    checkpoint: Checkpoint | None
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where and as what a trainable runs: given by the runner of a trial."""

    trial_id: str
    trial_name: str
    logdir: str
    resources: Any
    counters: Counters


_place: Place | None = None


def construct(cls: type[Trainable], config: dict[str, Any], place: Place) -> Trainable:
    """Make an object of a user's class as the trainable of a trial; runs its ``setup``."""
    global _place
    _place = place
    try:
        return cls(config)
    finally:
        _place = None


class Trainable:
    """Training as an object: ``setup``, ``step``, ``save_checkpoint``, ``load_checkpoint``.

    Mirrors ``ray.tune.Trainable``. Subclass it and override those four, and ``cleanup`` or
    ``reset_config`` where needed. Under ``Tuner`` each trial has one object in a process of its
    own; without it, objects work by themselves: ``train()``, ``save()``, ``restore()``.

    Args:
        config: hyper-parameters; :attr:`config` is this dict, ``setup`` gets a deep copy.
        storage: where files go, an object with ``trial_working_directory`` as from
            ``get_context().get_storage()``; default a new directory in ``~/milepost_results``.

    Example:
        >>> class Count(Trainable):
        ...     def setup(self, config):
        ...         self.n = 0
        ...     def step(self):
        ...         self.n += 1
        ...         return {"n": self.n}
        >>> Count().train()["n"]
        1
    """

    config: dict[str, Any]

    def __init__(self, config: dict[str, Any] | None = None, storage: Any = None) -> None:
        global _place
        place, _place = _place, None  # another object made in setup() is on its own
        self.config = {} if config is None else config
        self._place = place
        self._storage = storage
        self._own_logdir: str | None = None
        self._stopped = False
        self._rows = RowBuilder(
            place.trial_id if place else _OUTSIDE, place.counters if place else Counters()
        )
        started = time.monotonic()
        self.setup(copy.deepcopy(self.config))
        took_s = time.monotonic() - started
        if took_s > SETUP_WARN_S:
            logger.info(
                "%s.setup() took %.1f s. If the same is set up for every trial, reuse_actors=True "
                "and reset_config() save that time.",
                type(self).__name__,
                took_s,
            )

    # --- what subclasses override -----------------------------------------------------------

    def setup(self, config: dict[str, Any]) -> None:
        """Prepare for training; called once, before the first step or a restore.

        Args:
            config: a deep copy of the hyper-parameters.
        """

    def step(self) -> dict[str, Any]:
        """Train for one iteration and return its metrics.

        A true ``done`` ends the trial, a true ``should_checkpoint`` asks for a checkpoint.
        """
        raise NotImplementedError(f"{type(self).__name__} must define step()")

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | str | None:
        """Save the state.

        Args:
            checkpoint_dir: an empty directory to write into.

        Returns:
            A dict, which is pickled into the directory; or ``checkpoint_dir``, or None, when the
            files were written there.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define save_checkpoint() for checkpoints to be taken. "
            "None are with a scheduler that needs no checkpoints, CheckpointConfig("
            "checkpoint_at_end=False) and no checkpoint_frequency."
        )

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from what :meth:`save_checkpoint` saved.

        Args:
            checkpoint: the dict if it returned one, else the path of the directory, which must
                not be changed.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define load_checkpoint() to go on from a checkpoint"
        )

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become a trainable of another config, for ``reuse_actors=True``.

        Returns:
            Whether that worked; the default, False, means that it is not supported.
        """
        return False

    def cleanup(self) -> None:
        """Release what ``setup`` acquired; called when the trial ends."""

    def log_result(self, result: dict[str, Any]) -> None:
        """Look at a finished result, before it is sent; override to log it yourself."""

    @classmethod
    def default_resource_request(
        cls, config: dict[str, Any]
    ) -> PlacementGroupFactory | dict[str, float] | None:
        """Return what a trial of this config needs, or None to leave it to ``with_resources``."""
        return None

    @classmethod
    def resource_help(cls, config: dict[str, Any]) -> str:
        """Return advice on how to set the resources of this class."""
        return ""

    def _export_model(self, export_formats: list[str], export_dir: str) -> dict[str, str]:
        """Write the model in these formats; return format -> path. Override to support it."""
        return {}

    # --- what runs them ---------------------------------------------------------------------

    def train(self) -> dict[str, Any]:
        """Run one step and return its row, with the fields that every row has.

        Raises:
            AssertionError: ``step()`` returned no dict.
        """
        started = time.monotonic()
        result = self.step()
        took_s = time.monotonic() - started
        if not isinstance(result, dict):
            raise AssertionError(
                f"step() needs to return a dict. {type(self).__name__}.step() returned "
                f"{type(result).__name__}."
            )
        row = self._rows.next(result, took_s, overwrite_timestamp=False)
        row["config"] = self.config
        if self.config.get("log_sys_usage"):
            from milepost.worker.usage import usage

            row["perf"] = usage()
        self.log_result(row)
        return row

    def train_buffered(
        self, buffer_time_s: float, max_buffer_length: int = 1000
    ) -> list[dict[str, Any]]:
        """Run steps until that many seconds have passed, one is done or wants a checkpoint."""
        rows: list[dict[str, Any]] = []
        started = time.monotonic()
        while len(rows) < max_buffer_length:
            row = self.train()
            rows.append(row)
            if row.get("done") or row.get("should_checkpoint"):
                break
            if time.monotonic() - started >= buffer_time_s:
                break
        return rows

    def save(self, checkpoint_dir: str | None = None) -> TrainingResult:
        """Save a checkpoint into a directory and keep it there.

        Args:
            checkpoint_dir: created if need be; default a new temporary directory.

        Returns:
            The checkpoint, with the metrics of the last result.

        Raises:
            ValueError: ``save_checkpoint`` returned another path than it was given.
        """
        from milepost.checkpoint.handle import Checkpoint

        if checkpoint_dir is None:
            checkpoint_dir = tempfile.mkdtemp(prefix="checkpoint_tmp_")
        else:
            os.makedirs(checkpoint_dir, exist_ok=True)
        self.save_into(checkpoint_dir)
        return TrainingResult(Checkpoint.from_directory(checkpoint_dir), dict(self._rows.last))

    def restore(self, checkpoint_path: str | Checkpoint | TrainingResult) -> None:
        """Go on from a checkpoint: its counters, and whatever ``load_checkpoint`` makes of it.

        Counters come from the metrics of a :class:`TrainingResult`, else from the manifest of a
        committed checkpoint, else they start at 0.

        Raises:
            ValueError: it does not exist.
        """
        metrics: dict[str, Any] | None = None
        checkpoint = checkpoint_path
        if isinstance(checkpoint, TrainingResult):
            metrics, checkpoint = checkpoint.metrics, checkpoint.checkpoint  # type: ignore[assignment]
        path = os.fspath(getattr(checkpoint, "path", checkpoint))  # type: ignore[arg-type]
        self.load_from(path)
        if metrics is None:
            metrics = dict_checkpoint.committed_metrics(path)
        self._rows.restart(
            Counters(
                metrics.get("training_iteration") or 0,
                metrics.get("time_total_s") or 0.0,
                metrics.get("timesteps_total"),
                metrics.get("episodes_total"),
            )
        )

    def save_into(self, directory: str) -> None:
        """Have ``save_checkpoint`` fill a directory, and check and write what it returns."""
        dict_checkpoint.write(self.save_checkpoint(directory), directory, type(self).__name__)

    def require_saving(self) -> None:
        """Make sure that there is a ``save_checkpoint`` for a pause.

        Raises:
            NotImplementedError: there is none.
        """
        if getattr(self.save_checkpoint, "__func__", None) is Trainable.save_checkpoint:
            raise NotImplementedError(
                "The scheduler pauses this trial, which is to go on from a checkpoint later: "
                f"{type(self).__name__} must define save_checkpoint() and load_checkpoint() for "
                "that. Or use a scheduler that pauses no trials, such as ASHAScheduler."
            )

    def load_from(self, path: str) -> None:
        """Hand a checkpoint directory to ``load_checkpoint``, counters aside.

        Raises:
            ValueError: it does not exist.
        """
        from milepost.checkpoint.handle import Checkpoint

        if not os.path.isdir(path):
            raise ValueError(
                f"Could not recover from checkpoint as it does not exist on storage anymore: {path}"
            )
        with Checkpoint.from_directory(path).as_directory() as directory:
            self.load_checkpoint(dict_checkpoint.read(directory))

    def reset(self, new_config: dict[str, Any], storage: Any = None) -> bool:
        """Become the trainable of another trial; see :meth:`reset_config`.

        Returns:
            Whether ``reset_config`` said that it worked; then all counters are zero.
        """
        self.config = new_config
        if storage is not None:
            self._storage = storage
        if not self.reset_config(new_config):
            return False
        self._rows.restart(Counters())
        return True

    def reset_for(self, place: Place, new_config: dict[str, Any]) -> bool:
        """Like :meth:`reset`, for another trial of the same run."""
        self._place = place
        self._rows.trial_id = place.trial_id
        if not self.reset(new_config):
            return False
        self._rows.restart(place.counters)
        return True

    def stop(self) -> None:
        """End training: runs ``cleanup``, once."""
        if not self._stopped:
            self._stopped = True
            self.cleanup()

    def export_model(
        self, export_formats: str | list[str], export_dir: str | None = None
    ) -> dict[str, str]:
        """Export the model.

        Args:
            export_formats: of ``checkpoint``, ``model``, ``onnx``, ``h5``.
            export_dir: where to; default :attr:`logdir`.

        Returns:
            Format -> path, as ``_export_model`` says.

        Raises:
            TuneError: a format is none of these.
        """
        formats = [export_formats] if isinstance(export_formats, str) else list(export_formats)
        for name in formats:
            if name.strip().lower() not in EXPORT_FORMATS:
                raise TuneError(
                    f"Unsupported import/export format: {name!r}. Supported are "
                    f"{', '.join(EXPORT_FORMATS)}."
                )
        return self._export_model(
            [name.strip().lower() for name in formats], export_dir or self.logdir
        )

    # --- what it knows of itself ------------------------------------------------------------

    @property
    def logdir(self) -> str:
        """Directory of the trial; without Tune, a new one in ``~/milepost_results``."""
        if self._place is not None:
            return self._place.logdir
        if self._storage is not None:
            return str(self._storage.trial_working_directory)
        if self._own_logdir is None:
            parent = os.path.expanduser("~/milepost_results")
            os.makedirs(parent, exist_ok=True)
            self._own_logdir = tempfile.mkdtemp(
                prefix=f"{type(self).__name__}_{datetime.now():%Y-%m-%d_%H-%M-%S}", dir=parent
            )
        return self._own_logdir

    @property
    def trial_name(self) -> str:
        """The trial's name; ``"default"`` without Tune."""
        return self._place.trial_name if self._place else _OUTSIDE

    @property
    def trial_id(self) -> str:
        """The trial's id; ``"default"`` without Tune."""
        return self._place.trial_id if self._place else _OUTSIDE

    @property
    def trial_resources(self) -> Any:
        """The trial's ``PlacementGroupFactory``; ``"default"`` without Tune."""
        return self._place.resources if self._place else _OUTSIDE

    @property
    def iteration(self) -> int:
        """How many steps were trained, over all restores."""
        return self._rows.iteration

    @property
    def training_iteration(self) -> int:
        """Same as :attr:`iteration`."""
        return self._rows.iteration

    def get_config(self) -> dict[str, Any]:
        """Return the configuration."""
        return self.config

    def get_state(self) -> dict[str, Any]:
        """Return the counters and the last result."""
        import milepost

        rows = self._rows
        return {
            "iteration": rows.iteration,
            "timesteps_total": rows.timesteps_total,
            "time_total": rows.time_total_s,
            "episodes_total": rows.episodes_total,
            "last_result": rows.last,
            "milepost_version": getattr(milepost, "__version__", None),
        }

    def get_current_ip_pid(self) -> tuple[str, int]:
        """Return this machine's address and this process's id."""
        return node.ip(), os.getpid()

    def get_auto_filled_metrics(
        self,
        now: datetime | None = None,
        time_this_iter: float | None = None,
        timestamp: int | None = None,
        debug_metrics_only: bool = False,
    ) -> dict[str, Any]:
        """Return the fields that are added to every result.

        Args:
            now: the time they name; default now.
            time_this_iter: value of ``time_this_iter_s``; default: not in the result.
            timestamp: seconds since the epoch; default from ``now``.
            debug_metrics_only: only those that say which trial this is.
        """
        fields = self._rows.filled(time_this_iter, timestamp=timestamp, now=now)
        fields["config"] = self.config
        if time_this_iter is None:
            del fields["time_this_iter_s"]
        if debug_metrics_only:
            debug = ("trial_id", "date", "timestamp", "pid", "hostname", "node_ip", "config")
            fields = {name: fields[name] for name in debug}
        return fields
