"""Fakes of schedulers that no Debian package has: a service outside all hosts, which starts real processes on them.

`program.py` is each of the commands, `service.py` what they talk to, `session.py` a process on a host, `testbed.py`
what tests hold. On these stand the fake PBS and the fake Flux.
"""
