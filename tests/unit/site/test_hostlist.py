from __future__ import annotations

import pytest

from heald.site.hostlist import expand


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
