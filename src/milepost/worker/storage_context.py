"""Paths of a trial in storage, under the names of Ray's ``StorageContext``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from milepost.api.sync_config import SyncConfig
from milepost.storage.filesystem import local_filesystem
from milepost.worker.captures import directory_name


@dataclass(frozen=True)
class StorageContext:
    """Where an experiment and one of its trials are.

    Mirrors what scripts read of Ray's class. Files that a trial writes into its directory are in
    storage at once, so the staging and working directories of Ray are the trial's own here.

    Attributes:
        experiment_path: the experiment directory, absolute.
        trial_path: the trial's directory, absolute.
        current_checkpoint_index: number of the trial's newest checkpoint; -1 before the first.
    """

    experiment_path: str
    trial_path: str
    current_checkpoint_index: int = -1

    @property
    def storage_filesystem(self) -> Any:
        """The file system: pyarrow's where pyarrow is installed."""
        return local_filesystem()

    @property
    def storage_fs_path(self) -> str:
        """The directory that holds the experiment."""
        return os.path.dirname(self.experiment_path)

    @property
    def experiment_dir_name(self) -> str:
        """Name of the experiment directory."""
        return os.path.basename(self.experiment_path)

    @property
    def trial_dir_name(self) -> str:
        """Path of the trial's directory below the experiment's."""
        return os.path.relpath(self.trial_path, self.experiment_path)

    @property
    def experiment_fs_path(self) -> str:
        """Same as :attr:`experiment_path`."""
        return self.experiment_path

    @property
    def trial_fs_path(self) -> str:
        """Same as :attr:`trial_path`."""
        return self.trial_path

    @property
    def trial_working_directory(self) -> str:
        """The trial's working directory, which is its directory in storage."""
        return self.trial_path

    @property
    def experiment_driver_staging_path(self) -> str:
        """Same as :attr:`experiment_path`: nothing is staged there."""
        return self.experiment_path

    @property
    def trial_driver_staging_path(self) -> str:
        """Same as :attr:`trial_path`: nothing is staged there."""
        return self.trial_path

    @property
    def checkpoint_dir_name(self) -> str:
        """Name of the newest checkpoint's directory."""
        return directory_name(max(0, self.current_checkpoint_index))

    @property
    def checkpoint_fs_path(self) -> str:
        """Path of the newest checkpoint's directory."""
        return os.path.join(self.trial_path, self.checkpoint_dir_name)

    def build_checkpoint_path_from_name(self, checkpoint_name: str) -> str:
        """Return the path of a directory of that name in the trial's.

        It is where what ``train.report`` is not to copy can be written: with ``NO_UPLOAD``, or by a
        ``checkpoint_upload_fn``.
        """
        return os.path.join(self.trial_path, checkpoint_name)

    def extract_checkpoint_dir_name_from_path(self, checkpoint_path: str) -> str:
        """Return what :meth:`build_checkpoint_path_from_name` has made a path of.

        Raises:
            ValueError: the path is not below the trial's directory.
        """
        prefix = self.trial_path + os.sep
        if not checkpoint_path.startswith(prefix):
            raise ValueError(f"{checkpoint_path} is not in the directory {self.trial_path}.")
        return checkpoint_path.removeprefix(prefix)

    @property
    def sync_config(self) -> SyncConfig:
        """Sync settings; on local storage there is nothing to sync."""
        return SyncConfig()

    @property
    def syncer(self) -> None:
        """None: nothing is synced."""
        return

    def persist_artifacts(self, force: bool = False) -> None:
        """Do nothing: a trial's files are in storage already."""

    def persist_current_checkpoint(self, checkpoint: Any) -> None:
        """Not for scripts: a checkpoint must be numbered, verified and recorded.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{checkpoint!r} cannot be persisted by hand. Pass it to tune.report(metrics, "
            "checkpoint=checkpoint)."
        )
