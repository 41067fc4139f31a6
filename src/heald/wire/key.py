"""The keys of a run: who has them may speak to its head, and nobody else can even listen.

CURVE (https://rfc.zeromq.org/spec/26/) encrypts every connection and proves both ends to each other. A run has two key
pairs, made when it starts: the head's, and one that all its agents share. They are kept in files that only the user can
read, and never stand in a command line or a log.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec

from heald.core.errors import ConfigurationError

Key = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{40}$")]


class Pair(msgspec.Struct, frozen=True):
    """A public key and its secret, as 40 printable characters each (Z85)."""

    public: Key
    secret: Key

    def __repr__(self) -> str:
        return f"Pair({self.public!r}, …)"


class Keys(msgspec.Struct, frozen=True):
    """What the head of a run has: its own pair, and the agents'."""

    head: Pair
    agent: Pair


def new() -> Keys:
    """New keys for a run. Raises ConfigurationError when this ZeroMQ was built without CURVE.

    >>> keys = new()
    >>> len(keys.head.public), keys.head.secret in repr(keys)
    (40, False)
    """
    import zmq

    if not zmq.has("curve"):
        raise ConfigurationError("this pyzmq cannot encrypt", hint="pip install pyzmq from PyPI: its wheels can")
    pairs = [Pair(*(half.decode("ascii") for half in zmq.curve_keypair())) for _ in range(2)]
    return Keys(*pairs)


def load(file: Path) -> Keys:
    """The keys of a run, made when it has none: a run that is started again keeps those of its agents.

    Raises ConfigurationError when others could have read or changed the file, or it holds no keys.
    """
    try:
        content = read(file)
    except FileNotFoundError:
        keys = new()
        write(file, msgspec.json.encode(keys))
        return keys
    try:
        return msgspec.json.decode(content, type=Keys)
    except msgspec.DecodeError as raised:
        raise ConfigurationError(f"{file} holds no keys: {raised}", hint=f"delete it: rm {file}") from raised


def read(file: Path) -> bytes:
    """What `write` wrote. Raises ConfigurationError when others could have read or changed it, else OSError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        about = os.fstat(descriptor)
        if about.st_uid != os.getuid() or about.st_mode & 0o077:
            raise ConfigurationError(f"{file} could be read by others", hint=f"delete it: rm {file}")
        return stream.read()


def write(file: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)  # of a process of that number that died here, or was never one of ours
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, file)
