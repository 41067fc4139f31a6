"""Serves Parsl's names in every Python process of the suite, the workers too, with Parsl's own tests among them."""

import os

import heald.compat

heald.compat.install("parsl")

import parsl  # noqa: E402

parsl.__path__.append(os.path.join(os.environ["PARSL_SUITE"], "parsl"))
