from __future__ import annotations

from typing import Any

import pytest

from heald.core.errors import SchedulerUnreachable, SiteError, SubmitFailed
from heald.site import command
from heald.site.command import Answer, Programs, ask


class TestAsk:
    def test_tells_what_it_printed(self) -> None:
        answer = ask(["sh", "-c", 'cat; echo "$X" >&2; exit 3'], "in", {"X": "1"})
        assert answer == Answer(3, "in", "1\n")

    def test_a_program_that_is_not_there(self) -> None:
        with pytest.raises(SiteError, match="cannot run no-such-program: No such file") as caught:
            ask(["no-such-program"])
        assert "login nodes" in caught.value.hint

    def test_one_that_hangs_is_ended_with_what_it_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(command, "DEADLINE", 0.1)
        with pytest.raises(SchedulerUnreachable, match=r"sh -c did not end within 0.1 s"):
            ask(["sh", "-c", "sleep 60 & sleep 60"])

    def test_words_in_one_line(self) -> None:
        assert Answer(1, "out", " a\n  b \n").words == "a b"
        assert Answer(1, "out\n").words == "out"
        assert Answer(7).words == "exit status 7"


class TestPrograms:
    @pytest.fixture
    def programs(self, program: Any) -> Programs:
        return Programs(program, "no route", {"queue": "choose another", "que": "never"})

    def test_errors_have_the_programs_words_and_a_hint(self, program: Any, programs: Programs) -> None:
        program.answers["x"] = Answer(2, "", "no such Queue\n")
        with pytest.raises(SiteError, match="x: no such Queue") as caught:
            programs.run("x", "-y")
        assert caught.value.hint == "choose another"
        assert programs.run("x", unless="no SUCH").status == 2
        with pytest.raises(SubmitFailed, match="x refused the job a: no such Queue"):
            programs.submit("a", "x", text="")

    def test_nobody_answers(self, program: Any, programs: Programs) -> None:
        program.answers["x"] = Answer(1, "No route to host\n")
        for call in (lambda: programs.run("x", unless="route"), lambda: programs.submit("a", "x", text="")):
            with pytest.raises(SchedulerUnreachable, match="x: No route to host"):
                call()

    def test_what_it_says_when_all_is_well(self, program: Any, programs: Programs) -> None:
        program.answers["x"] = Answer(0, "no route, all the same\n")
        assert programs.submit("a", "x", "-y", text="hello") == "no route, all the same\n"
        assert (program.asked, program.texts) == ([("x", "-y")], ["hello"])
