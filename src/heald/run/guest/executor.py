"""What executors on clusters of others have in common: their settings, and the client library that each needs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heald.core.errors import ConfigurationError
from heald.run.cluster.executor import ClusterExecutor
from heald.site.profile import Site

if TYPE_CHECKING:
    from heald.run.guest.landlord import Landlord

_USUAL: dict[str, Any] = {
    "address": None, "workers": None, "interface": "", "idle": 5.0, "silence": 10.0, "lease": "1m", "grace": 5.0,
    "initializer": None, "initargs": (),
}  # fmt: skip


class GuestExecutor(ClusterExecutor):
    """Settings that do not depend on whose cluster it is; `module` is the client that it needs, from the `extra`.

    See DaskExecutor for what they mean.
    """

    module = ""
    extra = ""

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        interface: str = "",
        idle: timedelta | float | str = 5.0,
        silence: timedelta | float | str = 10.0,
        lease: timedelta | float | str = "1m",
        grace: timedelta | float | str = 5.0,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        label: str,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in _USUAL}
        del given["address"]
        super().__init__(Site(self.extra), label=label, **given)
        if address is not None and (not isinstance(address, str) or not address):
            raise ConfigurationError(f"address={address!r}: must be a text, or left out")
        self.address = address
        self._given = {name: value for name, value in {"address": address, **given}.items() if value != _USUAL[name]}
        if label != self.extra:
            self._given["label"] = label

    def pool(self, host: Any) -> Any:
        """What carries its attempts out. Raises ConfigurationError when the client of that cluster is not installed."""
        if find_spec(self.module) is None:
            raise ConfigurationError(
                f"{type(self).__name__} needs {self.module}, which is not installed",
                hint=f"pip install 'heald[{self.extra}]'",
            )
        from heald.run.guest.pool import GuestPool

        return GuestPool(self, host)

    def landlord(self, folder: Path) -> Landlord:
        """The cluster, found or started; `folder` is for what it says. Raises SiteError when it does not answer."""
        raise NotImplementedError
