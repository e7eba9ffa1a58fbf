"""Checkpoints with a model of Keras."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any, Self

from milepost.train.framework_checkpoint import FrameworkCheckpoint
from milepost.train.tensorflow.library import keras

if TYPE_CHECKING:
    import tensorflow as tf


class TensorflowCheckpoint(FrameworkCheckpoint):
    """A checkpoint with a model of Keras. Mirrors ``ray.train.tensorflow``'s class.

    The model's file is ``model.keras``, unless the checkpoint's metadata names another; those of
    ``ReportCheckpointCallback`` can be read as well.
    """

    MODEL_FILENAME = "model.keras"
    #: Has the name of the model's file in the checkpoint's metadata.
    MODEL_FILENAME_KEY = "_model_filename"

    @classmethod
    def from_model(cls, keras_model: tf.keras.Model) -> Self:
        """Return a checkpoint with a model in it.

        Args:
            keras_model: the model.
        """
        return cls._named(cls.MODEL_FILENAME, keras_model.save)

    @classmethod
    def from_h5(cls, file_path: str | os.PathLike[str]) -> Self:
        """Return a checkpoint with a copy of a file that ``model.save("....h5")`` has written.

        Args:
            file_path: the file; it stays as it is.

        Raises:
            FileNotFoundError: there is none.
            ValueError: its name does not end in ``.h5``.
        """
        if not os.path.isfile(file_path):
            raise FileNotFoundError(f"TensorflowCheckpoint.from_h5: there is no file {file_path}.")
        name = os.path.basename(file_path)
        if not name.endswith(".h5"):
            raise ValueError(f"TensorflowCheckpoint.from_h5 takes a file *.h5, got {name}.")
        return cls._named(name, lambda path: shutil.copyfile(file_path, path))

    @classmethod
    def from_saved_model(cls, dir_path: str | os.PathLike[str]) -> Self:
        """Return a checkpoint with a copy of a directory in TensorFlow's SavedModel format.

        Keras 3 cannot load these as models; Keras 2 can.

        Args:
            dir_path: the directory; it stays as it is.

        Raises:
            FileNotFoundError: there is none.
        """
        if not os.path.isdir(dir_path):
            raise FileNotFoundError(
                f"TensorflowCheckpoint.from_saved_model: there is no directory {dir_path}."
            )
        name = os.path.basename(os.path.abspath(dir_path))
        return cls._named(name, lambda path: shutil.copytree(dir_path, path))

    @classmethod
    def _named(cls, name: str, save: Any) -> Self:
        """A checkpoint with one file or directory in it, and its name in the metadata."""
        return cls._made(
            lambda directory: save(os.path.join(directory, name)), {cls.MODEL_FILENAME_KEY: name}
        )

    def get_model(self) -> tf.keras.Model:
        """Return the model, loaded by what ``tf.keras`` is in this process.

        Raises:
            FileNotFoundError: the model's file is not there.
            ImportError: Keras is not installed.
        """
        name = self.get_metadata().get(self.MODEL_FILENAME_KEY, self.MODEL_FILENAME)
        with self._file(name) as path:
            return keras().models.load_model(path)
