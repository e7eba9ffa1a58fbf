"""Runs a ``Trainable`` class: set up, restore, then step after step."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from typing import Any, Literal

from milepost.errors import ChannelClosedError
from milepost.worker import metrics as checks
from milepost.worker import unfinished
from milepost.worker.captures import Captures
from milepost.worker.dialog import Dialog
from milepost.worker.failure import failed, text
from milepost.worker.protocol import (
    Failed,
    Finished,
    Reported,
    RunTrial,
    Saved,
    dump,
    load,
)
from milepost.worker.trainable import Place, Trainable, construct

logger = logging.getLogger("milepost.worker")


class ClassRunner:
    """Keeps one object of a user's class from trial to trial.

    Args:
        cls: the class.
    """

    def __init__(self, cls: type[Trainable]) -> None:
        self._cls = cls
        self._trainable: Trainable | None = None

    def run(
        self,
        trial: RunTrial,
        config: dict[str, Any],
        dialog: Dialog,
        started: Callable[[], None],
    ) -> Finished | Failed:
        """Train until told to stop or pause.

        Args:
            trial: the trial; with ``reset`` the object of the trial before is asked to change.
            config: its hyper-parameters.
            dialog: with the controller.
            started: called when the object is ready to train.
        """
        captures = Captures(trial, dialog)
        try:
            refusal = self._prepare(trial, config)
            if refusal is not None:
                return refusal
            started()
            action = self._train(captures, dialog)
            if not trial.reusable:
                self.close()
            return Finished(action)
        except ChannelClosedError:
            dialog.shutdown = True
            return Finished("stop")
        except (KeyboardInterrupt, SystemExit):
            if dialog.preemption() is None:
                raise
            return Finished("stop")  # it has stopped because the run ends
        finally:
            captures.close()

    def close(self) -> None:
        """Run the object's ``cleanup`` if it has not run; a failure there is logged."""
        trainable, self._trainable = self._trainable, None
        if trainable is None:
            return
        try:
            trainable.stop()
        except Exception as error:  # noqa: BLE001 - training is over, its result stands
            logger.warning(
                "%s.cleanup() failed, which changes nothing:\n%s", self._cls.__name__, text(error)
            )

    def _prepare(self, trial: RunTrial, config: dict[str, Any]) -> Failed | None:
        """Have an object ready for this trial, restored if it goes on; or say why not."""
        place = Place(
            trial.trial_id,
            trial.trial_name,
            trial.trial_dir,
            load(trial.resources) if trial.resources else None,
            trial.counters,
        )
        if trial.reset and self._trainable is not None:
            try:
                accepted = self._trainable.reset_for(place, config)
            except Exception as error:  # noqa: BLE001 - of the user's
                return failed(error, abort=True)
            if not accepted:
                return failed(
                    RuntimeError(
                        f"{self._cls.__name__}.reset_config() did not return True, so this trial "
                        "cannot take over the process of another one. With reuse_actors=True it "
                        "must be implemented: change the object to the new config, return True."
                    ),
                    abort=True,
                )
        else:
            self.close()
            self._trainable = construct(self._cls, config, place)
        if trial.start_from is not None:
            self._trainable.load_from(trial.start_from)
        return None

    def _train(self, captures: Captures, dialog: Dialog) -> Literal["stop", "pause"]:
        """Step and report until the answer is not to go on."""
        trainable = self._trainable
        assert trainable is not None
        while True:
            row = trainable.train()
            row.pop("config", None)
            captures.raise_failed()
            try:
                data = dump(row)
            except Exception as error:
                raise checks.unpicklable(row, error) from error
            reply = dialog.decision(Reported(data, asks=dialog.asks))
            if reply.save:
                if reply.action == "pause":
                    trainable.require_saving()
                dialog.tell(self._saved(trainable, captures, row))
                captures.announce()
            if reply.action != "continue":
                return reply.action
            if reply.save and dialog.preemption() is not None:
                return "stop"  # it was asked to save while it did

    def _saved(self, trainable: Trainable, captures: Captures, row: dict[str, Any]) -> Saved:
        """Have the object save itself into a directory of ours, and capture that."""
        directory = captures.new_directory()
        index = captures.take_index()
        try:
            trainable.save_into(directory)
            unfinished.wait_for(directory)
            capture = captures.capture(directory, index, row, owned=True)
        finally:
            if os.path.isdir(directory):  # it failed, or the files had to be copied
                shutil.rmtree(directory, ignore_errors=True)
        return Saved(index, capture.nbytes)
