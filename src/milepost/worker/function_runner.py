"""Runs a function trainable in the worker's main thread."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from numbers import Number
from types import GeneratorType
from typing import Any, NamedTuple

from milepost.worker import unfinished
from milepost.worker.dialog import Dialog
from milepost.worker.failure import failed, text
from milepost.worker.protocol import Failed, Finished
from milepost.worker.trial_session import TrialSession

logger = logging.getLogger("milepost.worker")

DEFAULT_METRIC = "_metric"


class Returned(NamedTuple):
    """What a function returns that is no result, but for whoever started the run.

    Attributes:
        value: pickled.
    """

    value: bytes


def run_function(
    function: Callable[[Any], Any], config: dict[str, Any], session: TrialSession, dialog: Dialog
) -> Finished | Failed:
    """Call the function and report what it returns or yields.

    Ray's rules: a dict is one more result, a number is the metric ``_metric``, what is false is
    nothing, and anything else is an error. A function that ends by ``sys.exit`` or a stray
    ``StopIteration`` has failed. Beyond Ray, a :class:`Returned` is handed on.

    When its run ends early, a function that returns as soon as it is told, or leaves by
    ``sys.exit`` or ``KeyboardInterrupt``, has stopped.

    Returns:
        How it ended.
    """
    told, value = False, b""
    try:
        result = function(config)
        if isinstance(result, Returned):
            value = result.value
        elif isinstance(result, GeneratorType):
            with contextlib.closing(result):
                for each in result:
                    _report_value(each, session)
            told = dialog.told
        else:
            told = dialog.told  # what it returns then is how far it came
            _report_value(result, session)
        unfinished.raise_failed()
    except BaseException as error:  # noqa: BLE001 - whatever user code raises ends its trial
        unfinished.log_failed()
        if session.ended is None:
            leaves = issubclass(type(error), KeyboardInterrupt | SystemExit)
            if leaves and dialog.preemption() is not None:
                return Finished("stop")
            return failed(_explained(error))
        if not issubclass(type(error), SystemExit):
            logger.warning(
                "trial %s was told to %s and raised while it ended, which changes nothing:\n%s",
                session.run.trial_name,
                session.ended,
                text(error),
            )
    finally:
        session.finish()
    return Finished(session.ended or ("stop" if told else "returned"), value)


def _report_value(value: Any, session: TrialSession) -> None:
    """Report a returned or yielded value, if it counts."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        value = value.item()  # numpy's own bool is no Number
    if isinstance(value, dict):
        if value:
            session.report(value)
    elif isinstance(value, Number):
        if value:
            session.report({DEFAULT_METRIC: value})
    elif not _is_false(value):
        raise ValueError(
            f"the trainable function returned or yielded {value!r} ({type(value).__name__}). It "
            "may return a dict of metrics, a single number, or nothing."
        )


def _is_false(value: Any) -> bool:
    try:
        return not value
    except Exception:  # noqa: BLE001 - an array of several elements is neither
        return False


def _explained(error: BaseException) -> BaseException:
    """Turn ways of ending that say nothing into errors that do."""
    kind = type(error)  # isinstance() would ask the error itself, and users' may raise then
    if issubclass(kind, SystemExit) and error.code in (0, None):  # type: ignore[attr-defined]
        said: BaseException = RuntimeError(
            "the trainable function called sys.exit(0) before it returned. To end a trial early, "
            "return; its result is what was reported before."
        )
    elif issubclass(kind, StopIteration):
        said = RuntimeError(
            "a StopIteration escaped from the trainable function: next() was called on an iterator "
            "that has ended. Catch it, or pass next() a default."
        )
    else:
        return error
    said.__cause__ = error
    return said.with_traceback(error.__traceback__)
