"""Where sites are found by name, and what overrides what: argument > environment > file > shipped profile."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from heald.core.errors import ConfigurationError
from heald.site.profile import Site, site

_SHIPPED = Path(__file__).parent / "shipped"
_PROJECT = Path("heald.toml")  # its tables [sites.NAME]
_LOCAL = "local"
# What a variable HEALD_SITE_<KEY> may override: what differs between two jobs of one user.
_VARIABLES = (
    "account", "queue", "qos", "constraint", "launcher", "interface", "login", "python", "scratch",
)  # fmt: skip


class Found(msgspec.Struct, frozen=True):
    """A site that there is: its `name`, and the file that describes it."""

    name: str
    path: Path


def find(name: str | os.PathLike[str] = _LOCAL, **changes: Any) -> Site:
    """The Site of that name, or of that TOML file, with `changes` to its fields; None changes nothing.

    A name is looked up in the folders of $HEALD_SITE_PATH, in ./heald.toml (tables `[sites.NAME]`), in
    ~/.config/heald/sites/NAME.toml and among the profiles that come with heald; the first file wins. One that says
    `profile = "polaris"`, or has the name of a shipped profile, needs to say only what is different from it.

    >>> find("polaris", account="my-project").queue
    'prod'

    Raises ConfigurationError when there is none of that name, or its file cannot be read or is wrong.
    """
    path, table = _file(name)
    label = str(table.get("name") or (Path(name).stem if _is_path(name) else name))
    profile = str(table.pop("profile", label))
    shipped = _SHIPPED / f"{profile}.toml"
    merged: dict[str, Any] = {}
    if shipped.exists() and shipped != path:
        merged = _read(shipped)
    elif profile != label:
        raise _unknown(profile, f"{path}: there is no profile", list(_paths(_SHIPPED)))
    _merge(merged, table)
    _merge(merged, {key: value for key in _VARIABLES if (value := os.environ.get(f"HEALD_SITE_{key.upper()}"))})
    _merge(merged, {key: _plain(value) for key, value in changes.items() if value is not None})
    merged["name"] = label
    return site(merged, str(path))


def known() -> list[Found]:
    """All sites that `find` finds by name, each once, those of the user first."""
    found: dict[str, Found] = {}
    for folder in _folders():
        paths = dict.fromkeys(_project(), _PROJECT) if folder is None else _paths(folder)
        for name, path in paths.items():
            found.setdefault(name, Found(name, path))
    return list(found.values())


def user_folder() -> Path:
    """Where the user's own sites are: `$XDG_CONFIG_HOME/heald/sites`, by default under `~/.config`."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG Base Directory Specification asks to ignore a relative path.
    return (Path(config) if os.path.isabs(config) else Path("~/.config").expanduser()) / "heald" / "sites"


def _file(name: str | os.PathLike[str]) -> tuple[Path, dict[str, Any]]:
    """The file that describes the site, and its table."""
    if _is_path(name):
        path = Path(name)
        return path, _read(path)
    for folder in _folders():
        if folder is None:
            if (table := _project().get(os.fspath(name))) is not None:
                return _PROJECT, dict(table)
        elif (path := folder / f"{name}.toml").exists():
            return path, _read(path)
    raise _unknown(os.fspath(name), "there is no site", [found.name for found in known()])


def _folders() -> Iterator[Path | None]:
    """Where files of sites are, in order; None stands for the project's heald.toml."""
    yield from (Path(folder) for folder in os.environ.get("HEALD_SITE_PATH", "").split(os.pathsep) if folder)
    yield None
    yield user_folder()
    yield _SHIPPED


def _project() -> Mapping[str, Any]:
    if not _PROJECT.exists():
        return {}
    sites = _read(_PROJECT).get("sites", {})
    if not isinstance(sites, dict) or not all(isinstance(table, dict) for table in sites.values()):
        raise ConfigurationError(f"{_PROJECT}: sites must be tables", hint="write each as [sites.NAME]")
    return sites


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {getattr(error, 'strerror', '') or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}") from error


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Tables are merged key by key, all else is replaced."""
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = dict(value) if isinstance(value, Mapping) else value


def _plain(value: Any) -> Any:
    return msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else value


def _paths(folder: Path) -> dict[str, Path]:
    """The files of sites in a folder, by name."""
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _unknown(name: str, problem: str, names: list[str]) -> ConfigurationError:
    near = get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}; `heald site ls` says where"
    return ConfigurationError(f"{problem} {name!r}", hint=hint)


def _is_path(name: str | os.PathLike[str]) -> bool:
    return isinstance(name, os.PathLike) or "/" in name or name.endswith(".toml")
