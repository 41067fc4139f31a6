"""What tasks printed behind a login node: it stays there, and is fetched when somebody wants to see it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from heald.core.errors import SiteError
from heald.site import login
from heald.wire import key

_FILE = "login.json"
# What an attempt printed, or the last one of all that printed anything; else what the worker that runs it did so far.
_PRINT = """\
cd "$1" || exit
file=$(ls -v "$2/$3".$4."$5" 2>/dev/null | tail -n 1)
[ -n "$file" ] || file=$6.$5
[ ! -f "$file" ] || cat "$file"
"""


class Place(msgspec.Struct, frozen=True):
    """Where the logs of a run are behind a login node: `host` as ssh knows it, and the folder there.

    `control`: the path of a connection to share (`ssh -S`) while the run goes on; empty when it is the user's own.
    """

    host: str
    logs: str
    control: str = ""

    def fetch(self, task: int, stream: str, *, attempt: int = 0, worker: str = "") -> bytes:
        """What a task printed to `stream`, "out" or "err": in that attempt, or in the last.

        `worker`: the one that runs it now. Raises SiteError, and SchedulerUnreachable when there is no connection.
        """
        words = [self.logs, str(task // 1000), str(task), str(attempt or "*"), stream, worker if not attempt else ""]
        answer = login.over(self.host, self.control)(["bash", "-c", _PRINT, "sh", *words])
        if answer.status:
            raise SiteError(f"{self.host}: {answer.words}", hint="were the files of the run removed there?")
        return answer.out.encode()


def remember(folder: Path, place: Place) -> None:
    """Write it down in the folder of an executor, for whoever looks at the run."""
    key.write(folder / _FILE, msgspec.json.encode(place))


def place(folder: Path) -> Place | None:
    """What was written down there; None when the tasks of that executor print on this machine."""
    try:
        return msgspec.json.decode((folder / _FILE).read_bytes(), type=Place)
    except (OSError, msgspec.MsgspecError):
        return None
