from __future__ import annotations

from pathlib import Path

import pytest

from heald.core.errors import ConfigurationError
from heald.site import catalog
from heald.site.catalog import find, known
from heald.site.profile import Limits, NodeShape


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of a site is around, and no variable set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEALD_SITE_PATH", raising=False)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", [found.name for found in known()])
def test_every_shipped_profile_is_right(name: str) -> None:
    site = find(name)
    assert site.name == name
    if site.queue:
        assert site.queue in site.queues


def test_facts_that_users_count_on() -> None:
    polaris = find("polaris")
    assert (polaris.scheduler, polaris.launcher, polaris.limits.fewest) == ("pbs", "pals", 10)
    assert find("polaris", queue="debug").limits.nodes == 2
    assert find("frontier").node.gpus == 8
    assert find("perlmutter", qos="debug").limits.nodes == 8


class TestWhere:
    def test_a_file_by_its_path(self, tmp_path: Path) -> None:
        path = write(tmp_path / "mine.toml", 'scheduler = "slurm"')
        assert find(path).name == find("./mine.toml").name == find("mine.toml").name == "mine"
        assert find(path).scheduler == "slurm"

    def test_the_first_that_has_it_wins(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        places = [
            write(tmp_path / "first" / "x.toml", 'queue = "1"'),
            write(tmp_path / "second" / "x.toml", 'queue = "2"'),
            write(tmp_path / "heald.toml", '[sites.x]\nqueue = "3"'),
            write(catalog.user_folder() / "x.toml", 'queue = "4"'),
        ]
        monkeypatch.setenv("HEALD_SITE_PATH", f"{tmp_path / 'first'}:{tmp_path / 'second'}")
        for number, path in enumerate(places, 1):
            assert find("x").queue == str(number)
            assert next(found.path for found in known() if found.name == "x").name == path.name
            path.unlink()
        with pytest.raises(ConfigurationError, match="there is no site 'x'"):
            find("x")

    def test_the_project_s_other_tables_are_no_sites(self, tmp_path: Path) -> None:
        write(tmp_path / "heald.toml", "[other]\nx = 1")
        write(tmp_path / "pyproject.toml", "")
        assert {"other", "pyproject", "heald"} & {found.name for found in known()} == set()

    def test_no_settings_folder_of_the_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
        assert catalog.user_folder() == Path("~/.config/heald/sites").expanduser()


class TestOver:
    def test_a_file_of_the_same_name_changes_the_shipped_one(self) -> None:
        write(catalog.user_folder() / "polaris.toml", 'account = "me"\n[node]\ncores = 31\n[queues.mine]\nnodes = 1')
        site = find("polaris")
        assert (site.account, site.launcher, site.node.cores, site.node.gpus) == ("me", "pals", 31, 4)
        assert site.queues["mine"] == Limits(nodes=1)
        assert site.queues["prod"].nodes == 496

    def test_a_file_of_another_name_can_build_on_one(self, tmp_path: Path) -> None:
        write(tmp_path / "gpu.toml", 'profile = "perlmutter"\nqos = "debug"')
        site = find("gpu.toml")
        assert (site.name, site.constraint, site.limits.nodes) == ("gpu", "gpu", 8)

    def test_argument_over_environment_over_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write(catalog.user_folder() / "polaris.toml", 'queue = "debug"\naccount = "file"')
        monkeypatch.setenv("HEALD_SITE_QUEUE", "capacity")
        monkeypatch.setenv("HEALD_SITE_ACCOUNT", "variable")
        site = find("polaris", account="argument", qos=None)
        assert (site.account, site.queue) == ("argument", "capacity")

    def test_records_as_arguments(self) -> None:
        site = find("polaris", node=NodeShape(cores=2), queues={"q": {"nodes": 1}})
        assert site.node == NodeShape(cores=2)
        assert site.queues["q"] == Limits(nodes=1)


class TestMistakes:
    def test_a_name_that_is_nearly_right(self) -> None:
        with pytest.raises(ConfigurationError, match="there is no site 'polars'") as caught:
            find("polars")
        assert caught.value.hint == "did you mean polaris?"

    def test_a_profile_that_is_not_there(self, tmp_path: Path) -> None:
        write(tmp_path / "x.toml", 'profile = "perlmuter"')
        with pytest.raises(ConfigurationError, match=r"x.toml: there is no profile 'perlmuter'") as caught:
            find("x.toml")
        assert caught.value.hint == "did you mean perlmutter?"

    def test_an_argument_that_is_no_field(self) -> None:
        with pytest.raises(ConfigurationError, match="there is no key acount") as caught:
            find("polaris", acount="x")
        assert caught.value.hint == "did you mean account?"

    @pytest.mark.parametrize(
        ("text", "message"),
        [("x =", "is no TOML"), ('sites = "x"', "sites must be tables"), ("[sites]\nx = 1", "sites must be tables")],
    )
    def test_files_that_are_wrong(self, tmp_path: Path, text: str, message: str) -> None:
        write(tmp_path / "heald.toml", text)
        with pytest.raises(ConfigurationError, match=message):
            find("slurm")

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"cannot read none.toml: No such file"):
            find("none.toml")
        (tmp_path / "bad.toml").write_bytes(b"\xff")
        with pytest.raises(ConfigurationError, match=r"cannot read bad.toml: .*utf-8"):
            find("bad.toml")
