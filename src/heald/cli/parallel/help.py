"""The text of `heald run -k --help`: of a command that is run over inputs."""

from __future__ import annotations

from heald.cli.parallel.option import Options

_HELP = """\
heald run [options] 'COMMAND {}' ::: a b c   run COMMAND for each input
heald run [options] 'COMMAND {}' :::: file   inputs are the lines of a file
... | heald run [options] 'COMMAND {}'       ... or those of standard input
... | heald run --pipe [options] COMMAND     blocks of standard input, one a job

Examples
  heald run gzip -9 ::: *.log
  heald run 'convert {} {.}.png' ::: *.jpg
  heald run -k 'grep -c {1} {2}' ::: error warning ::: *.log
  heald run --colsep '\\t' 'curl -so {2} {1}' :::: addresses.tsv
  find . -name '*.dat' -print0 | heald run -0 wc -l
  heald run --joblog log --resume './simulate --seed {}' ::: {1..1000}
  zcat big.gz | heald run --pipe --block 10M 'grep -c x'

Placeholders
  {} input   {.} without ending   {/} without folder   {//} its folder
  {/.} without both   {#} number of the job   {%} its slot
  {1} {2.} {-1/} input of one source   {name} the same, with --header :
  --plus: {..} {+.} {##} {%END} {#START} {/OLD/NEW} {:FROM:LENGTH} {^a} {,A}

Inputs
  ::: words   :::: files (- for standard input)
  :::+ ::::+  go along with the source before, as all do with --link
  -a FILE   -0   -d SIGN   --colsep PATTERN   --csv   --header :
  -E STOP   --trim l|r|lr   --shuf
  -r          no empty inputs
  -N COUNT    inputs for each job
  -X, -m      as many as fit   -s SIZE  longest line

Running
  -j COUNT    jobs at once: 4, +1, -1, 50%, 0 for all
  --delay SECONDS     --nice N     --workdir FOLDER
  --retries N                 tries for a job that fails
  --timeout SECONDS|PERCENT%  of the median time so far
  --halt now|soon,fail|success|done=N|N%
  --pipe --block SIZE --recstart TEXT --recend TEXT --regexp --rrs --header N
         -N COUNT -L COUNT --cat    --pipepart -a FILE

Output
  -k          in the order of the inputs
  --tag, --tagstring TEXT     --line-buffer     -u     --files
  --results FOLDER | TEMPLATE | FILE.csv | FILE.tsv | FILE.json
  --joblog FILE, --resume, --resume-failed, --retry-failed
  --dry-run     -v, -t     --bar, --eta, --progress

Exit status: the number of jobs that failed, 101 for more than 100, 255 for a
mistake in the call.
"""


def text(options: Options) -> str:
    """The help, the version, or the word on citations, as asked for."""
    if options.help:
        return _HELP
    if options.version:
        from heald import __version__

        return f"heald {__version__}\n"
    return "heald asks for no citation. Work done with GNU Parallel should cite that: parallel --citation\n"
