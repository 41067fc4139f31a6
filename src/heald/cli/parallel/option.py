"""The options of `heald run 'CMD {}' ::: ...`: GNU Parallel's names, and the reading of a command line of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

import msgspec

from heald.cli.parallel.source import Source
from heald.core.errors import UsageError
from heald.core.resources import seconds

FLAG, TEXT, MANY = "flag", "text", "many"


class Options(msgspec.Struct, frozen=True):
    """What was asked for. Texts stand as they were given, where a number needs what is known later."""

    command: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    jobs: str = ""
    keep_order: bool = False
    tag: bool = False
    tagstring: str = ""
    ungroup: bool = False
    group: bool = False
    line_buffer: bool = False
    files: bool = False
    dry_run: bool = False
    verbose: bool = False
    trace: bool = False
    retries: int = 1
    timeout: str = ""
    halt: str = "never"
    delay: float = 0.0
    nice: int = 0
    shuf: bool = False
    env: tuple[str, ...] = ()
    bar: bool = False
    eta: bool = False
    progress: bool = False
    joblog: str = ""
    resume: bool = False
    resume_failed: bool = False
    retry_failed: bool = False
    results: str = ""
    pipe: bool = False
    pipe_part: bool = False
    block: str = "1M"
    recstart: str = ""
    recend: str | None = None
    regexp: bool = False
    remove_separators: bool = False
    cat: bool = False
    max_replace: int | None = None
    max_lines: int | None = None
    many: bool = False  # -m
    many_words: bool = False  # -X
    xargs: bool = False
    max_chars: int = 131_071
    arg_file: tuple[str, ...] = ()
    null: bool = False
    delimiter: str | None = None
    colsep: str | None = None
    csv: bool = False
    header: str = ""
    link: bool = False
    arg_sep: str = ":::"
    arg_file_sep: str = "::::"
    eof: str | None = None
    skip_empty: bool = False
    trim: str = "n"
    quote: bool = False
    shellquote: bool = False
    plus: bool = False
    replace: str = ""
    replace_ending: str = ""
    replace_name: str = ""
    replace_folder: str = ""
    replace_stem: str = ""
    replace_sequence: str = ""
    replace_slot: str = ""
    directory: str = ""
    tmpdir: str = ""
    help: bool = False
    version: bool = False
    citation: bool = False
    ignored: bool = False


_NAMES: dict[str, tuple[str, str]] = {
    "jobs": (TEXT, "-j --jobs -P --max-procs"),
    "keep_order": (FLAG, "-k --keep-order --keeporder"),
    "tag": (FLAG, "--tag"),
    "tagstring": (TEXT, "--tagstring --tag-string"),
    "ungroup": (FLAG, "-u --ungroup"),
    "group": (FLAG, "--group"),
    "line_buffer": (FLAG, "--line-buffer --linebuffer --lb --line-buffered"),
    "files": (FLAG, "--files"),
    "dry_run": (FLAG, "--dry-run --dryrun"),
    "verbose": (FLAG, "-v --verbose"),
    "trace": (FLAG, "-t"),
    "retries": (TEXT, "--retries"),
    "timeout": (TEXT, "--timeout"),
    "halt": (TEXT, "--halt --halt-on-error"),
    "delay": (TEXT, "--delay"),
    "nice": (TEXT, "--nice"),
    "shuf": (FLAG, "--shuf"),
    "env": (MANY, "--env"),
    "bar": (FLAG, "--bar"),
    "eta": (FLAG, "--eta"),
    "progress": (FLAG, "--progress"),
    "joblog": (TEXT, "--joblog --jl"),
    "resume": (FLAG, "--resume"),
    "resume_failed": (FLAG, "--resume-failed"),
    "retry_failed": (FLAG, "--retry-failed"),
    "results": (TEXT, "--results --res"),
    "pipe": (FLAG, "--pipe --spreadstdin"),
    "pipe_part": (FLAG, "--pipepart --pipe-part"),
    "block": (TEXT, "--block --block-size"),
    "recstart": (TEXT, "--recstart"),
    "recend": (TEXT, "--recend"),
    "regexp": (FLAG, "--regexp --regex"),
    "remove_separators": (FLAG, "--rrs --remove-rec-sep --removerecsep"),
    "cat": (FLAG, "--cat"),
    "max_replace": (TEXT, "-N --max-replace-args -n --max-args"),
    "max_lines": (TEXT, "-L --max-lines"),
    "many": (FLAG, "-m"),
    "many_words": (FLAG, "-X"),
    "xargs": (FLAG, "--xargs"),
    "max_chars": (TEXT, "-s --max-chars"),
    "arg_file": (MANY, "-a --arg-file"),
    "null": (FLAG, "-0 --null"),
    "delimiter": (TEXT, "-d --delimiter"),
    "colsep": (TEXT, "-C --colsep"),
    "csv": (FLAG, "--csv"),
    "header": (TEXT, "--header"),
    "link": (FLAG, "--link --xapply"),
    "arg_sep": (TEXT, "--arg-sep"),
    "arg_file_sep": (TEXT, "--arg-file-sep"),
    "eof": (TEXT, "-E"),
    "skip_empty": (FLAG, "-r --no-run-if-empty"),
    "trim": (TEXT, "--trim"),
    "quote": (FLAG, "-q --quote"),
    "shellquote": (FLAG, "--shellquote --shell-quote"),
    "plus": (FLAG, "--plus"),
    "replace": (TEXT, "-I --replace"),
    "replace_ending": (TEXT, "--extensionreplace --er"),
    "replace_name": (TEXT, "--basenamereplace --bnr"),
    "replace_folder": (TEXT, "--dirnamereplace --dnr"),
    "replace_stem": (TEXT, "--basenameextensionreplace --bner"),
    "replace_sequence": (TEXT, "--seqreplace"),
    "replace_slot": (TEXT, "--slotreplace"),
    "directory": (TEXT, "--workdir --wd"),
    "tmpdir": (TEXT, "--tmpdir --tempdir"),
    "help": (FLAG, "--help -h"),
    "version": (FLAG, "--version -V"),
    "citation": (FLAG, "--citation --bibtex"),
    "ignored": (FLAG, "--will-cite --no-notice --gnu"),
}
_KNOWN = {name: (option, kind) for option, (kind, names) in _NAMES.items() for name in names.split()}

_ONE_MACHINE = "heald runs on this machine here; a Python script can use other sites"
_REFUSED = {
    "-S --sshlogin --slf --sshloginfile --onall --nonall --transferfile --transfer --tf --return --trc --basefile --bf "
    "--cleanup --controlmaster --filter-hosts --hostgroups --ssh --sshdelay": _ONE_MACHINE,
    "--semaphore --fg --bg --id --wait --semaphoretimeout": "use flock(1), or a heald session with that many workers",
    "--sqlmaster --sqlworker --sqlandworker": "--joblog and --results FILE.csv keep the same columns in a file",
    "--tmux --tmuxpane --tty -p --interactive": "jobs run without a terminal; --dry-run shows what would be run",
    "--rpl --parens": "they take Perl expressions; --plus has placeholders for the usual cuts and replacements",
    "--round-robin --roundrobin --rr --fifo --tee --shard --bin --group-by": "--pipe starts one job for each block",
    "--load --noswap --memfree --memsuspend --limit --termseq": "the tasks of a script can ask for memory",
    "--shebang --shebang-wrap --hashbang": "write a shell script that calls heald run",
    "--detach": "it is for Python scripts, which keep a journal; here: setsid nohup heald run --joblog FILE ... &",
    "--profile -J --record-env": "write the options out, or define a shell alias",
}
_WHY = {name: why for names, why in _REFUSED.items() for name in names.split()}


def parse(argv: Sequence[str]) -> Options:
    """The options, the command and the input sources in a command line.

    >>> parse(["-kj2", "echo", "{}", ":::", "a", "b"]).sources
    (Source(values=('a', 'b'), file='', linked=False),)

    Raises UsageError for what is not known here, with a hint.
    """
    given: dict[str, list[str]] = {}
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        for option, value in _one(rest):
            given.setdefault(option, []).append(value)
    if rest[:1] == ["--"]:
        del rest[0]
    found: dict[str, object] = {}
    for option, values in given.items():
        kind = _NAMES[option][0]
        found[option] = True if kind == FLAG else tuple(values) if kind == MANY else _typed(option, values[-1])
    options = msgspec.structs.replace(Options(), **found)
    command, sources = _sources(rest, options)
    return msgspec.structs.replace(options, command=tuple(command), sources=tuple(sources))


def _one(rest: list[str]) -> Iterator[tuple[str, str]]:
    """Take one word of options off, with its value."""
    word = rest.pop(0)
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        name = _full(name)
        option, kind = _KNOWN[name]
        if kind == FLAG:
            if equals:
                raise UsageError(f"{name} takes no value", hint=f"write {name} alone")
            yield option, ""
        else:
            yield option, value if equals else _next(rest, name)
        return
    signs = word[1:]
    while signs:
        name, signs = f"-{signs[0]}", signs[1:]
        option, kind = _KNOWN[_full(name)]
        if kind == FLAG:
            yield option, ""
        else:
            yield option, signs or _next(rest, name)
            return


def _next(rest: list[str], name: str) -> str:
    if not rest:
        raise UsageError(f"{name} needs a value", hint="heald run -k --help shows what each option takes")
    return rest.pop(0)


def _full(name: str) -> str:
    """The option that is meant: long names may be cut short where that is clear."""
    if name in _KNOWN:
        return name
    if name in _WHY:
        raise UsageError(f"{name} is not served", hint=_WHY[name])
    meant = [one for one in _KNOWN if name.startswith("--") and one.startswith(name)]
    if len({_KNOWN[one][0] for one in meant}) == 1:
        return meant[0]
    import difflib

    near = meant or difflib.get_close_matches(name, _KNOWN, 3, cutoff=0.7)
    lists = "heald run -k --help lists those there are, heald run script --help those of scripts"
    raise UsageError(f"there is no option {name}", hint=f"did you mean {' or '.join(near)}?" if near else lists)


def _typed(option: str, value: str) -> object:
    if option in ("retries", "nice", "max_replace", "max_lines", "max_chars"):
        if not re.fullmatch(r"-?\d+", value):
            raise UsageError(f"{_NAMES[option][1].split()[0]} {value!r}: must be a whole number")
        return int(value)
    if option == "delay":
        return seconds(value)
    if option in ("delimiter", "recstart", "recend"):
        return unescaped(value)
    if option == "trim" and value not in ("n", "l", "r", "lr", "rl"):
        raise UsageError(f"--trim {value!r}: must be n, l, r, or lr")
    return value


def unescaped(text: str) -> str:
    r"""The text with the escapes that shells' users write.

    >>> unescaped(r"\t"), unescaped(r"\0"), unescaped("_")
    ('\t', '\x00', '_')
    """
    signs = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}

    def meant(found: re.Match[str]) -> str:
        return chr(int(found[1][1:], 16)) if found[1][0] == "x" else signs[found[1]]

    return re.sub(r"\\(x[0-9A-Fa-f]{2}|[ntr0\\])", meant, text)


def _sources(rest: Sequence[str], options: Options) -> tuple[list[str], list[Source]]:
    words, files = options.arg_sep, options.arg_file_sep
    separators = {words: (False, False), words + "+": (False, True), files: (True, False), files + "+": (True, True)}
    command: list[str] = []
    sources = [Source(file=name) for name in options.arg_file]
    mode: tuple[bool, bool] | None = None
    taken: list[str] = []

    def end() -> None:
        if mode is None:
            command.extend(taken)
        elif mode[0]:
            sources.extend(Source(file=name, linked=mode[1]) for name in taken)
        else:
            sources.append(Source(tuple(taken), linked=mode[1]))

    for word in rest:
        if word in separators:
            end()
            mode, taken = separators[word], []
        else:
            taken.append(word)
    end()
    return command, sources or [Source(file="-")]


def job_count(text: str, cores: int) -> int:
    """How many jobs may run at once, 0 for as many as there are inputs: "4", "+1", "-1", "50%", or a file that says so.

    >>> [job_count(text, 8) for text in ("", "3", "50%", "-1", "+2", "0")]
    [8, 3, 4, 7, 10, 0]
    """
    text = text.strip()
    if not text:
        return cores
    if re.fullmatch(r"\d+", text):
        return int(text)
    if re.fullmatch(r"[+-]\d+", text):
        return max(1, cores + int(text))
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)%", text):
        return max(1, int(cores * float(found[1]) / 100))
    if os.path.isfile(text):
        with open(text) as file:
            said = file.read()
        if not os.path.isfile(said.strip()):
            return job_count(said, cores)
    raise UsageError(f"-j {text!r} is no number of jobs", hint="write 4, +1, -1, 50%, or 0 for all at once")


def block_size(text: str) -> int:
    """Bytes: K, M, G are powers of 1024, k, m, g of 1000.

    >>> block_size("1M"), block_size("2k"), block_size("7")
    (1048576, 2000, 7)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgtKMGT]?)", text)
    if found is None:
        raise UsageError(f"--block {text!r} is no size", hint="write 10M, 500k or a number of bytes")
    power = "kmgt".find(found[2].lower()) + 1 if found[2] else 0
    size = int(float(found[1]) * (1024 if found[2].isupper() else 1000) ** power)
    if size < 1:
        raise UsageError("--block must be at least one byte")
    return size
