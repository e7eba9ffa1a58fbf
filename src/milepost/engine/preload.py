"""Which modules a fork server imports ahead of its workers, and how.

Imports cost far more than a fork (2 s against 15 ms for torch), so the server imports what the
driver has imported, from installed packages and the standard library only. Files of the user are
never among them: each worker imports those itself, fresh.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from types import ModuleType

# What the user works in, not with: a worker has no use for it. Their modules keep threads,
# sockets or a terminal.
_LEFT_OUT = frozenset(
    (
        *("IPython", "ipykernel", "ipywidgets", "jupyter_client", "jupyter_core", "zmq", "tornado"),
        *("traitlets", "jedi", "parso", "prompt_toolkit", "debugpy", "pydevd", "pdb", "bdb"),
        *("pytest", "_pytest", "pluggy", "hypothesis", "coverage", "xdist", "pytest_timeout"),
        *("pip", "setuptools", "pkg_resources", "readline", "rlcompleter", "this", "antigravity"),
        *("idlelib", "turtle", "multiprocessing.resource_tracker", "ray"),
    )
)
# Of our own modules, those that trainables refer to.
_OWN = frozenset(("api", "checkpoint", "errors", "exceptions", "train", "tune", "worker"))
_PACKAGE = __name__.partition(".")[0]


# What nearly every worker imports.
_ALWAYS = ("cloudpickle",)


def wanted() -> tuple[str, ...]:
    """Names of the modules to preload, as this process has imported them, in that order.

    Packages come before their submodules, so that each is imported as a whole first.
    """
    installed = _installed_prefixes()
    names = [
        name
        for name, module in list(sys.modules.items())
        if _fits(name) and _is_installed(name, module, installed)
    ]
    return (*_ALWAYS, *sorted(names, key=lambda name: "." in name))


def missing(names: Iterable[str], preloaded: Iterable[str]) -> set[str]:
    """Top-level packages among ``names``, not of the standard library, that a server lacks."""
    return (
        {name.partition(".")[0] for name in names}
        - {name.partition(".")[0] for name in preloaded}
        - sys.stdlib_module_names
    )


def import_all(names: Iterable[str]) -> tuple[str, str] | None:
    """Import modules; one that fails is left for the workers to fail on.

    Returns:
        The first module after whose import a fork would not be safe, with the reason, or None.
        Those after it were not imported.
    """
    for name in names:
        if name in sys.modules:
            continue
        # Also SystemExit and whatever else: the driver imported it, so it need not work here.
        with contextlib.suppress(BaseException):
            importlib.import_module(name)
        reason = unsafe_to_fork()
        if reason is not None:
            return name, reason
    return None


def unsafe_to_fork() -> str | None:
    """Tell why this process must not fork workers any more, or None."""
    if len(sys._current_frames()) > 1:
        return "it starts a thread"
    with contextlib.suppress(OSError):
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{fd}").startswith("/dev/nvidia"):
                    return "it opens a CUDA context"
    return None


def _fits(name: str) -> bool:
    top, _, rest = name.partition(".")
    if top == _PACKAGE:
        return not rest or rest.partition(".")[0] in _OWN
    return not (
        top in _LEFT_OUT or name in _LEFT_OUT or top.startswith("__") or name.endswith(".__main__")
    )


def _is_installed(name: str, module: ModuleType | None, prefixes: tuple[str, ...]) -> bool:
    if name.partition(".")[0] == _PACKAGE:
        return True
    spec = getattr(module, "__spec__", None)
    # A module made at run time, or known under another name, cannot be imported by this one.
    if spec is None or getattr(spec, "name", None) != name:
        return False
    origin = getattr(spec, "origin", None)
    return isinstance(origin, str) and origin.startswith(prefixes)


def _installed_prefixes() -> tuple[str, ...]:
    paths = {
        *(sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")),
        site.getusersitepackages(),
        *(
            os.path.abspath(path)
            for path in sys.path
            if os.path.basename(path.rstrip("/")) in ("site-packages", "dist-packages")
        ),
    }
    return tuple(path.rstrip("/") + "/" for path in paths if path)
