"""What trainers of boosted trees refuse: arguments of Ray's first version of training."""

from __future__ import annotations

from typing import Any, NoReturn


def refuse_single_call(owner: str, library: str, **arguments: Any) -> None:
    """Refuse arguments of trainers that made the one call of ``train`` themselves.

    Args:
        owner: the trainer's class.
        library: the module whose ``train`` is to be called.
        **arguments: those that may be given; None stands for one that is not.

    Raises:
        DeprecationWarning: one is given.
    """
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise DeprecationWarning(
            f"{owner}({', '.join(given)}) is not there any more. Call {library}.train(...) in a "
            f"function, with RayTrainReportCallback() among its callbacks, and pass the function: "
            f"{owner}(train_loop_per_worker)."
        )


def refuse_get_model(owner: str) -> NoReturn:
    """Refuse what the callback does now.

    Args:
        owner: the trainer's class.

    Raises:
        DeprecationWarning: always, as Ray does.
    """
    raise DeprecationWarning(
        f"{owner}.get_model() is not there any more. Call "
        "RayTrainReportCallback.get_model(result.checkpoint)."
    )
