"""``get_context``: what a trial can ask about itself."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from milepost.worker import session

if TYPE_CHECKING:
    from milepost.api.preemption import PreemptionInfo
    from milepost.worker.storage_context import StorageContext


class TuneContext:
    """What a trial can ask about itself. Mirrors ``ray.tune.TuneContext``.

    Outside a trial every method warns once and returns None, or False.
    """

    def get_experiment_name(self) -> str | None:
        """The experiment's name, which is its directory's."""
        trial = self._trial("get_experiment_name")
        return None if trial is None else trial.storage.experiment_name

    def get_trial_name(self) -> str | None:
        """The trial's name, such as ``train_f408c_00000``."""
        trial = self._trial("get_trial_name")
        return None if trial is None else trial.trial_name

    def get_trial_id(self) -> str | None:
        """The trial's id, such as ``f408c_00000``."""
        trial = self._trial("get_trial_id")
        return None if trial is None else trial.trial_id

    def get_trial_resources(self) -> Any:
        """The trial's resources, a ``PlacementGroupFactory``."""
        from milepost.worker.protocol import load

        trial = self._trial("get_trial_resources")
        return None if trial is None or not trial.resources else load(trial.resources)

    def get_trial_dir(self) -> str | None:
        """The trial's directory: its working directory, and where its results and files are."""
        trial = self._trial("get_trial_dir")
        return None if trial is None else trial.trial_dir

    def get_storage(self) -> StorageContext | None:
        """Paths of the experiment and the trial in storage."""
        from milepost.worker.storage_context import StorageContext

        trial = self._trial("get_storage")
        if trial is None:
            return None
        return StorageContext(
            experiment_path=trial.storage.experiment_path,
            trial_path=trial.trial_dir,
            current_checkpoint_index=session.current_index(),
        )

    def should_checkpoint(self) -> bool:
        """Whether the trial should save now, because its run is about to end.

        It turns True while user code runs: after Ctrl-C, or SIGTERM or SIGUSR1 to the script that
        called ``fit()``. Report a checkpoint then; that report does not return, and the trial
        goes on from there when the experiment is restored. It costs some microseconds, so ask as
        often as you like. False outside a trial.

        Example:
            >>> def train(config):
            ...     for step in range(100_000):
            ...         ...
            ...         if step % 1000 == 0 or tune.get_context().should_checkpoint():
            ...             tune.report({"step": step}, checkpoint=save())
        """
        return self.get_preemption_info() is not None

    def get_preemption_info(self) -> PreemptionInfo | None:
        """Why the trial should save and stop, and until when; None while it may go on.

        As cheap as :meth:`should_checkpoint`. None outside a trial. Mirrors
        ``ray.train.get_preemption_info``, for one process.
        """
        dialog = session.current_dialog()
        if dialog is None:
            session.warn_outside("get_context().get_preemption_info")
            return None
        return dialog.poll()

    def get_metadata(self) -> dict[str, Any]:
        """Not part of Tune.

        Raises:
            DeprecationWarning: always, as Ray does.
        """
        raise DeprecationWarning(
            "get_metadata() has no meaning for tuning trials. Pass such values in the config, or "
            "with tune.with_parameters()."
        )

    def get_world_size(self) -> int | None:
        """Deprecated: a tuning trial is one process. None in a trial, 1 outside."""
        return self._of_group("get_world_size", 1)

    def get_world_rank(self) -> int | None:
        """Deprecated: a tuning trial is one process. None in a trial, 0 outside."""
        return self._of_group("get_world_rank", 0)

    def get_local_rank(self) -> int | None:
        """Deprecated: a tuning trial is one process. None in a trial, 0 outside."""
        return self._of_group("get_local_rank", 0)

    def get_local_world_size(self) -> int | None:
        """Deprecated: a tuning trial is one process. None in a trial, 0 outside."""
        return self._of_group("get_local_world_size", 0)

    def get_node_rank(self) -> int | None:
        """Deprecated: a tuning trial is one process. None in a trial, 0 outside."""
        return self._of_group("get_node_rank", 0)

    def _trial(self, name: str) -> Any:
        trial = session.current_trial()
        if trial is None:
            session.warn_outside(f"get_context().{name}")
        return trial

    def _of_group(self, name: str, outside: int) -> int | None:
        warnings.warn(
            f"tune.get_context().{name}() has no meaning for tuning trials, which are one process "
            "each; it returns None there.",
            DeprecationWarning,
            stacklevel=3,
        )
        return outside if session.current_trial() is None else None

    def __repr__(self) -> str:
        trial = session.current_trial()
        inside = f"trial {trial.trial_id}" if trial is not None else "outside a trial"
        return f"<TuneContext: {inside}, process {os.getpid()}>"


_context = TuneContext()


def get_context() -> TuneContext:
    """Return the context of this process. Mirrors ``ray.tune.get_context``."""
    return _context
