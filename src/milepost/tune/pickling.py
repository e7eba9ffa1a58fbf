"""The check that something can travel to worker processes, with an error that helps."""

from __future__ import annotations

import functools
import inspect
import io
import types
from collections.abc import Iterator
from typing import Any

_MAX_DEPTH = 4
_MAX_CULPRITS = 5


def require_picklable(value: Any, what: str, advice: str) -> None:
    """Check that something can be sent to worker processes.

    Large arrays in it are looked at, not copied.

    Args:
        value: the trainable or the search space.
        what: what to call it at the start of the message.
        advice: the end of the message: what to do instead.

    Raises:
        TypeError: it cannot; the message names the variables or entries that are to blame.
    """
    error = _failure(value)
    if error is None:
        return
    culprits = list(_culprits(value, "", _MAX_DEPTH, set()))[:_MAX_CULPRITS]
    lines = "".join(f"\n  - {where}: {text}" for where, text in culprits)
    found = f"What stands in the way:{lines}\n" if culprits else ""
    raise TypeError(
        f"{what} cannot be sent to worker processes: it holds something that cannot be pickled "
        f"({_short(error)}). {found}{advice}"
    ) from error


def _failure(value: Any) -> Exception | None:
    """What pickling a value raises, or None; buffers of arrays stay where they are."""
    import cloudpickle

    from milepost.worker.protocol import take_script_by_value

    take_script_by_value()
    pickler = cloudpickle.CloudPickler(io.BytesIO(), protocol=5, buffer_callback=_leave_out)
    try:
        pickler.dump(value)
    except Exception as error:  # noqa: BLE001 - objects raise what they like; it is reported
        return error
    return None


def _leave_out(buffer: Any) -> bool:
    return False


def _culprits(value: Any, where: str, depth: int, seen: set[int]) -> Iterator[tuple[str, str]]:
    """Yield the innermost captured things that do not pickle, each with what is wrong."""
    seen.add(id(value))
    found = False
    for step, part in _parts(value):
        if id(part) in seen or (error := _failure(part)) is None:
            continue
        found = True
        path = f"{where}{step}"
        inner = list(_culprits(part, f"{path} -> ", depth - 1, seen)) if depth else []
        yield from inner or [(path, f"{_describe(part)} ({_short(error)})")]
        if found and len(seen) > 10_000:  # a huge object graph: what was found must do
            return


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the named things a value holds on to."""
    if isinstance(value, functools.partial):
        yield "the partial's function", value.func
        yield from ((f"partial argument {i}", part) for i, part in enumerate(value.args))
        yield from ((f"partial argument {key!r}", part) for key, part in value.keywords.items())
    elif isinstance(value, types.MethodType):
        yield "the method's object", value.__self__
    elif isinstance(value, types.FunctionType):
        yield from _captured(value)
    elif isinstance(value, type):
        for name, part in vars(value).items():
            if not name.startswith("__") or isinstance(part, types.FunctionType):
                yield f"{value.__name__}.{name}", getattr(part, "__func__", part)
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{i}]", part) for i, part in enumerate(value))
    else:
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            yield from ((f"attribute .{name}", part) for name, part in attributes.items())


def _captured(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    name = function.__name__
    for variable, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=True
    ):
        try:
            yield f"variable {variable!r} captured by {name}", cell.cell_contents
        except ValueError:  # an empty cell: the variable has no value yet
            continue
    variables = inspect.getclosurevars(function).globals if function.__code__.co_names else {}
    yield from (
        (f"global variable {variable!r} used by {name}", part)
        for variable, part in variables.items()
        if not isinstance(part, types.ModuleType)
    )
    for i, part in enumerate(function.__defaults__ or ()):
        yield f"default argument {i} of {name}", part
    for key, part in (function.__kwdefaults__ or {}).items():
        yield f"default argument {key!r} of {name}", part


def _describe(value: Any) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def _short(error: Exception) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
