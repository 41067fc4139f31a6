"""The scheduler of a site: heald's own adapters by name, others by entry point."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from heald.core.errors import ConfigurationError
from heald.site import command, login
from heald.site.command import Ask
from heald.site.profile import Site
from heald.site.throttle import Throttle

GROUP = "heald.scheduler"  # entry points: a class with a classmethod `of(site, ask)`
_OWN = {
    "local": "heald.site.local:Local",
    "ssh": "heald.site.ssh:Ssh",
    "slurm": "heald.site.slurm:Slurm",
    "pbs": "heald.site.pbs:Pbs",
    "flux": "heald.site.flux:Flux",
    "lsf": "heald.site.lsf:Lsf",
    "gridengine": "heald.site.gridengine:GridEngine",
}
_INTERVAL = {"local": 0.1, "ssh": 0.1}  # of those that start processes of this machine, and ask no programs


def connect(site: Site, interval: float | None = None, ask: Ask | None = None) -> Throttle:
    """The scheduler of a site, protected from being asked more often than every `interval` seconds (by default 10).

    `ask` runs its programs; by default here, or on the `login` node of the site.

    >>> connect(Site("here")).status(["none"])["none"].state.name
    'missing'

    Raises ConfigurationError when there is none of that name.
    """
    check(site)
    found = _class(site.scheduler).of(site, ask or (login.over(site.login) if site.login else command.ask))
    return Throttle(found, _INTERVAL.get(site.scheduler, 10.0) if interval is None else interval)


def check(site: Site) -> None:
    """Raise ConfigurationError when the scheduler of a site cannot be asked on its login node."""
    if site.login and site.scheduler in _INTERVAL:
        raise ConfigurationError(
            f"{site.name} is behind {site.login}, and its scheduler {site.scheduler!r} starts processes here alone",
            hint=f"say which scheduler there is: heald site detect NAME --login {site.login}",
        )


def _class(name: str) -> Any:
    if name in _OWN:
        module, _, attribute = _OWN[name].partition(":")
        return getattr(import_module(module), attribute)
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name in others:
        return others[name].load()
    known = [*_OWN, *others]
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise ConfigurationError(f"there is no scheduler {name!r}", hint=hint)
