"""The `heald` command, also as `python -m heald`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from heald.cli.launch import routed

    over_inputs, words = routed(sys.argv[1:])
    if over_inputs:
        from heald.cli.parallel import main as parallel

        sys.exit(parallel(words))
    from heald.cli.program import app

    app(words, prog_name="heald")


if __name__ == "__main__":
    main()
