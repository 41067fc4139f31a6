"""The `heald` command, also as `python -m heald`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line."""
    from heald.cli.launch import routed

    over_inputs, words = routed(sys.argv[1:])
    if over_inputs or (words[:2] == ["run", "script"] and "--detach" not in words):
        from heald.run.boot import boot_early

        boot_early()
    if over_inputs:
        from heald.cli.parallel import main as parallel

        status = parallel(words)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # to take the interpreter down in good order would last as long as a dozen jobs
    from heald.cli.program import app

    app(words, prog_name="heald")


if __name__ == "__main__":
    main()
