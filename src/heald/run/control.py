"""Where a living run can be spoken to from another terminal: one request, one answer, between processes of one user.

A UNIX socket is watched by the engine's own selector: nothing polls, and it costs nothing until somebody calls. It has
an abstract address (unix(7)), made of a word that stands in the owner file of the run, and no file: so it works
whatever the file system and however long the path, a killed run leaves nothing, and the folder can be copied. A frame
is a magic word, the version, the length of its body, and the body. What is asked and answered is `change`'s business;
here it is bytes.

Both ends speak only to the same user, or to root. A caller that sends anything else than a request, sends it too slowly
or does not take the answer is hung up on; one that has gone before it was its turn gets nothing done.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from heald.core.errors import HealdError
from heald.run.selector import Selector

VERSION = 1
_HEAD = struct.Struct("<4sHI")
_MAGIC = b"hctl"
_LONGEST = 1 << 26  # bytes of a body
_READ = 1 << 16
_CALLERS = 16  # at the same time
_QUEUE = 128  # that wait to be let in
_PATIENCE = 10.0  # seconds that a caller may take
_REST = 1.0  # seconds until callers are let in again, when the system has no descriptor left for them
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: socket(7)


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """What comes back: the answer, or why there is none, with a hint."""

    answer: bytes
    refusal: tuple[str, str] | None = None


_encode = msgspec.msgpack.Encoder().encode
_reply = msgspec.msgpack.Decoder(Reply).decode


class Host(Protocol):
    """What this needs of the engine."""

    selector: Selector

    def post(self, act: Callable[[], None]) -> None:
        """Have `act` called in the engine's thread."""

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` when that time has passed."""


class Control:
    """The end of the run; `name` is its own word.

    `answer` is called in the engine's thread with the body of a request; a HealdError that it raises is what the
    caller is told.
    """

    def __init__(self, name: str, host: Host, answer: Callable[[bytes], bytes]) -> None:
        self._host = host
        self._answer = answer
        self._callers: set[_Caller] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(_address(name))
            self._socket.listen(_QUEUE)
        except BaseException:
            self._socket.close()
            raise
        self._listen()

    def _listen(self) -> None:
        if self._socket.fileno() >= 0 and len(self._callers) < _CALLERS:
            self._host.selector.on_readable(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            channel, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError:  # it would be told of the caller who waits again and again
            self._host.selector.on_readable(self._socket, None)
            self._host.after(_REST, self._listen)
            return
        if _user_of(channel) not in (0, os.geteuid()):
            channel.close()
            return
        self._callers.add(_Caller(channel, self._host, self._reply, self._left))
        if len(self._callers) == _CALLERS:
            self._host.selector.on_readable(self._socket, None)

    def _left(self, caller: _Caller) -> None:
        self._callers.discard(caller)
        self._listen()

    def _reply(self, body: bytes) -> Reply:
        try:
            return Reply(self._answer(body))
        except HealdError as error:
            return Reply(b"", (error.message, error.hint))
        except Exception as raised:
            logging.getLogger("heald").exception("a request from outside of the run failed")
            return Reply(b"", (f"{type(raised).__name__}: {raised}", "this is a fault of heald: please report it"))

    def close(self) -> None:
        """Let nobody call any more."""
        if self._socket.fileno() < 0:
            return
        self._host.selector.forget(self._socket)
        self._socket.close()
        for caller in list(self._callers):
            caller.hang_up()


class _Caller:
    """One connection at the end of the run, from its request to its answer."""

    def __init__(
        self, channel: socket.socket, host: Host, reply: Callable[[bytes], Reply], left: Callable[[_Caller], None]
    ) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._host = host
        self._answer = reply
        self._left = left
        self._in = bytearray()
        self._out = b""
        host.selector.on_readable(channel, self._read)
        host.after(_PATIENCE, self.hang_up)

    def _read(self) -> None:
        try:
            data = self._channel.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._in += data
        try:
            body = _body(self._in)
        except HealdError as error:
            self._say(Reply(b"", (error.message, error.hint)))
            return
        if body is not None:
            self._host.selector.on_readable(self._channel, None)
            self._host.post(lambda: self._serve(body))
        elif not data:
            self.hang_up()

    def _serve(self, body: bytes) -> None:
        if self._gone():
            self.hang_up()
            return
        reply = self._answer(body)
        # In the next turn, when what was done is in the journal.
        self._host.post(lambda: self._say(reply))

    def _gone(self) -> bool:
        try:
            return not self._channel.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _say(self, reply: Reply) -> None:
        if self._channel.fileno() >= 0:
            self._out = _frame(_encode(reply))
            self._host.selector.on_readable(self._channel, None)
            self._host.selector.on_writable(self._channel, self._write)

    def _write(self) -> None:
        try:
            sent = self._channel.send(self._out)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._out)
        self._out = self._out[sent:]
        if not self._out:
            self.hang_up()

    def hang_up(self) -> None:
        """End the connection, if that has not happened yet."""
        if self._channel.fileno() >= 0:
            self._host.selector.forget(self._channel)
            self._channel.close()
            self._left(self)


def ask(name: str, body: bytes, timeout: float = 30.0) -> bytes:
    """The answer of the run whose word is `name`.

    Raises OSError when nobody listens there; HealdError when the run refuses, does not answer within `timeout`
    seconds, or is somebody else's.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(timeout)
        channel.connect(_address(name))
        if os.geteuid() not in (0, _user_of(channel)):
            raise HealdError("the process that drives the run is another user's", hint="ask that user")
        try:
            with suppress(BrokenPipeError):  # it may have refused before it had it all
                channel.sendall(_frame(body))
            reply = _reply(_received(channel))
        except TimeoutError as error:
            raise HealdError(
                f"the process that drives the run does not answer within {timeout:g} s; nothing was done",
                hint="is it stopped, or busy in a callback of a future? try again",
            ) from error
        except (ConnectionError, msgspec.DecodeError) as error:
            raise HealdError("the process that drives the run ended before it answered", hint="try again") from error
    if reply.refusal is not None:
        raise HealdError(reply.refusal[0], hint=reply.refusal[1])
    return reply.answer


def listens(name: str) -> bool:
    """Whether there is a run whose word is `name`, and it can be asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.setblocking(False)
        try:
            channel.connect(_address(name))
        except BlockingIOError:  # it does, and many are calling
            return True
        except OSError:
            return False
        return True


def _received(channel: socket.socket) -> bytes:
    data = bytearray()
    while (body := _body(data)) is None:
        more = channel.recv(_READ)
        if not more:
            raise ConnectionResetError
        data += more
    return body


def _frame(body: bytes) -> bytes:
    if len(body) > _LONGEST:
        raise HealdError(f"a request of {len(body)} bytes; at most {_LONGEST}", hint="name fewer tasks at once")
    return _HEAD.pack(_MAGIC, VERSION, len(body)) + body


def _body(data: bytearray) -> bytes | None:
    """The body of the frame that `data` begins with, None when it is not whole. Raises HealdError when it is none."""
    if not _MAGIC.startswith(bytes(data[: len(_MAGIC)])):
        raise HealdError("this is no request to a run of heald")
    if len(data) < _HEAD.size:
        return None
    _, version, length = _HEAD.unpack_from(data)
    if version != VERSION:
        hint = "use the heald that drives the run"
        raise HealdError(f"one of us speaks version {version} of the control of runs, the other {VERSION}", hint=hint)
    if length > _LONGEST:
        raise HealdError(f"a request of {length} bytes; at most {_LONGEST}")
    return bytes(data[_HEAD.size : _HEAD.size + length]) if len(data) >= _HEAD.size + length else None


def _address(name: str) -> str:
    return f"\0heald-{name}"


def _user_of(channel: socket.socket) -> int:
    """The user whose process is at the other end."""
    _, user, _ = _CREDENTIALS.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(user)
