from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heald.compat.parsl.app import python_app
from heald.compat.parsl.error import BadCheckpoint
from heald.compat.parsl.kernel import DataFlowKernel
from heald.compat.parsl.memo import BasicMemoizer, id_for_memo
from heald.compat.parsl.tool import get_all_checkpoints


@python_app(cache=True, ignore_for_cache=["note"])
def token(x: Any, note: str = "") -> object:
    import uuid

    return uuid.uuid4().hex


def test_equal_calls_run_once(threads: DataFlowKernel) -> None:
    first, second = token(1), token(1, note="other")
    assert first.result() == second.result()
    assert token(2).result() != first.result()
    assert second.task_status() == "memo_done"


def test_what_cannot_be_named_is_run(threads: DataFlowKernel) -> None:
    assert token(object()).result() != token(object()).result()


def test_types() -> None:
    assert id_for_memo({1: "a", 2: {3}}) == id_for_memo({2: {3}, 1: "a"})
    assert id_for_memo([1]) != id_for_memo((1,))
    with pytest.raises(ValueError, match="unknown type"):
        id_for_memo(object())


def test_checkpoints(load: Callable[..., DataFlowKernel], tmp_path: Path) -> None:
    found = []
    for _ in range(3):
        with load(memoizer=BasicMemoizer(checkpoint_mode="task_exit")):
            found.append(token(1).result())
    assert len(set(found)) == 1
    assert len(get_all_checkpoints(str(tmp_path / "runinfo"))) == 3


def test_manual(load: Callable[..., DataFlowKernel]) -> None:
    memoizer = BasicMemoizer(checkpoint_mode="manual")
    kernel = load(memoizer=memoizer)
    token(1).result()
    file = Path(kernel.run_dir, "checkpoint", "tasks.pkl")
    assert not file.exists()
    memoizer.checkpoint()
    assert file.exists()


def test_damaged(tmp_path: Path) -> None:
    (tmp_path / "tasks.pkl").write_bytes(b"nonsense")
    with pytest.raises(BadCheckpoint, match=r"tasks\.pkl"):
        BasicMemoizer().load_checkpoints([str(tmp_path)])
