"""The accounting of a Slurm: slurmdbd on the head, and behind it a MariaDB, which is on no host."""

from __future__ import annotations

from pathlib import Path

from tests.testbed.host import HEAD, Hosts
from tests.testbed.keeper import wait_for

_STORE = {"datadir": "database", "socket": "database.socket", "pid-file": "database.pid"}


def settings(munge: Path) -> dict[str, object]:
    """What slurm.conf says of it; `munge` is the socket by which its commands prove who asks."""
    return {
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": HEAD,
        "AccountingStoragePass": munge,
    }


class Accounting:
    """The accounting of one testbed, whose files are in the folder of its Slurm."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self._hosts = hosts
        self._folder = folder

    def up(self, cluster: str, munge: Path) -> None:
        """Start it, and wait until it knows the cluster; the head sees slurmdbd.conf at /etc/slurm."""
        store = {name: self._folder / file for name, file in _STORE.items()}
        words = ["--no-defaults", "--user=root", *(f"--{name}={path}" for name, path in store.items())]
        install = ["mariadb-install-db", *words, "--auth-root-authentication-method=normal", "--skip-test-db"]
        self._hosts.run(HEAD, install, folder=Path("/tmp"))
        # What a crash of the machine would cost is of no matter here.
        quick = ["--skip-networking", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"]
        log = f"{self._folder.name}/database.log"
        self._hosts.spawn(["mariadbd", *words, *quick, "--innodb-lock-wait-timeout=900"], log)
        wait_for(store["socket"].exists, "mariadbd", self._hosts.folder / log)
        self._configure(munge)
        # Where its client looks for the socket.
        self._hosts.at_boot(HEAD, f"mkdir -p /run/mysqld; ln -sf {store['socket']} /run/mysqld/mysqld.sock")
        self._hosts.at_boot(HEAD, "slurmdbd")
        self._await(["sacctmgr", "--immediate", "add", "cluster", cluster])

    def stop(self) -> None:
        """Kill slurmdbd, as an outage does: jobs go on, and sacct fails."""
        self._hosts.run(HEAD, ["pkill", "-KILL", "-x", "slurmdbd"])
        wait_for(lambda: not self.runs, "the end of slurmdbd")

    def start(self) -> None:
        """Start slurmdbd again: slurmctld tells it what it has missed."""
        self._hosts.daemon(HEAD, ["slurmdbd"])
        self._await(["sacct"])

    @property
    def runs(self) -> bool:
        """Whether slurmdbd does."""
        return self._hosts.run(HEAD, ["pgrep", "-x", "slurmdbd"], status=None).returncode == 0

    def _await(self, command: list[str]) -> None:
        def done() -> bool:
            return self._hosts.run(HEAD, command, folder=Path("/tmp"), status=None).returncode == 0

        wait_for(done, "slurmdbd", self._folder / "slurmdbd.log", patience=30)

    def _configure(self, munge: Path) -> None:
        lines: dict[str, object] = {
            "DbdHost": HEAD,
            "SlurmUser": "root",
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={munge}",
            "StorageType": "accounting_storage/mysql",
            "StorageHost": "localhost",
            "StorageUser": "root",
            "StorageLoc": "accounting",
            "PidFile": "/run/slurmdbd.pid",
            "LogFile": self._folder / "slurmdbd.log",
        }
        file = self._folder / "slurmdbd.conf"
        file.touch(mode=0o600)  # as it insists
        file.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
