"""`heald run CMD ::: ...` beside GNU Parallel itself: the same command lines, the same output and exit status.

The cases follow the steps of GNU Parallel's tutorial as far as they speak of one machine, with inputs of our own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("parallel") is None, reason="GNU Parallel is not installed"),
]

HEALD = [sys.executable, "-c", "import sys; from heald.cli.parallel import main; sys.exit(main(sys.argv[1:]))"]
PARALLEL = ["parallel", "--will-cite"]
NUMBERS = "".join(f"{number}\n" for number in range(1, 3001))


def both(folder: Path, words: list[str], text: str = "") -> list[tuple[int, str]]:
    """Exit status and standard output of either, each in a folder of its own with the same files."""
    found = []
    for name, tool in (("gnu", PARALLEL), ("heald", HEALD)):
        place = folder / name
        place.mkdir(exist_ok=True)
        for file, content in FILES.items():
            (place / file).write_text(content)
        around = {
            **os.environ,
            "PARALLEL_SHELL": "/bin/bash",
            "PARALLEL_HOME": str(folder / "home"),
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run([*tool, *words], cwd=place, input=text, capture_output=True, text=True, env=around)
        found.append((done.returncode, done.stdout))
    return found


FILES = {
    "greek": "alpha\nbeta\ngamma\n",
    "latin": "uno\ndue\ntre\n",
    "nul": "a b\0c\nd\0",
    "under": "p_q_r_",
    "table.tsv": "city\tsize\nRome\t3\nOslo\t1\n",
    "numbers": NUMBERS,
}

SAME = {
    # inputs
    "words": "-k echo ::: x y z",
    "file": "-k -a greek echo",
    "standard input": "-k echo",
    "product": "-k echo ::: x y ::: 1 2 3",
    "files": "-k -a greek -a latin echo",
    "stdin and file": "-k echo :::: - latin",
    "words and file": "-k echo ::: x y :::: latin",
    "link": "-k --link echo ::: x y z ::: 1 2",
    "link to the source before": "-k echo :::: greek :::+ 1 2 3 :::: latin",
    "link a file to words": "-k echo ::: 1 2 3 ::::+ latin ::: x",
    "link ends with the shortest": "-k echo ::: a b c :::+ 1 2",
    "other separators": "-k --arg-sep // --arg-file-sep ;; echo // a b ;; latin",
    "delimiter": "-k -d _ echo :::: under",
    "nul": ["-k", "-0", "printf '<%s>'", "::::", "nul"],
    "stop": "-k -E tre echo ::: uno due tre quattro",
    "empty lines": "-k echo x{}x",
    "no empty lines": "-k -r echo x{}x",
    "columns": ["-k", "--colsep", r"\t", "echo", "{2}/{1}", "::::", "table.tsv"],
    "header": "-k --header : echo {b}-{a} ::: a 1 2 ::: b 3 4",
    "header of a table": ["-k", "--header", ":", "--colsep", r"\t", "echo {city}={size}", "::::", "table.tsv"],
    "trim l": ["-k", "--trim", "l", "echo", "x{}x", ":::", " a "],
    "trim r": ["-k", "--trim", "r", "echo", "x{}x", ":::", " a "],
    "trim lr": ["-k", "--trim", "lr", "echo", "x{}x", ":::", " a "],
    # the command line
    "commands as inputs": ["-k", ":::", "echo a; echo b", "echo c", "exit 3"],
    "placeholders": "-k echo {} {.} {/} {//} {/.} {#} ::: a/b.c d e.tar.gz /x/y .z w/",
    "slot": "-j1 echo {%} ::: a b c",
    "positions": "-k echo {1} {2/} {2//} {1.} {-1/.} {-2} ::: a.b c ::: d/e.f",
    "other signs": "-k -I // --seqreplace @@ echo // @@ ::: a b",
    "other ending": "-k --er // echo // ::: a.b c.d",
    "other name": "-k --bnr // echo // ::: a/b",
    "other folder": "-k --dnr // echo // ::: a/b",
    "other stem": "-k --bner // echo // ::: a/b.c",
    "plus": "-k --plus echo {..} {...} {/..} {/...} {+/} {+.} {+..} {+...} {#}/{##} ::: d/s/f.x.y.z plain",
    "plus dynamic": "-k --plus echo {:-none} {:2} {:1:2} {#ab} {%ef} {/cd/XY} {^a} {^^e} ::: abcdef eee",
    "plus default": ["--plus", "echo", "{:-none}", ":::", ""],
    "plus lower": ["-k", "--plus", "echo", "{,A} {,,A}", ":::", "AbA"],
    "three at a time": "-k -N3 echo 1={1} 2={2} {#} ::: a b c d",
    "three at a time around": "-k -N3 echo x{}y ::: a b c d",
    "two of two sources": "-k -N2 echo ::: a b c ::: d e",
    "none": "-k -N0 echo same ::: a b c",
    "shared out": "-k -j2 -m echo x{}y {} ::: a b c d e",
    "shared out around": "-k -j2 -X echo x{}y {} ::: a b c d e",
    "shared out at most two": "-k -j2 -X -n2 echo ::: a b c d e",
    "lines": "-k -L2 echo ::: a b c",
    "as they are": ["-k", "-q", "echo", "$HOME", "a  b", "*", "{}", ":::", "$HOME"],
    "quotes": ["-k", "printf '<%s>\\n'", ":::", "a b", "it's", '"', "$HOME", "`id`", "*", "~", "\\", "", "é"],
    "shellquote": ["--shellquote", ":::", "a b*"],
    "braces that are none": ["echo {x} | awk '{print $1, $2}'", ":::", "a"],
    "a builtin": "cd / && pwd ::: a",
    "bare builtin": "exit ::: 3",
    "missing command": "nosuchcommand ::: a",
    # output
    "tag": ["-k", "--tag", "echo {}; echo again", ":::", "a b", "c"],
    "tag text": "-k --tagstring {1}+{2} echo ::: a b ::: c",
    "tag lines": ["--line-buffer", "--tag", "echo 1; echo 2", ":::", "x"],
    "dry run": ["-k", "--dry-run", "echo {} {.}", ":::", "a b.c", "it's", "$x", "d"],
    "verbose": "-k -v echo ::: a b",
    "verbose tag": "-k -v --tag echo ::: a b",
    "no newline": ["-k", "printf", ":::", "a", "b"],
    "ungrouped": "-j1 -u echo ::: a b",
    "line buffer": ["-j1", "--line-buffer", "echo {}; echo {} again", ":::", "a", "b"],
    "results": ["--results", "out", "-k", "echo {1} {2}; echo e >&2", ":::", "a/b", "c d", ":::", "A"],
    "results as csv": "--results -.csv -k echo ::: a ::: b",
    # how it runs
    "failures": "-k exit ::: 0 1 2 0 3",
    "many failures": ["false", ":::", *map(str, range(120))],
    "a signal": ["-k", "kill -9 $$", ":::", "a"],
    "retries": ["-k", "--retries", "3", "echo {} >> tries-{}; wc -l < tries-{}; exit {}", ":::", "1", "0"],
    "timeout": ["--timeout", "1", "-k", "echo begun; sleep {}; echo ended", ":::", "0", "30"],
    "halt now": ["-j1", "--halt", "now,fail=1", "echo {}; exit {}", ":::", "0", "7", "0"],
    "halt soon": ["-j1", "--halt", "soon,fail=2", "echo {}; exit {}", ":::", "0", "7", "8", "0"],
    "halt percent": ["-j1", "--halt", "soon,fail=50%", "echo {}; exit {}", ":::", "0", "7", "8", "9", "0"],
    "halt success": ["-j1", "--halt", "now,success=1", "echo {}; exit {}", ":::", "1", "0", "2"],
    "halt done": ["-j1", "--halt", "now,done=2", "echo {}; exit {}", ":::", "1", "0", "2"],
    "halt as of old": ["-j1", "--halt", "2", "echo {}; exit {}", ":::", "1", "0", "2"],
    "nice": ["--nice", "7", "nice; : ", ":::", "a"],
    "sequence": ["-k", "echo $PARALLEL_SEQ", ":::", "a", "b"],
    "half the cores": "-j50% -k echo ::: a b",
    "delay": "--delay 0.01 -k echo ::: a b",
    "environment": ["--env", "HOME", "echo $HOME", ":::", "a"],
    # blocks of a stream
    "blocks": "-k --pipe --block 1k wc",
    "blocks of K": "-k --pipe --block 1K wc",
    "records": "-k --pipe -N700 wc",
    "groups of lines": "-k --pipe --block 500 -L7 wc",
    "one block": "--pipe cat",
    "block file": ["-k", "--pipe", "--block", "5k", "--cat", "wc -l < {}"],
    "parts": "-k --pipepart -a numbers --block 3k wc",
    "job of a block": ["-k", "--pipe", "--block", "5k", "echo {#}; head -n 1"],
    "tag of a block": "-k --tag --pipe --block 5k wc",
}
TEXT = {
    "empty lines": "a\n\nb\n",
    "no empty lines": "a\n\nb\n",
    "standard input": "a b\nc\n",
    "stdin and file": "1\n2\n",
}
RECORDS = "/one, two/, /three, four/, \n"
SPLIT = {
    "recend": (["-N1", "--recend", ", "], RECORDS),
    "recstart": (["-N1", "--recstart", "/"], RECORDS),
    "both": (["-N1", "--recend", ", ", "--recstart", "/"], RECORDS),
    "pattern": (["-N1", "--regexp", "--recend", ",_+"], "a,b,_c,__d,\n"),
    "without": (["-N1", "--rrs", "--regexp", "--recend", ",_+"], "a,b,_c,__d,\n"),
    "header lines": (["-N3", "--header", "2"], "%h\n%i\n1\n2\n3\n4\n"),
    "header pattern": (["-N3", "--header", "(%.*\n)*"], "%h\n%i\n1\n2\n3\n4\n"),
    "fixed length": (["--header", ".{4}", "--block", "3", "--recend", ""], "HEADaaabbbcc"),
}


@pytest.mark.parametrize("name", SAME)
def test_same(name: str, tmp_path: Path) -> None:
    case = SAME[name]
    words = case.split() if isinstance(case, str) else case
    gnu, ours = both(tmp_path, words, TEXT.get(name, NUMBERS if "--pipe" in words else ""))
    if "csv" in name:
        gnu, ours = ((code, re.sub(r":,[\d.]+,[\d.]+", ":,T,T", text)) for code, text in (gnu, ours))
    if "--pipe" in words or "--pipepart" in words:  # wc pads its numbers when it reads a pipe, and we give it a file
        gnu, ours = (
            (code, "\n".join(" ".join(line.split()) for line in text.split("\n"))) for code, text in (gnu, ours)
        )
    assert ours == gnu
    assert files(tmp_path / "heald") == files(tmp_path / "gnu")


@pytest.mark.parametrize("name", SPLIT)
def test_same_records(name: str, tmp_path: Path) -> None:
    options, text = SPLIT[name]
    gnu, ours = both(tmp_path, ["-k", "--pipe", *options, "echo JOB; cat; echo END"], text)
    assert ours == gnu


def files(folder: Path) -> dict[str, str]:
    """What there is in a folder."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_log_of_either_is_resumed_by_the_other(tmp_path: Path) -> None:
    """The same columns; each goes on where the other stopped."""
    for first, second in ((PARALLEL, HEALD), (HEALD, PARALLEL)):
        log = tmp_path / "log"
        runs = [
            [*first, "--joblog", str(log), "-j1", "exit {}", ":::", "1", "2", "0"],
            [*second, "--joblog", str(log), "--resume", "-j1", "exit {}", ":::", "1", "2", "0", "5"],
            [*second, "--joblog", str(log), "--resume-failed", "-j1", "exit {}", ":::", "1", "2", "0", "5"],
            [*first, "--joblog", str(log), "--retry-failed", "-j1"],
        ]
        codes = [subprocess.run(words, cwd=tmp_path, stdin=subprocess.DEVNULL).returncode for words in runs]
        assert codes == [2, 1, 3, 3]
        lines = [line.split("\t") for line in log.read_text().splitlines()]
        assert lines[0][:4] == ["Seq", "Host", "Starttime", "JobRuntime"]
        assert [line[0] for line in lines[1:]] == ["1", "2", "3", "4", "1", "2", "4", "1", "2", "4"]
        assert [line[6] for line in lines[1:]] == ["1", "2", "0", "5", "1", "2", "5", "1", "2", "5"]
        assert {line[8] for line in lines[1:]} == {"exit 1", "exit 2", "exit 0", "exit 5"}
