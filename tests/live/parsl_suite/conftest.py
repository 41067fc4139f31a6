"""Keeps pytest from importing what only Parsl's suite can."""

collect_ignore = ["plugin.py", "sitecustomize.py"]
