"""The worker's end of what binds it to its sandbox: a line, a bell, and a shelf."""

import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from pipelines.stages._frames import PLACES, Shelf, frame, read_frame

TICK_S = 0.5  # how often a waiting worker looks whether its child lives, and what it has said so far
AHEAD_BYTES = 2**16  # of text: less than the line holds while nobody reads it
READ_BYTES, MOST_READ_BYTES = 2**16, 2**20


class Line:
    """Frames to a child and from it. `theirs` are the child's ends, open until `started`.

    The child rings the bell when its answers are there, or begin to fill the line. A worker that waits for
    the bell is not woken for each of them, and still finds all that were told before a death.
    """

    def __init__(self) -> None:
        self._link, self._their_link = socket.socketpair()
        self._bell, self._rope = socket.socketpair()
        self._shelf = Shelf.new()
        self._place = 0  # of the shelf: where what is sent next will lie
        self._mute = False  # the child has let go of the rope
        self._inbox = b""  # came with what was asked for before
        for end in (self._link, self._bell):
            end.setblocking(False)

    @property
    def theirs(self) -> list[int]:
        """What the child gets: line, bell, shelf (-1 where the system has none)."""
        return [self._their_link.fileno(), self._rope.fileno(), self._shelf.fd if self._shelf else -1]

    def started(self) -> None:
        """The child has its ends; it alone holds them from here on."""
        self._their_link.close()
        self._rope.close()

    def close(self) -> None:
        for end in (self._link, self._bell, self._their_link, self._rope):
            end.close()
        if self._shelf is not None:
            self._shelf.close()

    def send(
        self, message: dict[str, Any], blobs: Sequence[bytes], deadline: float, *, ahead: bool = False
    ) -> bool:
        """Blobs lie on the shelf if they fit. TimeoutError, ConnectionError.

        ahead: while the child is busy with what was sent last; False if that could make both wait for each
        other. What was sent before that has to be answered.
        """
        sizes = self._shelf.lay_down(blobs, self._place) if self._shelf else None
        if sizes is not None:
            message, blobs = {**message, "shelf": [self._place, sizes]}, ()
        parts = frame(message, blobs)
        if ahead and (sizes is None or len(parts[0]) > AHEAD_BYTES):
            return False
        try:
            for part in parts:
                self._link.settimeout(max(deadline - time.monotonic(), 0.001))
                self._link.sendall(part)
        finally:
            self._link.setblocking(False)
        self._place = (self._place + 1) % PLACES
        return True

    def receive(self, deadline: float, alive: Callable[[], bool]) -> tuple[dict[str, Any], list[bytes]]:
        """The next frame. TimeoutError, Garbled; EOFError or ConnectionError when the child has gone."""
        begun = False

        def exactly(size: int) -> bytes:
            nonlocal begun
            data, begun = self._exactly(size, deadline, alive, begun=begun), True
            return data

        return read_frame(exactly)

    def _exactly(self, size: int, deadline: float, alive: Callable[[], bool], *, begun: bool) -> bytes:
        """`begun`: it is of a frame on its way; before another one the bell will ring."""
        if size <= len(self._inbox):
            data, self._inbox = self._inbox[:size], self._inbox[size:]
            return data
        parts, missing, gone = [self._inbox], size - len(self._inbox), False
        begun = begun or bool(self._inbox)
        while missing > 0:
            try:
                part = self._link.recv(min(max(missing, READ_BYTES), MOST_READ_BYTES))
            except BlockingIOError:
                if gone:  # a process it left behind may hold the line open
                    raise EOFError from None
                self._wait(self._link if begun or self._mute else self._bell, deadline)
                gone = not alive()
                continue
            if not part:
                raise EOFError
            begun, missing = True, missing - len(part)
            parts.append(part)
        whole = b"".join(parts)
        data, self._inbox = whole[:size], whole[size:]
        return data

    def _wait(self, end: socket.socket, deadline: float) -> None:
        """Until there is something, a tick at most."""
        if (left := deadline - time.monotonic()) <= 0:
            raise TimeoutError
        waiting = select.poll()
        waiting.register(end, select.POLLIN)
        if waiting.poll(1000 * min(left, TICK_S)) and end is self._bell:
            self._mute = not self._bell.recv(READ_BYTES)
