"""The `heald` command, also as `python -m heald`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from heald.cli.program import app

    app(prog_name="heald")


if __name__ == "__main__":
    main()
