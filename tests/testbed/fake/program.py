"""Each of the fake commands: hands its words, input and outputs to the fake scheduler, and ends as that says.

Copied into a testbed, where every command is a link to the copy. UNREACHABLE and STATUS are what it says, and ends
with, when nobody answers.
"""

import json
import os
import socket
import sys

UNREACHABLE, STATUS = "", 1


def main() -> int:
    """Ask, print, and give the status to exit with."""
    program, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
    asked = {
        "program": program,
        "arguments": arguments,
        "folder": os.getcwd(),
        "host": os.uname().nodename,
        "environment": dict(os.environ),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.path.join(os.path.dirname(os.path.realpath(__file__)), "socket"))
            socket.send_fds(connection, [b"."], [0, 1, 2])
            connection.sendall(json.dumps(asked).encode() + b"\n")
            answer = json.loads(connection.makefile().readline() or "null")
        except OSError:
            answer = None
    if answer is None:
        print(UNREACHABLE.format(program=program), file=sys.stderr)
        return STATUS
    sys.stdout.write(answer["out"])
    sys.stderr.write(answer["err"])
    return int(answer["status"])


if __name__ == "__main__":
    sys.exit(main())
