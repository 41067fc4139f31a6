from __future__ import annotations

import pytest

from heald.site.hostlist import expand, fold


@pytest.mark.parametrize(
    ("folded", "hosts"),
    [
        ("", ()),
        ("n1", ("n1",)),
        ("n1,n3", ("n1", "n3")),
        ("n[1,3-5]", ("n1", "n3", "n4", "n5")),
        ("nid[000098-000101]", ("nid000098", "nid000099", "nid000100", "nid000101")),
        ("a[1-2]b[3,5],c", ("a1b3", "a1b5", "a2b3", "a2b5", "c")),
        ("x1-[2]", ("x1-2",)),
    ],
)
def test_expand(folded: str, hosts: tuple[str, ...]) -> None:
    assert expand(folded) == hosts


@pytest.mark.parametrize(
    ("hosts", "folded"),
    [
        ((), ""),
        (("n1",), "n1"),
        (("n1", "n1"), "n1"),
        (("n3", "n1", "n4"), "n[1,3-4]"),
        (("n9", "n10", "n11"), "n[9-11]"),
        (("nid000099", "nid000100"), "nid[000099-000100]"),
        (("login", "x1-2"), "login,x1-2"),
    ],
)
def test_fold(hosts: tuple[str, ...], folded: str) -> None:
    assert fold(hosts) == folded
    assert sorted(expand(folded)) == sorted(set(hosts))
