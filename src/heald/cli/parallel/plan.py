"""What is to be run, worked out from the options: the jobs one by one, and the command line of each."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator

import msgspec

from heald.cli.parallel.batch import batches, repeats
from heald.cli.parallel.block import Records, blocks, parts, records
from heald.cli.parallel.option import Options, job_count
from heald.cli.parallel.quote import quote
from heald.cli.parallel.shell import shell
from heald.cli.parallel.source import Inputs, Reading, inputs, standard_input
from heald.cli.parallel.template import Facts, Spelling, Template, is_program, near_name
from heald.core.errors import UsageError
from heald.run.command import words as plain_words

_MANY = 250  # jobs at once where all were asked for


class Job(msgspec.Struct):
    """One command to run: `values` for its placeholders, or a `block` for its standard input, or a whole `command`."""

    sequence: int
    values: tuple[str, ...] = ()
    block: bytes | None = None
    command: str = ""
    slot: int = 0
    tries: int = 0
    sent: int = 0


class Plan(msgspec.Struct):
    """The jobs, and how their command lines are made. `total` is 0 where nobody has counted them."""

    options: Options
    jobs: Iterator[Job]
    width: int
    template: Template
    spelling: Spelling
    total: int = 0
    tag: Template | None = None
    repeat: bool = False
    shell: str = msgspec.field(default_factory=shell)

    def waits(self) -> bool:
        """Whether the next job may be long in coming: it is read from somewhere that has nothing just now."""
        return any(source.waits() for source in self.options.sources)

    def facts(self, job: Job) -> Facts:
        """What the job's placeholders stand for, besides values."""
        return Facts(job.sequence, job.slot, self.total)

    def text(self, job: Job) -> str:
        """The job's command line as a shell would read it."""
        return job.command or self.template.text(job.values, self.facts(job), repeat=self.repeat)

    def words(self, job: Job) -> list[str]:
        """The words to start; a shell is among them only where the line needs one."""
        words = None if job.command else self.template.words(job.values, self.facts(job), repeat=self.repeat)
        if words is None:
            words = self._by_shell(self.text(job))
        return ["nice", "-n", str(self.options.nice), *words] if self.options.nice else words

    def _by_shell(self, text: str) -> list[str]:
        if self.template.source == "{}" and text.strip():  # the inputs are command lines: each is looked at by itself
            try:
                words = plain_words(text)
            except UsageError:
                words = ["/bin/sh"]
            if words[0] != "/bin/sh" and is_program(words[0]):
                return words
        return [self.shell, "-c", text]

    def tag_of(self, job: Job) -> bytes:
        """What stands before each line that the job prints."""
        if self.tag is None:
            return b""
        return os.fsencode(self.tag.plainly(job.values, self.facts(job)) + "\t")


def plan(options: Options) -> Plan:
    """What the options ask for. Raises UsageError for what cannot be."""
    width = job_count(options.jobs, len(os.sched_getaffinity(0))) or _MANY
    if options.pipe or options.pipe_part:
        return _of_blocks(options, width)
    found = inputs(options.sources, _reading(options))
    spelling = _spelling(options, found.names)
    template = Template(_command(options), spelling, append=options.max_replace != 0)
    if found.width is not None and options.max_replace is None and options.max_lines is None:
        template.check(found.width)
    if options.header and (warning := near_name(template.source, found.names)):
        print(f"heald run: {warning}", file=sys.stderr)
    values, total = _counted(options, template, found, width)
    made = Plan(options, _jobs(values), width, template, spelling, total)
    made.repeat = repeats(options)
    if options.tag or options.tagstring:
        made.tag = Template(options.tagstring or "{}", spelling, append=False)
    return made


def _jobs(values: Iterable[tuple[str, ...]]) -> Iterator[Job]:
    return (Job(number, one) for number, one in enumerate(values, 1))


def _reading(options: Options) -> Reading:
    return Reading(
        delimiter="\0" if options.null else None if options.delimiter == "\n" else options.delimiter,
        columns=options.colsep,
        csv=options.csv,
        header=bool(options.header),
        stop=options.eof,
        skip_empty=options.skip_empty,
        trim=options.trim.replace("n", ""),
        link=options.link,
    )


def _spelling(options: Options, names: tuple[str, ...]) -> Spelling:
    signs = {
        "{}": options.replace,
        "{.}": options.replace_ending,
        "{/}": options.replace_name,
        "{//}": options.replace_folder,
        "{/.}": options.replace_stem,
        "{#}": options.replace_sequence,
        "{%}": options.replace_slot,
    }
    return Spelling({usual: sign for usual, sign in signs.items() if sign}, names, options.plus)


def _command(options: Options) -> str:
    if options.quote:
        return " ".join(map(quote, options.command))
    return " ".join(options.command)


def _counted(options: Options, template: Template, found: Inputs, width: int) -> tuple[Iterable[tuple[str, ...]], int]:
    """The values of all jobs; read to the end, and counted, only where somebody needs the number or another order."""
    values: Iterable[tuple[str, ...]] = batches(found.rows, options, template, width)
    shown = options.bar or options.eta or options.progress
    if not (options.shuf or shown or "%" in options.halt or template.uses("total")):
        return values, 0
    known = list(values)
    if options.shuf:
        import random

        random.shuffle(known)
    return known, len(known)


def _of_blocks(options: Options, width: int) -> Plan:
    how = records(options)
    spelling = _spelling(options, ())
    template = Template(_command(options) or "cat", spelling, append=False)
    files = [source.file for source in options.sources]
    if not all(files):
        raise UsageError("--pipe cuts a stream: words after ::: are none", hint="give a file with -a, or pipe into it")
    cut: Iterator[bytes]
    if options.pipe_part:
        if "-" in files or how.pattern is None or how.number:
            raise UsageError("--pipepart needs a file, given by -a, and cuts by --block alone", hint="use --pipe")
        for name in files:
            _check_file(name)
        cut = itertools.chain.from_iterable(parts(name, how) for name in files)
    else:
        cut = itertools.chain.from_iterable(_stream(name, how) for name in files)
    jobs = (Job(number, block=block, sent=len(block)) for number, block in enumerate(cut, 1))
    made = Plan(options, jobs, width, template, spelling)
    if options.tag or options.tagstring:
        made.tag = Template(options.tagstring or "{}", spelling, append=False)
    return made


def _stream(name: str, how: Records) -> Iterator[bytes]:
    if name == "-":
        yield from blocks(standard_input(), how)
        return
    _check_file(name)
    with open(name, "rb") as file:
        yield from blocks(file, how)


def _check_file(name: str) -> None:
    try:
        with open(name, "rb"):
            pass
    except OSError as raised:
        raise UsageError(f"{name} cannot be read: {raised.strerror}", hint="-a names the file to cut") from raised
