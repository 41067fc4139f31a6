"""Which heald this is: the one place where the number stands."""

__version__ = "0.1.0"
