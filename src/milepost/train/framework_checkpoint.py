"""Checkpoints that know what is in them: the model of one framework."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from milepost.checkpoint.handle import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

    from milepost.tune.integration.reporting import Save


class FrameworkCheckpoint(Checkpoint):
    """A checkpoint with a model of one framework in it. Mirrors Ray's class of this name.

    What ``from_model`` and the like return lies in a temporary directory, which ``report`` takes
    away: read it before it is reported, or from the run's checkpoints afterwards.
    """

    #: The model's file.
    MODEL_FILENAME: ClassVar[str]

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> Self:
        """Return another checkpoint, such as that of a result, as one of this class.

        Args:
            checkpoint: any one; nothing is copied.
        """
        return cls(checkpoint.path, checkpoint._filesystem)

    @classmethod
    def _made(cls, save: Save, metadata: Mapping[str, Any] | None = None) -> Self:
        """Return a new checkpoint; ``save`` writes its files into a directory."""
        directory = tempfile.mkdtemp(prefix="milepost-model-")
        try:
            save(directory)
            checkpoint = cls.from_directory(directory, move=True)
            if metadata:
                checkpoint.set_metadata(dict(metadata))
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return checkpoint

    @contextlib.contextmanager
    def _file(self, name: str) -> Iterator[str]:
        """Give the path of one of its files (or directories) for a while.

        Raises:
            FileNotFoundError: there is none; the error has the files that there are.
        """
        with self.as_directory() as directory:
            path = os.path.join(directory, name)
            if not os.path.exists(path):
                there = sorted(each for each in os.listdir(directory) if not each.startswith("."))
                raise FileNotFoundError(
                    f"{self!r} has no {name}, which {type(self).__name__} reads. It has: "
                    f"{', '.join(there) or 'no files'}."
                )
            yield path
