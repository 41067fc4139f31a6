from __future__ import annotations

import tomllib
from datetime import timedelta
from typing import Any

import pytest

from heald.core.errors import ConfigurationError
from heald.site import profile
from heald.site.profile import Limits, NodeShape, Site, toml

FULL = Site(
    "all",
    scheduler="slurm",
    account='a "quoted" one',
    exclusive=False,
    hosts=("n1", "n2"),
    setup=("export X=$HOME", "source 'a b'/activate"),
    variables={"OMP_NUM_THREADS": "4", "odd key": "\x7fü\n"},
    node=NodeShape(cores=64, numa=4, gpus=8, gpu="amd", memory=503 * 2**30),
    queues={
        "batch": Limits(nodes=4, fewest=2, walltime=timedelta(days=2), jobs=3),
        "a.b": Limits(walltime=timedelta(minutes=90)),
        "short": Limits(walltime=timedelta(seconds=30)),
        "free": Limits(),
    },
)


def test_toml_gives_the_site_again() -> None:
    text = toml(FULL)
    assert profile.site(tomllib.loads(text), "all.toml") == FULL
    assert '[queues."a.b"]\nwalltime = "90m"' in text
    assert 'memory = "503GiB"' in text
    assert toml(Site("plain")) == 'name = "plain"'


@pytest.mark.parametrize(
    ("memory", "text"), [(512 * 10**9, "512GB"), (8000 * 2**20, "8000MiB"), (10**6, "1MB"), (123, "123")]
)
def test_memory_as_people_write_it(memory: int, text: str) -> None:
    assert text in toml(Site("a", node=NodeShape(memory=memory)))
    assert profile.site(tomllib.loads(toml(Site("a", node=NodeShape(memory=memory)))), "a").node.memory == memory


def test_it_is_code_too() -> None:
    import datetime

    names = {"Site": Site, "NodeShape": NodeShape, "Limits": Limits, "datetime": datetime}
    assert eval(repr(FULL), names) == FULL


@pytest.mark.parametrize(
    ("table", "message", "hint"),
    [
        ({"queu": "x"}, "f.toml: there is no key queu", "did you mean queue?"),
        ({"zzz": 1}, "f.toml: there is no key zzz", "there are name, scheduler"),
        ({"node": {"core": 1}}, "f.toml: there is no key node.core", "did you mean cores?"),
        ({"queues": {"a": {"walltme": "1h"}}}, "f.toml: there is no key queues.a.walltme", "did you mean walltime?"),
        ({"node": 3}, "f.toml: node must be a table", ""),
        ({"queues": {"a": 3}}, "f.toml: queues.a must be a table", ""),
        ({"queue": 3}, r"f.toml: Expected `str`, got `int` - at `queue`", ""),
        ({"node": {"cores": "many"}}, r"f.toml: Expected `int`, got `str` - at `node.cores`", ""),
        ({"node": {"memory": "lots"}}, r"f.toml: node.memory: 'lots' is no size", "4GB"),
        ({"queues": {"a": {"walltime": "soon"}}}, "f.toml: queues.a.walltime: 'soon' is no duration", "10m"),
    ],
)
def test_mistakes_are_named(table: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        profile.site({"name": "x", **table}, "f.toml")
    assert hint in caught.value.hint


def test_limits_are_those_of_the_queue_or_the_qos() -> None:
    limits = {"batch": Limits(nodes=1), "debug": Limits(nodes=2)}
    assert Site("a", queue="batch", qos="debug", queues=limits).limits.nodes == 1
    assert Site("a", qos="debug", queues=limits).limits.nodes == 2
    assert Site("a", queue="other", queues=limits).limits == Limits()


def test_shapes_in_words() -> None:
    assert NodeShape().words == ""
    assert NodeShape(cores=2, gpus=3).words == "2 cores, 3 GPUs"
