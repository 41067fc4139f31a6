"""The tools of the shell that run one command many times."""

import subprocess

from bench.adapter import Adapter


class Shell(Adapter):
    """Reads one line a run from its standard input."""

    def commands(self, command, count):
        lines = "".join(f"{number}\n" for number in range(count))
        subprocess.run(self.line(command), input=lines, text=True, check=True, stdout=subprocess.DEVNULL)
        return count

    def line(self, command):
        """Give the command line that starts the tool."""
        raise NotImplementedError

    def start(self):
        """Nothing stays running between uses."""

    def warm(self):
        self.commands("/bin/true", self.workers)

    def version(self):
        done = subprocess.run([type(self).__name__.lower(), "--version"], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[0].split()[-1]


class Xargs(Shell):
    def line(self, command):
        return ["xargs", "-P", str(self.workers), "-n", "1", command]

    def lines(self, command, values):
        subprocess.run(self.line(command), input="\n".join(values), text=True, check=True)


class Parallel(Shell):
    """GNU Parallel (O. Tange, https://doi.org/10.5281/zenodo.1146014), installed by the machine's package manager."""

    def line(self, command):
        return ["parallel", "--will-cite", "-j", str(self.workers), "-n", "0", command]

    def lines(self, command, values):
        self.program("parallel", "--will-cite", "-j", str(self.workers), command, ":::", *values)
