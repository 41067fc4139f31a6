"""Who writes a run: the owner file, and the right to replace that of a dead owner.

The file appears whole or not at all (it is written under another name and linked), so that of several claimants
one wins on any POSIX file system, across hosts. A dead owner's file may be replaced only by the process that owns
the file named after it, `owner.<nonce>`, which is taken in the same way: nobody can remove what a quicker claimant
has just put there. A lock is a second guard where the file system has locks.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

import msgspec

from heald.core.errors import JournalLocked

# What file systems without locks answer.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_TRIES = 100


class Owner(msgspec.Struct, frozen=True):
    """A process that writes a run.

    `boot` names the time that its host was started, and `started` the time that it was itself, in ticks from there:
    a process id that is used again is another process. `since`: when it took the run, UTC. `nonce`: tells apart
    two times that one process took it.

    >>> this_process().alive
    True
    """

    host: str
    pid: int
    boot: str
    started: str
    user: str
    since: str
    nonce: str

    @property
    def alive(self) -> bool | None:
        """Whether that process lives; None when it is on another host, and this one cannot know."""
        if self.host != socket.gethostname():
            return None
        return self.boot == _boot() and self.started == _start_of(self.pid)


def this_process() -> Owner:
    """The Owner that this process is from now on."""
    return process(os.getpid())


def process(pid: int) -> Owner:
    """The Owner that a process of this host is from now on."""
    now = datetime.now(UTC)
    return Owner(
        host=socket.gethostname(),
        pid=pid,
        boot=_boot(),
        started=_start_of(pid),
        user=_user(),
        since=now.isoformat(timespec="seconds"),
        nonce=os.urandom(8).hex(),
    )


def owner_in(path: Path) -> Owner | None:
    """Who is named in the owner file at `path`; None without one. Raises JournalLocked when it cannot be understood."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Owner)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise JournalLocked(
            f"{path} does not say who writes the run ({error})", hint=f"if nobody does, remove {path}"
        ) from error


def refuse_living(path: Path) -> Owner | None:
    """The dead owner in the file at `path`, or None; raises JournalLocked when it lives, or may live."""
    owner = owner_in(path)
    if owner is None or owner.alive is False:
        return owner
    text = f"{path.parent} is written by process {owner.pid} of {owner.user} on {owner.host} since {owner.since}"
    hint = f"wait for it to end, or only look: heald run show {quote(str(path.parent))}"
    if owner.alive is None:
        text += "; whether it lives cannot be seen from this host"
        hint += f"; if you are sure that it is dead, remove {path}"
    raise JournalLocked(text, hint=hint)


def take(path: Path, owner: Owner) -> None:
    """Puts `owner` into the owner file at `path`. Raises JournalLocked when another living process is there."""
    draft = path.with_name(f".{path.name}.{owner.nonce}")
    _write(draft, owner)
    try:
        for _ in range(_TRIES):
            if _link(draft, path) or owner_in(path) == owner:  # a file server may make the link, and its answer be lost
                return
            dead = refuse_living(path)
            if dead is None:
                continue  # it was released this moment
            right = path.with_name(f"{path.name}.{dead.nonce}")
            take(right, owner)
            if owner_in(path) == dead:
                right.rename(path)
                return
            right.unlink()
        raise JournalLocked(f"{path} comes and goes: others are taking the run", hint="try again")
    finally:
        draft.unlink(missing_ok=True)


def give(path: Path, owner: Owner) -> None:
    """Puts another into the owner file at `path`, in the place of the caller, who is in it."""
    draft = path.with_name(f".{path.name}.{owner.nonce}")
    draft.unlink(missing_ok=True)
    _write(draft, owner)
    draft.replace(path)


def lock(path: Path) -> int:
    """A descriptor that holds the lock file at `path`; raises JournalLocked when another process holds it.

    The lock is one that forked children do not inherit: they may outlive the owner. Closing any descriptor of the
    file gives it up, so nothing else opens that file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return descriptor
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise JournalLocked(
                f"another process holds {path}, and so writes {path.parent} or is about to",
                hint="wait for it to end, or only read the run; `lslocks` shows the processes of this host",
            ) from error
        raise
    return descriptor


def _write(path: Path, owner: Owner) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(owner)) + b"\n")
        file.flush()
        os.fsync(file.fileno())  # an empty owner file after a power failure would need a human


def _link(draft: Path, path: Path) -> bool:
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    return True


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """When the process was started, in ticks since boot; empty when it is gone, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return "" if fields[0] in "ZXx" else fields[19]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container need not know its users
        return str(os.getuid())
