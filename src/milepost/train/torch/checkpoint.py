"""Checkpoints with a model of PyTorch."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from milepost.train.framework_checkpoint import FrameworkCheckpoint
from milepost.train.torch.library import pytorch

if TYPE_CHECKING:
    import torch

#: What ``DistributedDataParallel`` puts before the names of a model's state.
_WRAPPER = "module."


class TorchCheckpoint(FrameworkCheckpoint):
    """A checkpoint with a model in ``model.pt``. Mirrors ``ray.train.torch.TorchCheckpoint``.

    Prefer :meth:`from_state_dict`: its file has numbers only. That of :meth:`from_model` is a
    pickle, which runs code when it is loaded, and only where the model's classes are the same.
    For optimizers, sharded models and a changing number of workers there is ``save_state``.
    """

    MODEL_FILENAME = "model.pt"

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Any]) -> Self:
        """Return a checkpoint with a model's state in it.

        Args:
            state_dict: of a module, also a wrapped one: the prefix ``module.`` is taken off.

        Raises:
            ImportError: PyTorch is not installed.
        """
        plain = {name.removeprefix(_WRAPPER): value for name, value in state_dict.items()}
        return cls._saved(plain)

    @classmethod
    def from_model(cls, model: torch.nn.Module) -> Self:
        """Return a checkpoint with a whole model in it, pickled.

        Args:
            model: a module; one in ``DistributedDataParallel`` is taken out of it.

        Raises:
            ImportError: PyTorch is not installed.
        """
        torch = pytorch()
        if isinstance(model, torch.nn.parallel.DistributedDataParallel):
            model = model.module  # the wrapper could be loaded in a process group only
        return cls._saved(model)

    @classmethod
    def _saved(cls, value: Any) -> Self:
        torch = pytorch()
        return cls._made(lambda path: torch.save(value, os.path.join(path, cls.MODEL_FILENAME)))

    def get_model(
        self, model: torch.nn.Module | None = None, *, weights_only: bool = True
    ) -> torch.nn.Module:
        """Return the model, on the CPU.

        Args:
            model: a module that a state dict is loaded into; it is returned. Not needed for a
                checkpoint of :meth:`from_model`.
            weights_only: an extension. With True (the default) nothing is unpickled but tensors
                and plain values, so that no code of the checkpoint's maker runs. A checkpoint of
                :meth:`from_model` needs False; say that of files whose origin you trust.

        Raises:
            pickle.UnpicklingError: there is more in it than weights, and ``weights_only`` is True.
            ValueError: it has a state dict and no ``model`` is given, or it has neither.
            RuntimeError: the state is that of another model.
            FileNotFoundError: there is no ``model.pt``.
            ImportError: PyTorch is not installed.
        """
        found = self._loaded(weights_only)
        if isinstance(found, pytorch().nn.Module):
            if model is not None:
                warnings.warn(
                    f"{self!r} has a whole model; the one given to get_model() is not used.",
                    stacklevel=2,
                )
            return found
        if not isinstance(found, Mapping):
            raise ValueError(
                f"{self.MODEL_FILENAME} of {self!r} has neither a model nor its state, but "
                f"{type(found).__name__}."
            )
        if model is None:
            raise ValueError(
                f"{self!r} has a model's state. Pass the model that it is to be loaded into: "
                "get_model(model)."
            )
        model.load_state_dict(found)
        return model

    def _loaded(self, weights_only: bool) -> Any:
        torch = pytorch()
        with self._file(self.MODEL_FILENAME) as path:
            try:
                return torch.load(path, map_location="cpu", weights_only=weights_only)
            except pickle.UnpicklingError as error:
                if not weights_only:
                    raise
                raise pickle.UnpicklingError(
                    f"{self.MODEL_FILENAME} of {self!r} has more in it than weights, such as a "
                    "whole model, and loading that runs code. If you trust where it comes from: "
                    "get_model(weights_only=False). Checkpoints of from_state_dict() do not need "
                    f"that. PyTorch says: {str(error).splitlines()[0]}"
                ) from error
