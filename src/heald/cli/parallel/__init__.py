"""`heald run 'CMD {}' ::: a b c`: a command over inputs, with the grammar and the habits of GNU Parallel.

This module is loaded by workers too: it imports nothing before `main` is called.
"""

from __future__ import annotations

_FAULT = 255


def main(argv: list[str]) -> int:
    """Run a command line, given without the words `heald run`; the status is the number of jobs that failed, at most
    101, or 255 when it was asked for something that cannot be.

    >>> main(["echo", "{}", ":::"])
    0
    """
    import sys

    from heald.cli.parallel.option import parse
    from heald.core.errors import HealdError

    try:
        options = parse(argv)
        if options.help or options.version or options.citation:
            from heald.cli.parallel.help import text

            print(text(options), end="")
            return 0
        from heald.cli.parallel.run import run

        return run(options)
    except HealdError as raised:
        print(f"heald run: {raised.message}", file=sys.stderr)
        if raised.hint:
            print(f"  hint: {raised.hint}", file=sys.stderr)
        return _FAULT
    except KeyboardInterrupt:  # the second: what runs ends with this process
        return _FAULT
