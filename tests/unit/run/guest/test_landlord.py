from __future__ import annotations

import pickle

import heald
from heald.run.guest.landlord import ClusterLost, Look, Place


def test_a_look_travels_between_processes() -> None:
    look = Look((Place("a", 2),), (), {"agent": "why"})
    assert pickle.loads(pickle.dumps(look)) == look


def test_a_lost_cluster_is_a_fault_of_the_site() -> None:
    lost = pickle.loads(pickle.dumps(ClusterLost("gone")))
    assert isinstance(lost, heald.SiteError)
    assert lost.message == "gone"
