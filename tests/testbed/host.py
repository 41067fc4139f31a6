"""Hosts on one machine: n0, the head node, and n1, n2... each with a network card, a name, processes of its own.

What a host does when it is switched on is in boot.sh; how the hosts are joined, and how that breaks, in network.py.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from tests.testbed import network
from tests.testbed.keeper import ENVIRONMENT, Keeper, TestbedFailed, wait_for

HEAD = "n0"
LOCAL = Path("/run/local")  # on every host another folder: its own disk
TIMEOUT = 60.0  # seconds for a command on a host

_BOOT = Path(__file__).with_name("boot.sh")
# What belongs to a host: the children of its init with such names, and what these start at once.
_DAEMONS = {"sshd", "slurmd", "slurmctld", "slurmdbd", "sge_execd", "sge_qmaster"}
_OF_DAEMONS = {"slurmscriptd"}

_SSHD = """\
Port 22
HostKey {folder}/hostkey
PidFile /run/sshd.pid
AuthorizedKeysFile {folder}/key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
MaxStartups 200:30:400
MaxSessions 200
AcceptEnv *
"""

_SSH = """\
Host *
  IdentityFile {folder}/key
  IdentitiesOnly yes
  StrictHostKeyChecking yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  ConnectTimeout 5
  BatchMode yes
  LogLevel ERROR
"""


class Process(subprocess.Popen[str]):
    """A program on a host: signals go to the program itself, and it does not outlive this process."""

    def send_signal(self, sig: int) -> None:
        """Signal the program on its host."""
        if self.poll() is None:
            try:
                os.kill(self.inner, sig)
            except ProcessLookupError:
                pass

    @property
    def inner(self) -> int:
        """The program's PID as this machine sees it."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        wait_for(lambda: children.read_text() or self.poll() is not None, f"the start of {self.args!r}")
        return int(children.read_text().split()[0])


class Hosts:
    """The hosts of one testbed. Names are "n0" (the head), "n1" and so on."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self.network = network.Network(keeper)
        self.folder = keeper.folder
        self.names = sorted((file.parent.name for file in self.folder.glob("n*/log")), key=lambda name: int(name[1:]))
        self.nodes = self.names[1:]
        self._filled: list[tuple[str, Path]] = []  # folders that are full disks now

    @classmethod
    def up(cls, name: str, nodes: int = 4, *, tied: bool = True) -> Hosts:
        """Start n0 to n`nodes`; `tied` hosts end with this process, others only by `down`."""
        keeper = Keeper.start(name, tied=tied)
        try:
            names = [f"n{number}" for number in range(nodes + 1)]
            _write_files(keeper.folder, names)
            hosts = cls(keeper)
            hosts.network.start(names)
            for host in names:
                hosts._switch_on(host)
            for host in names:
                hosts._await(host)
        except BaseException:
            keeper.end()
            raise
        return hosts

    @classmethod
    def find(cls, name: str) -> Hosts:
        """The hosts of a testbed that is up, whoever started it."""
        return cls(Keeper.find(name))

    def down(self) -> None:
        """End all hosts and everything on them, and remove the testbed's folder."""
        self._keeper.end()

    def start(
        self,
        host: str,
        command: Sequence[object],
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] = {},
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> Process:
        """Begin a program on a host, in the caller's environment and folder unless told otherwise.

        The commands of the testbed's scheduler and the programs beside this interpreter are on its PATH.
        """
        words = [str(word) for word in command]
        # The program dies with nsenter, which waits for it here; a signal to it goes through Process.send_signal.
        return Process(
            [*self._enter(host, folder or Path.cwd()), "setpriv", "--pdeathsig=KILL", "--", *words],
            env=self.environment(environment),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )

    def run(
        self,
        host: str,
        command: Sequence[object],
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] = {},
        text: str = "",
        status: int | None = 0,
        timeout: float = TIMEOUT,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on a host to its end, `text` being its input, and give what it printed.

        Raises TestbedFailed unless it ends with `status` (None: any) within `timeout` seconds.
        """
        with self.start(host, command, folder=folder, environment=environment, stdin=subprocess.PIPE) as process:
            try:
                stdout, stderr = process.communicate(text, timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                stdout, stderr = process.communicate()
                raise TestbedFailed(f"{host}: {_line(command)}: longer than {timeout:g} s\n{stdout}{stderr}") from None
        if status is not None and process.returncode != status:
            raise TestbedFailed(f"{host}: {_line(command)}: status {process.returncode}\n{stdout}{stderr}")
        return subprocess.CompletedProcess(_line(command), process.returncode, stdout, stderr)

    def environment(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        """The environment of a program started on a host: the caller's, with the testbed's commands found first."""
        own, interpreter = self.folder / "bin", Path(sys.executable).parent
        return {**os.environ, "PATH": f"{own}:{interpreter}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin", **more}

    def boot(self, host: str) -> None:
        """Switch a crashed host on, and wait until it is up."""
        self.network.plug(host)
        self._switch_on(host)
        self._await(host)

    def crash(self, host: str) -> None:
        """Power failure: every process of the host dies at once, and no connection is told."""
        process = psutil.Process(self.pid(host))
        self.network.unplug(host)
        process.kill()
        wait_for(lambda: not psutil.pid_exists(process.pid), f"the crash of {host}")
        self._file(host, "pid").unlink()

    def is_up(self, host: str) -> bool:
        """Whether the host is switched on."""
        return self._file(host, "pid").exists()

    def at_boot(self, host: str, command: str) -> None:
        """Run a line of shell on a host now, and each time that it is switched on."""
        with self._file(host, "boot").open("a") as file:
            file.write(command + "\n")
        self.daemon(host, ["sh", "-ec", command])

    def daemon(self, host: str, command: Sequence[str]) -> None:
        """Run a command that leaves a daemon on a host, which gets nothing of the caller's environment."""
        log = self._file(host, "log")
        words = [*self._enter(host, Path("/")), *command]
        with log.open("a") as file:
            done = subprocess.run(words, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        if done.returncode:
            raise TestbedFailed(f"{host}: {_line(command)}: status {done.returncode}\n{log.read_text()[-1000:]}")

    def spawn(self, command: Sequence[str], log: str, folder: Path = Path("/")) -> None:
        """Start a process that is on no host; its output goes to the file `log` of the testbed's folder."""
        self._keeper.spawn(command, self.folder / log, folder)

    def fill(self, host: str, folder: Path, *, files: bool = False) -> None:
        """From now on the host sees a full disk in place of a folder; `files`: one that cannot hold one file more."""
        size = "size=64k,nr_inodes=1" if files else "size=64k"
        self.run(host, ["mount", "-t", "tmpfs", "-o", size, "full", folder])
        if not files:
            self.run(host, ["sh", "-c", f"yes >{folder}/full || :"])
        self._filled.append((host, folder))

    def heal(self) -> None:
        """Make all hosts run, all cables whole, and let disks have room."""
        for host, folder in self._filled:
            if self.is_up(host):
                self.run(host, ["umount", "--lazy", folder], status=None)
        self._filled.clear()
        for host in self.names:
            if self.is_up(host):
                self.network.heal(host)
            else:
                self.boot(host)

    def pid(self, host: str) -> int:
        """The PID of the host's init as this machine sees it."""
        if host not in self.names:
            raise TestbedFailed(f"no host {host!r}: there are {', '.join(self.names)}")
        try:
            return int(self._file(host, "pid").read_text())
        except FileNotFoundError:
            raise TestbedFailed(f"{host} is switched off") from None

    def strangers(self, host: str) -> list[psutil.Process]:
        """The processes on a host that are no part of it."""
        init = self.pid(host)
        space = os.stat(f"/proc/{init}/ns/pid").st_ino
        return [
            process
            for process in psutil.process_iter(["name", "ppid", "cmdline", "status"])
            if _space(process.pid) == space
            and process.pid != init
            and process.info["status"] != psutil.STATUS_ZOMBIE
            and process.info["name"] not in _OF_DAEMONS
            and not (process.info["ppid"] == init and process.info["name"] in _DAEMONS)
        ]

    def assert_clean(self) -> None:
        """All is made whole, and no host runs anything but its own daemons, or soon will; what is left is killed."""
        self.heal()
        self.assert_quiet()

    def assert_quiet(self, patience: float = 5.0) -> None:
        """Every host runs nothing but its own daemons, or soon will; what is left is killed."""
        try:
            wait_for(lambda: not any(map(self.strangers, self.names)), "quiet hosts", patience=patience)
        except TestbedFailed:
            left = [(host, process) for host in self.names for process in self.strangers(host)]
            for _, process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            lines = [f"  {host}: {process.pid}: {_line(process.info['cmdline'] or ())}" for host, process in left]
            assert not lines, "processes were left on the hosts:\n" + "\n".join(lines)

    def _enter(self, host: str, folder: Path) -> list[str]:
        spaces = ["--net", "--uts", "--ipc", "--pid", "--mount"]
        return ["nsenter", f"--target={self.pid(host)}", *spaces, f"--wdns={folder}", "--"]

    def _switch_on(self, host: str) -> None:
        spaces = ["unshare", "--uts", "--ipc", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "--"]
        boot = ["sh", str(_BOOT), str(self.folder), host, network.address(host)]
        self._keeper.spawn(["nsenter", f"--net=/run/netns/{host}", "--", *spaces, *boot], self._file(host, "log"))

    def _await(self, host: str) -> None:
        wait_for(lambda: self.is_up(host), f"the start of {host}", self._file(host, "log"))
        wait_for(lambda: self.network.is_plugged(host), f"the network of {host}")

    def _file(self, host: str, name: str) -> Path:
        return self.folder / host / name


def python(folder: Path, source: str, *arguments: object, name: str = "script.py") -> list[str]:
    """The command that runs a program of a user with this interpreter: its text is written to a file in `folder`."""
    file = folder / name
    file.write_text(source)
    return [sys.executable, "-W", "error", str(file), *map(str, arguments)]


def _write_files(folder: Path, names: Sequence[str]) -> None:
    for key in ("key", "hostkey"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "testbed", "-f", str(folder / key)], check=True
        )
    (folder / "hosts").write_text(
        "127.0.0.1 localhost\n" + "".join(f"{network.address(host)} {host}\n" for host in names)
    )
    (folder / "sshd_config").write_text(_SSHD.format(folder=folder))
    (folder / "ssh_config").write_text(_SSH.format(folder=folder))
    public = (folder / "hostkey.pub").read_text()
    (folder / "known_hosts").write_text(f"n*,{network.PREFIX}.* {public}")
    (folder / "bin").mkdir()
    for host in names:
        (folder / host).mkdir()
        (folder / host / "log").touch()


def _space(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:  # it has ended
        return None


def _line(command: Sequence[object]) -> str:
    return shlex.join(map(str, command))
