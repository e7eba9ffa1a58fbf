"""Tells whether the code of a trainable is the code that an experiment was started with."""

from __future__ import annotations

import functools
import os
import platform
import types
from collections.abc import Iterator
from typing import Any

# Values that are part of the code when a function refers to them.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, types.EllipsisType)
_OURS = "milepost."


def code_of(trainable: Any) -> dict[str, str]:
    """Return what identifies the code of a trainable, for the experiment's record.

    Args:
        trainable: a function, partial, callable object or class.

    Returns:
        ``digest``: of its byte code, constants and names, and those of the functions and classes
        that it refers to in its own module or captures; the same in every process, wherever the
        code stands in its file. ``where``: file and line, for people. ``python``: byte code
        differs between versions, so digests are compared within one.
    """
    import xxhash

    found = xxhash.xxh3_128()
    for token in _Reader().read(trainable):
        # With its length, so that no two sequences of tokens have the same bytes.
        data = token.encode(errors="backslashreplace")
        found.update(b"%d:%s" % (len(data), data))
    python = ".".join(platform.python_version_tuple()[:2])
    return {"digest": found.hexdigest(), "where": _where(trainable), "python": python}


class _Reader:
    """Yields all that matters of some code, each function and class once."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def read(self, value: Any) -> Iterator[str]:
        """Yield the tokens of a function, class or value."""
        kind = type(value)
        if isinstance(value, _PLAIN):
            yield f"{kind.__name__} {value!r}"
        elif isinstance(value, tuple | list):
            yield f"{kind.__name__} of {len(value)}"
            for item in value:
                yield from self.read(item)
        elif isinstance(value, set | frozenset):
            yield f"{kind.__name__} {sorted(map(repr, value))}"
        elif isinstance(value, types.CodeType):
            yield from self._code(value, None)
        elif isinstance(value, types.MethodType):
            yield from self.read(value.__func__)
            yield from self._class(type(value.__self__))
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, functools.partial):
            yield from self.read(value.func)
            yield from self.read(value.args)
            yield from self._named(value.keywords)
        elif isinstance(value, staticmethod | classmethod):
            yield from self.read(value.__func__)
        elif isinstance(value, property):
            yield from self.read((value.fget, value.fset, value.fdel))
        elif callable(getattr(value, "__wrapped__", None)):
            yield from self.read(value.__wrapped__)  # such as a cache around a function
        elif _is_ours(kind) and callable(getattr(value, "function", None)):
            yield from self.read(value.function)  # a function with parameters
        else:
            yield f"a {kind.__module__}.{kind.__qualname__}"
            if callable(value):
                yield from self._class(kind)

    def _function(self, function: types.FunctionType) -> Iterator[str]:
        if self._is_known(function) or _is_ours(function):
            yield f"function {function.__qualname__}"
            return
        yield from self._code(function.__code__, function.__doc__)
        yield from self.read(function.__defaults__)
        yield from self._named(function.__kwdefaults__ or {})
        captured = function.__code__.co_freevars
        for name, cell in zip(captured, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # the variable has no value yet
                continue
            yield name
            yield from self.read(value)
        for name in sorted(_names(function.__code__)):
            value = function.__globals__.get(name)
            if (
                isinstance(value, types.FunctionType | type)
                and value.__module__ == function.__module__
            ):
                yield name
                yield from self.read(value)

    def _code(self, code: types.CodeType, documentation: str | None) -> Iterator[str]:
        arguments = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        yield f"code {code.co_code.hex()} {code.co_exceptiontable.hex()} {arguments}"
        yield from (*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars)
        for constant in code.co_consts:
            if documentation is None or constant != documentation:
                yield from self.read(constant)

    def _class(self, cls: type) -> Iterator[str]:
        for base in cls.__mro__:
            if base is object or _is_ours(base):
                continue
            if self._is_known(base):
                yield f"class {base.__qualname__}"
                continue
            yield from self._named(
                {
                    name: value
                    for name, value in vars(base).items()
                    if not _is_bookkeeping(name, value)
                }
            )

    def _named(self, values: dict[str, Any]) -> Iterator[str]:
        for name in sorted(values):
            yield name
            yield from self.read(values[name])

    def _is_known(self, thing: Any) -> bool:
        """Whether it was read before; if not, it is from now on."""
        known = id(thing) in self._seen
        self._seen.add(id(thing))
        return known


def _is_ours(thing: Any) -> bool:
    return (getattr(thing, "__module__", None) or "").startswith(_OURS)


def _is_bookkeeping(name: str, value: Any) -> bool:
    """Whether an entry of a class says nothing about what the class does."""
    function = getattr(value, "__func__", value)  # the one inside of a class method
    if isinstance(function, types.FunctionType):
        return _is_ours(function)  # added by with_parameters or with_resources
    return name.startswith("_abc_") if not name.startswith("__") else type(value) is not property


def _names(code: types.CodeType) -> set[str]:
    """All global names that some code and the code inside it may look up."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def _where(trainable: Any) -> str:
    """File and line of a trainable; "" where nothing is known."""
    while True:
        if isinstance(trainable, functools.partial):
            trainable = trainable.func
        elif _is_ours(type(trainable)) and callable(getattr(trainable, "function", None)):
            trainable = trainable.function
        else:
            break
    if not isinstance(trainable, type | types.FunctionType | types.MethodType):
        trainable = type(trainable)
    classes = trainable.__mro__ if isinstance(trainable, type) else ()
    for cls in classes:
        methods = [m for m in vars(cls).values() if isinstance(m, types.FunctionType)]
        methods = [method for method in methods if not _is_ours(method)]
        if methods:
            first = min(methods, key=lambda method: method.__code__.co_firstlineno)
            return _place(first.__code__)
    code = getattr(trainable, "__code__", None)
    return _place(code) if code is not None else ""


def _place(code: types.CodeType) -> str:
    file = code.co_filename
    shown = file if file.startswith("<") else os.path.abspath(file)
    return f"{shown}:{code.co_firstlineno}"
