from __future__ import annotations

import stat

import pytest

from heald.core.errors import ConfigurationError
from heald.run.cluster import settings
from heald.run.cluster.settings import AgentSettings
from heald.site.profile import NodeShape, Site
from heald.wire import key

KEYS = key.new()


@pytest.fixture
def given():
    return AgentSettings(
        allocation="a1",
        endpoints=("tcp://10.0.0.1:5000", "tcp://192.168.0.1:5000"),
        head=KEYS.head.public,
        pair=KEYS.agent,
        run="/runs/1",
        directory="/home/user",
        path=("/home/user/lib",),
        site=Site("mine", scheduler="slurm", node=NodeShape(cores=64), variables={"A": "b"}),
        gpus=("0", "1"),
        initializer=b"\x80\x05pickled",
    )


def test_an_agent_reads_what_the_head_wrote(tmp_path, given):
    settings.write(tmp_path / "a1.json", given)
    assert settings.read(tmp_path / "a1.json") == given


def test_only_the_user_can_read_it(tmp_path, given):
    file = tmp_path / "a1.json"
    settings.write(file, given)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="could be read by others"):
        settings.read(file)


def test_no_secret_is_printed(given):
    assert KEYS.agent.secret not in repr(given)


def test_the_secret_of_the_head_is_not_in_it(tmp_path, given):
    settings.write(tmp_path / "a1.json", given)
    assert KEYS.head.secret not in (tmp_path / "a1.json").read_text()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"allocation": 1}', b"\x00"])
def test_a_file_that_is_none(tmp_path, content):
    file = tmp_path / "a1.json"
    key.write(file, content)
    with pytest.raises(ConfigurationError, match=r"a1\.json does not tell an agent what to do"):
        settings.read(file)


def test_no_file(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file") as raised:
        settings.read(tmp_path / "a1.json")
    assert "started by heald" in raised.value.hint
