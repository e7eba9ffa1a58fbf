"""The life of a process that the fork server has forked: wait for orders, work, end."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from milepost.engine import messages
from milepost.engine.messages import DEFAULT_VARIABLES, Load
from milepost.engine.payload import MappedPayload
from milepost.engine.protocol import WorkerSpec
from milepost.errors import ChannelClosedError
from milepost.keeper.wire import Wire
from milepost.worker import main, output, process, stacks
from milepost.worker.channel import Channel

_ENDED_BY_SERVER = 0


class Order(NamedTuple):
    """What an idle process waits for; channel, stdout, stderr and trainable travel beside it."""

    spec: WorkerSpec
    load: Load


def live(server: int, orders: socket.socket, let_go: Callable[[], None]) -> NoReturn:
    """Be a worker, from just after the fork to the end; never returns to the server's code.

    Args:
        server: process id of the server, whose death is this process's.
        orders: where :class:`Order` comes from; its end means that there will be none.
        let_go: closes the server's descriptors.
    """
    code = 1
    try:
        os.setsid()
        process.die_with_parent(signal.SIGKILL, server)
        process.adopt_orphans()
        process.reset_signals()
        process.forget_exit_handlers()
        process.volunteer_for_oom_killer()
        let_go()
        gc.enable()
        code = _work(orders)
    except ChannelClosedError:
        code = _ENDED_BY_SERVER
    except BaseException:  # noqa: BLE001 - nothing is above this
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            process.run_exit_handlers()
        os._exit(code)


def _work(orders: socket.socket) -> int:
    """Wait for orders, prepare the process, run the worker's loop; return the exit status."""
    received = messages.receive(orders)
    assert received is not None
    order, (channel_fd, stdout_fd, stderr_fd, payload_fd) = received
    orders.close()
    output.redirect(stdout_fd, stderr_fd)
    stacks.tell_on_crash()
    channel = Channel(Wire(socket.socket(fileno=channel_fd)))
    return main.run(channel, _prepare(order, payload_fd))


def _prepare(order: Order, payload_fd: int) -> Callable[[], Any]:
    """Make this process what the order says; return what unpickles the trainable."""
    spec = order.spec
    process.set_name(spec.name)
    payload = MappedPayload(payload_fd, order.load.index)
    os.close(payload_fd)
    around = payload.surroundings
    defaults = {name: os.environ[name] for name in DEFAULT_VARIABLES}
    os.environ.clear()
    os.environ.update({**defaults, **around.environment})
    if spec.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(spec.gpus)
    os.environ.update(spec.env or {})
    sys.path[:] = around.sys_path
    with contextlib.suppress(OSError):  # the driver's directory may be gone
        os.chdir(around.cwd)
    process.reseed(spec.seed)
    return payload.trainable
