"""Which modules a fork server imports ahead of its workers, and how.

Imports cost far more than a fork (2 s against 15 ms for torch), so the server imports what the
driver has imported, from installed packages and the standard library only. Files of the user are
never among them: each worker imports those itself, fresh.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
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
        # The driver's own needs, seldom those of a trainable.
        *("rich", "pygments", "markdown_it", "mdurl", "psutil", "filelock", "click"),
        *("tensorboardX",),
    )
)
# Of our own modules, those that trainables refer to.
_OWN = frozenset(("api", "checkpoint", "errors", "exceptions", "train", "tune", "worker"))
_GPU_DEVICES = "/dev/nvidia"
_PACKAGE = __name__.partition(".")[0]


# What nearly every worker imports, and what those import that report checkpoints.
_ALWAYS = ("cloudpickle",)
_OFTEN = ("milepost.storage.codec", "milepost.keeper.capture", "milepost.checkpoint.read")


def wanted() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of modules to preload, in the order in which this process has imported them.

    Returns:
        Those that are imported before the first worker starts: installed packages, each before
        its submodules. And those that can wait until the server has nothing to do: the rest of
        the standard library.
    """
    installed = _installed_prefixes()
    names = [
        name
        for name, module in list(sys.modules.items())
        if _fits(name) and _is_installed(name, module, installed)
    ]
    packages = [name for name in names if name.partition(".")[0] not in sys.stdlib_module_names]
    later = [name for name in names if name.partition(".")[0] in sys.stdlib_module_names]
    return (
        (*_ALWAYS, *sorted(packages, key=lambda name: "." in name)),
        (*_OFTEN, *sorted(later, key=lambda name: "." in name)),
    )


def missing(names: Iterable[str], preloaded: Iterable[str]) -> tuple[str, ...]:
    """Those modules that a server lacks which has preloaded others, in their order."""
    there = set(preloaded)
    return tuple(name for name in names if name not in there)


def import_one(name: str) -> str | None:
    """Import a module; one that fails is left for the workers to fail on.

    Returns:
        Why this process must not fork any more, or None.
    """
    if name in sys.modules:
        return None
    # Also SystemExit and whatever else: the driver imported it, so it need not work here.
    with contextlib.suppress(BaseException):
        importlib.import_module(name)
    return unsafe_to_fork()


def unsafe_to_fork() -> str | None:
    """Tell why this process must not fork workers any more, or None."""
    if len(sys._current_frames()) > 1:
        return "it starts a thread"
    with contextlib.suppress(OSError):
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{fd}").startswith(_GPU_DEVICES):
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
    for prefix in prefixes:
        if isinstance(origin, str) and origin.startswith(prefix):
            # Some packages bring others along in folders of theirs, such as debugpy.
            return origin[len(prefix) :].partition("/")[0] not in _LEFT_OUT
    return False


def _installed_prefixes() -> tuple[str, ...]:
    import site
    import sysconfig

    paths = {
        *(sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")),
        site.getusersitepackages(),
        *(
            os.path.abspath(path)
            for path in sys.path
            if os.path.basename(path.rstrip("/")) in ("site-packages", "dist-packages")
        ),
    }
    # The longest first: site-packages lies inside the standard library's directory.
    return tuple(sorted((path.rstrip("/") + "/" for path in paths if path), key=len, reverse=True))
