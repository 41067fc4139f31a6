"""The service behind the fake commands: takes what one was asked, and sends back what it shall print.

It knows no scheduler: that is the `answer` that it calls. `Knobs` says how it misbehaves.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONTROL = "testbed"  # the program name under which a test turns knobs; no command has it


@dataclass(frozen=True)
class Answer:
    """What a command prints, and its status."""

    out: str = ""
    err: str = ""
    status: int = 0


@dataclass(frozen=True)
class Request:
    """What a command was asked, where, and the files that it has for input, output and errors."""

    program: str
    arguments: list[str]
    folder: str
    host: str
    environment: dict[str, str]
    files: tuple[int, int, int]
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # set when the command itself was killed

    async def text(self) -> str:
        """Its standard input."""
        with open(self.files[0], closefd=False) as file:
            return await asyncio.to_thread(file.read)


@dataclass
class Knobs:
    """What a test can set; every time is in seconds."""

    down: bool = False  # nobody answers
    answer_delay: float = 0.0  # before any answer
    start_delay: float = 0.02  # from when a job could start until it does
    end_delay: float = 0.05  # from the end of a job's processes until the job has ended
    kill_delay: float = 2.0  # from SIGTERM to SIGKILL
    walltime_slack: float = 0.5  # from the end of a job's walltime until that is noticed
    requeue_delay: float = 10.0  # from the loss of a node until its jobs are queued again or have failed
    history: bool = True  # jobs are known after their end

    def reset(self) -> None:
        """Set all to what they were."""
        self.turn(dataclasses.asdict(Knobs()))

    def turn(self, values: dict[str, Any]) -> None:
        """Set some of them."""
        for name, value in values.items():
            assert name in {each.name for each in dataclasses.fields(self)}, f"no knob {name}"
            setattr(self, name, value)


class Refused(Exception):
    """A command fails: its text, and its status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


Handler = Callable[[Request], Awaitable[Answer]]
Control = Callable[[str, list[str]], None]


async def serve(path: Path, knobs: Knobs, answer: Handler, control: Control) -> None:
    """Answer for ever; `control` gets what a test asks for beyond the knobs."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(100)
        listener.setblocking(False)
        while True:
            connection, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(_converse(connection, knobs, answer, control))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(lambda task: task.result())  # a mistake of ours is told in the log


async def _converse(connection: socket.socket, knobs: Knobs, answer: Handler, control: Control) -> None:
    files: list[int] = []
    try:
        files += await asyncio.to_thread(_receive_files, connection)
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=2**24)
        line = await reader.readline()
        if not line:
            return
        request = Request(**json.loads(line), files=(files[0], files[1], files[2]))
        watch = asyncio.create_task(_watch(reader, request))
        if request.program == CONTROL:
            said = _turn(request.arguments, knobs, control)
        elif knobs.down:
            writer.close()
            return
        else:
            await asyncio.sleep(knobs.answer_delay)
            try:
                said = await answer(request)
            except Refused as refused:
                said = Answer(err=f"{refused}\n", status=refused.status)
        writer.write(json.dumps(dataclasses.asdict(said)).encode() + b"\n")
        await writer.drain()
        watch.cancel()
        writer.close()
    except ConnectionError:  # the command was killed: nobody wants the answer
        pass
    finally:
        connection.close()
        for file in files:
            os.close(file)


def _turn(arguments: list[str], knobs: Knobs, control: Control) -> Answer:
    if arguments[0] == "knobs":
        knobs.turn(json.loads(arguments[1]))
    else:
        if arguments[0] == "reset":
            knobs.reset()
        control(arguments[0], arguments[1:])
    return Answer()


async def _watch(reader: asyncio.StreamReader, request: Request) -> None:
    await reader.read()
    request.gone.set()


def _receive_files(connection: socket.socket) -> list[int]:
    connection.setblocking(True)
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    return files
