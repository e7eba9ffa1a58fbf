"""The keeper's process: ``python -m milepost.keeper``, started by a driver's link."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import resource
import socket
import sys

from milepost.keeper.home import remove_home
from milepost.keeper.service import Keeper, Settings
from milepost.keeper.settings import drain_s, staging_bytes

_SWITCH_S = 0.0005


def main(arguments: list[str]) -> int:
    """Run a keeper until its driver has ended and its captures are settled."""
    parser = argparse.ArgumentParser(prog="milepost.keeper", description=__doc__)
    parser.add_argument("--listener", type=int, required=True, help="descriptor of the socket")
    parser.add_argument("--driver", type=int, required=True, help="descriptor of the connection")
    parser.add_argument("--driver-pid", type=int, required=True, help="process of the driver")
    parser.add_argument("--node-root", required=True, help="directory of staging and sockets")
    parser.add_argument("--home", required=True, help="this keeper's own directory")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    _yield_to_training()
    # A commit thread that has the interpreter must not keep a worker's request waiting.
    sys.setswitchinterval(_SWITCH_S)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each lease needs one
    umask = os.umask(0o077)
    os.umask(umask)
    listener = socket.socket(fileno=options.listener)
    listener.setblocking(False)
    keeper = Keeper(
        Settings(
            node_root=options.node_root,
            driver_pid=options.driver_pid,
            staging_bytes=staging_bytes(options.node_root),
            drain_s=drain_s(),
            umask=umask,
        ),
        socket.socket(fileno=options.driver),
        listener,
    )
    logging.getLogger("milepost").addHandler(_ToDriver(keeper))
    status = 1
    try:
        status = 0 if keeper.run() else 2
    except BaseException:  # the driver's link shows the log
        logging.getLogger("milepost.keeper").critical("the keeper failed", exc_info=True)
    if not keeper.has_driver:
        remove_home(options.home)
    logging.shutdown()
    if status:
        os._exit(status)  # do not wait for threads that may wait for a disk
    return 0


def _yield_to_training() -> None:
    """Let this process, when it wakes up, push no other off a processor.

    Else a report would often end only when the keeper it has just told of a checkpoint waits for
    the disk. A lower priority would be wrong: trials would wait for their commits on a busy
    machine, and one thread for another that has Python's lock.
    """
    with contextlib.suppress(PermissionError):  # some sandboxes allow no such call
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class _ToDriver(logging.Handler):
    """Passes what people should know on to the driver's log."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__(logging.WARNING)
        self._keeper = keeper

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._keeper.notice(level, record.getMessage())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
