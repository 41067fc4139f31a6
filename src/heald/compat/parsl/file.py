"""Parsl's File: a URL, and where its local copy is once it was staged."""

from __future__ import annotations

import os
from urllib.parse import urlparse


class File:
    """A file by path or URL.

    >>> file = File("https://example.org/data/a.txt")
    >>> file.scheme, file.netloc, file.filename
    ('https', 'example.org', 'a.txt')
    >>> str(File("/tmp/b.txt"))
    '/tmp/b.txt'

    Raises TypeError for what is neither text nor a path.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        if not isinstance(url, str | os.PathLike):
            raise TypeError(f"a File is made of a path or a URL, not of {type(url).__name__}")
        self.url = str(url)
        parts = urlparse(self.url)
        self.scheme = parts.scheme or "file"
        self.netloc = parts.netloc
        self.path = parts.path
        self.filename = os.path.basename(parts.path)
        self.local_path: str | None = None

    def cleancopy(self) -> File:
        """The same file, as it was before anybody staged it."""
        return File(self.url)

    @property
    def filepath(self) -> str:
        """The local path. Raises ValueError for a far file that was not staged."""
        if self.local_path is not None:
            return self.local_path
        if self.scheme == "file":
            return self.path
        raise ValueError(f"No local_path set for {self!r}")

    def __fspath__(self) -> str:
        return self.filepath

    def __str__(self) -> str:
        return self.filepath

    def __repr__(self) -> str:
        shown = ["url", "scheme", "netloc", "path", "filename"] + ["local_path"] * (self.local_path is not None)
        fields = " ".join(f"{name}={getattr(self, name)}" for name in shown)
        return f"<{type(self).__name__} at 0x{id(self):x} {fields}>"
