"""Real clusters on one machine: hosts with networks of their own, and the schedulers that run on them.

The live tests start them through the fixtures of `fixture.py`; a developer or a benchmark by `python -m tests.testbed`.
"""
