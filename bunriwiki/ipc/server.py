"""The runner's end of the hop: a thread per connection, a batch at a time.

There is no event loop in the way of a batch: the thread that receives it answers it. A gateway worker keeps few connections,
each with one batch under way, so there are few threads.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from loguru import logger

from bunriwiki.artifacts.answers import Answers
from bunriwiki.ipc.frames import PROBE, BatchDecoder, BrokenFrameError, Content, answers_frame, error_frame, receive

InputT = TypeVar("InputT")
AnswerT = TypeVar("AnswerT")


def frames(connection: socket.socket) -> Iterator[Content]:
    """The contents of the frames that come, until the other side closes the connection. Raises BrokenFrameError, OSError."""
    while (content := receive(connection)) is not None:
        yield content


class Replies(Generic[InputT, AnswerT]):
    """Makes of a frame's content the frame that answers it: of a batch of `inputs`, what `answer(inputs, version)` gives.

    What `answer` raises is logged and becomes the error of that batch.
    """

    def __init__(self, model: str, inputs: type[InputT], answer: Callable[[Sequence[InputT], str], Answers[AnswerT]]) -> None:
        self._model = model
        self._decoder = BatchDecoder(inputs)
        self._answer = answer

    def to(self, content: Content) -> bytes | bytearray:
        """Raises BrokenFrameError when the content is no batch."""
        if not content:
            return PROBE
        batch = self._decoder.decode(content)
        try:
            return answers_frame(self._answer(batch.inputs, batch.version))
        except Exception as error:
            logger.exception("a batch of {} could not be answered", self._model)
            return error_frame(self._model, batch.version, f"{type(error).__name__}: {error}"[:500])


class BatchTurn:
    """Lets one batch at a time be answered; a second would only compete for the same cores.

    A batch that takes longer than `deadline` seconds keeps the others waiting no longer: nobody waits for its answer any more.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._changed = threading.Condition()
        self._number = 0  # of the batch that was let in last
        self._until: float | None = None  # when it no longer keeps others waiting; None: nothing is under way

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Waits for the turn, and has it until the end of the `with`."""
        with self._changed:
            while self._until is not None and (left := self._until - time.monotonic()) > 0:
                self._changed.wait(left)
            self._number += 1
            mine, self._until = self._number, time.monotonic() + self._deadline
        try:
            yield
        finally:
            with self._changed:
                if self._number == mine:
                    self._until = None
                    self._changed.notify()


class IpcServer(Generic[InputT, AnswerT]):
    """Answers the batches that come to the listening socket `listening`, with `answer(inputs, version)`.

    One batch at a time is answered. Whoever sends anything but a batch of `inputs` loses the connection.
    """

    def __init__(
        self,
        model: str,
        listening: socket.socket,
        inputs: type[InputT],
        answer: Callable[[Sequence[InputT], str], Answers[AnswerT]],
        deadline: float,
    ) -> None:
        self._model = model
        self._listening = listening
        self._answer = answer
        self._replies = Replies(model, inputs, self._answer_in_turn)
        self._turn = BatchTurn(deadline)
        self._changed = threading.Condition()
        self._connections: dict[socket.socket, bool] = {}  # whether a frame is being answered
        self._closing = False

    def start(self) -> None:
        """Answer from now on, in threads of its own."""
        threading.Thread(target=self._accept, name=f"hop of {self._model}", daemon=True).start()

    def close(self, seconds: float) -> None:
        """Take no new batches, and give those that are being answered so many seconds."""
        with self._changed:
            self._closing = True
            with contextlib.suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listening.close()
            for connection, busy in self._connections.items():
                if not busy:
                    _end(connection)
            self._changed.wait_for(lambda: not any(self._connections.values()), seconds)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError as error:
                if self._closing:
                    return
                logger.error("the runner of {} cannot accept a connection: {}", self._model, error)
                time.sleep(0.1)  # no descriptors are left, say: they come back
                continue
            with self._changed:
                if self._closing:
                    connection.close()
                    return
                self._connections[connection] = False
            threading.Thread(target=self._serve, args=(connection,), name=f"batches of {self._model}", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            for content in frames(connection):
                if not self._begin(connection):
                    return  # the client asks another worker
                connection.sendall(self._replies.to(content))
                if self._end_of_batch(connection):
                    return
        except BrokenFrameError as error:
            logger.error("a connection to the runner of {} is closed: {}", self._model, error)
        except OSError as error:
            logger.debug("a connection to the runner of {} ended: {}", self._model, error)  # a gateway worker died, or gave up
        finally:
            with self._changed:
                del self._connections[connection]
                self._changed.notify_all()
            connection.close()

    def _begin(self, connection: socket.socket) -> bool:
        with self._changed:
            if not self._closing:
                self._connections[connection] = True
            return not self._closing

    def _end_of_batch(self, connection: socket.socket) -> bool:
        with self._changed:
            self._connections[connection] = False
            self._changed.notify_all()
            return self._closing

    def _answer_in_turn(self, inputs: Sequence[InputT], version: str) -> Answers[AnswerT]:
        with self._turn.taken():
            return self._answer(inputs, version)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was faster
        connection.shutdown(socket.SHUT_RDWR)
