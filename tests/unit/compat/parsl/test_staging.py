from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heald.compat.parsl import staging
from heald.compat.parsl.app import python_app
from heald.compat.parsl.error import DependencyError, ZipAuthorityError
from heald.compat.parsl.executor import ThreadPoolExecutor
from heald.compat.parsl.file import File
from heald.compat.parsl.kernel import DataFlowKernel


@python_app
def copy(inputs: Any = (), outputs: Any = ()) -> str:
    text = Path(inputs[0]).read_text()
    for file in outputs:
        Path(file).write_text(text)
    return text


class Local(staging.Staging):
    """Files of the scheme `far`, which live in a folder; brought by a task or inside of one."""

    def __init__(self, root: Path, *, inside: bool) -> None:
        self.root, self.inside = root, inside

    def can_stage_in(self, file: File) -> bool:
        return file.scheme == "far"

    def stage_in(self, dm: staging.DataManager, executor: str, file: File, parent_fut: Any) -> Any:
        file.local_path = f"{dm.dfk.executors[executor].working_dir}/{file.filename}"
        if self.inside:
            return None
        url = f"file://{self.root / file.filename}"
        return dm.task(staging._fetch_task, executor, url, outputs=[file], parent_fut=parent_fut)._outputs[0]

    def replace_task(self, dm: staging.DataManager, executor: str, file: File, func: Any) -> Any:
        return (
            staging._Around(func, before=(f"file://{self.root / file.filename}", file.filepath))
            if self.inside
            else None
        )


@pytest.mark.parametrize("inside", [False, True])
def test_stage_in(load: Callable[..., DataFlowKernel], tmp_path: Path, inside: bool) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.txt").write_text("hello")
    here = tmp_path / "here"
    load(executors=[ThreadPoolExecutor(working_dir=here, storage_access=[Local(tmp_path / "far", inside=inside)])])
    assert copy(inputs=[File("far://x/a.txt")]).result() == "hello"
    assert (here / "a.txt").exists()
    missing = copy(inputs=[File("far://x/b.txt")]).exception()
    assert isinstance(missing, OSError | DependencyError)
    with pytest.raises(ValueError, match="cannot stage"):
        copy(inputs=[File("other://x/a.txt")])


def test_zip_both_ways(load: Callable[..., DataFlowKernel], tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("in/a.txt", "hello")
    load(executors=[ThreadPoolExecutor(working_dir=tmp_path / "work")])
    future = copy(inputs=[File(f"zip:{archive}/in/a.txt")], outputs=[File(f"zip:{archive}/out/b.txt")])
    future.outputs[0].result()
    assert zipfile.ZipFile(archive).read("out/b.txt") == b"hello"
    with pytest.raises(ZipAuthorityError):
        copy(inputs=[File("zip://host/a.zip/x")])


def test_data_futures_link_tasks(threads: DataFlowKernel, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("hello")
    first = copy(inputs=[File(tmp_path / "a")], outputs=[File(tmp_path / "b")])
    assert copy(inputs=[first.outputs[0]]).result() == "hello"
