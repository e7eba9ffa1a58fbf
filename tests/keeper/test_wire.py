"""Frames over sockets: whole or not at all, without anybody waiting who must not."""

from __future__ import annotations

import os
import selectors
import socket
import threading

import pytest

from milepost.errors import ChannelClosedError
from milepost.keeper import address
from milepost.keeper.peer import Peer
from milepost.keeper.wire import Wire


@pytest.fixture
def ends():
    left, right = socket.socketpair()
    yield left, right
    left.close()
    right.close()


def test_frames_arrive_whole_and_in_order(ends):
    """Empty, small and large frames, sent alone or together."""
    left, right = Wire(ends[0]), Wire(ends[1])
    left.send(b"")
    left.send(b"one")
    assert right.receive_available() == [b"", b"one"]
    large = os.urandom(1 << 20)
    sender = threading.Thread(target=left.send, args=(large,))
    sender.start()
    assert right.receive() == large
    sender.join()
    assert right.receive_available() == []
    assert not right.ended


def test_a_frame_in_pieces(ends):
    """Pieces are kept until the frame is whole; waiting for it is bounded."""
    right = Wire(ends[1])
    frame = (5).to_bytes(4, "little") + b"hello"
    for byte in frame[:-1]:
        ends[0].send(bytes([byte]))
        assert right.receive_one(0.0) is None
    ends[0].send(frame[-1:])
    assert right.receive_one(0.0) == b"hello"


def test_the_end_comes_after_the_last_frame(ends):
    """What was sent before the other end went away is still received."""
    left, right = Wire(ends[0]), Wire(ends[1])
    left.send(b"last")
    left.close()
    left.close()
    assert right.receive_one(1.0) == b"last"
    with pytest.raises(ChannelClosedError, match="closed the channel"):
        right.receive_one(1.0)
    with pytest.raises(ChannelClosedError, match="closed the channel"):
        right.receive()
    assert right.ended
    with pytest.raises(ChannelClosedError, match="the other end is gone"):
        right.send(b"x")


def test_a_peer_never_waits(ends):
    """What the socket does not take is kept, in order, and sent when there is room again."""
    wanted = []
    peer = Peer(ends[0], lambda _, want: wanted.append(want))
    sent = []
    payloads = [bytes([number]) * 50_000 for number in range(40)]
    for number, payload in enumerate(payloads):
        peer.send(payload, lambda number=number: sent.append(number))
    assert wanted == [True]
    assert 0 < len(sent) < len(payloads)
    right, received = Wire(ends[1]), []
    while len(received) < len(payloads):
        received += right.receive_available()
        peer.flush()
    assert received == payloads
    assert sent == list(range(len(payloads)))
    assert wanted == [True, False]


def test_descriptors_are_not_waited_for_and_are_not_inherited(ends):
    """What has come is taken; a process that has nothing to say holds up nobody."""
    left, right = Wire(ends[0]), Wire(ends[1], takes_descriptors=True)
    received: list[list[bytes]] = []
    reader = threading.Thread(target=lambda: received.append(right.receive_available()))
    reader.start()
    reader.join(5)
    stuck = reader.is_alive()
    with open(os.devnull) as file:
        left.send(b"with a file", [file.fileno()])
    reader.join()
    assert not stuck
    assert received == [[]]
    assert right.receive_available() == [b"with a file"]
    (descriptor,) = right.descriptors
    assert not os.get_inheritable(descriptor)
    right.close()


def test_a_peer_that_is_gone(ends):
    """Sending to it is no error, and nobody waits for what was to be sent."""
    peer = Peer(ends[0], lambda *_: None)
    ends[1].close()
    sent = []
    peer.send(b"x", lambda: sent.append("x"))
    peer.send(b"y", lambda: sent.append("y"))
    assert sent == ["x", "y"]
    peer.close()


def test_a_peer_tells_its_process(ends):
    """The kernel vouches for the process id."""
    assert Peer(ends[0], lambda *_: None).process_id() == os.getpid()


def test_addresses_of_any_length(tmp_path):
    """A socket works where its path is longer than the kernel's 107 bytes."""
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    path = str(directory / "keeper.sock")
    with pytest.raises(FileNotFoundError):
        address.connect(path)
    with (
        address.listen(path) as listener,
        address.connect(path) as client,
        selectors.DefaultSelector() as selector,
    ):
        selector.register(listener, selectors.EVENT_READ)
        assert selector.select(5)
        server, _ = listener.accept()
        with server:
            client.sendall(b"hello")
            assert server.recv(10) == b"hello"
    with pytest.raises(ConnectionRefusedError):
        address.connect(path)
