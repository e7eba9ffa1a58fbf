"""Training in the driver's own process, for debugging."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from milepost.control.controller import run
from milepost.engine.inprocess import InProcessEngine

if TYPE_CHECKING:
    from milepost.control.interruption import Interruption
    from milepost.control.outcome import RunOutcome
    from milepost.control.plan import RunPlan


def run_here(plan: RunPlan, interruption: Interruption) -> RunOutcome:
    """Carry out a plan whose one worker runs in this thread.

    The controller runs in a thread beside it. All else is as in other runs.

    Args:
        plan: of one worker.
        interruption: listens to signals.

    Raises:
        Exception: as :func:`milepost.control.controller.run`.
    """
    engine = InProcessEngine(plan.trainable)
    ended: list[RunOutcome | BaseException] = []

    def control() -> None:
        try:
            ended.append(run(plan, engine=engine, interruption=interruption))
        except BaseException as error:  # noqa: BLE001 - raised below
            ended.append(error)
        finally:
            engine.close()

    controller = threading.Thread(target=control, name="milepost-controller")
    controller.start()
    try:
        engine.serve()
    finally:
        engine.close()
        controller.join()
    (result,) = ended
    if isinstance(result, BaseException):
        raise result
    return result
