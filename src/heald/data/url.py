"""What a URL says by itself: where it points, what the file is called, how to show it.

Pure text: nothing here touches a disk or a network.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote, unquote

from heald.core.errors import UsageError

# `scheme://…`, or a chain that ends in a URL, as in `simplecache::s3://…`. A file named "a::b" is no URL.
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::.*://)", re.DOTALL)
_SECRET = re.compile(r"(https?://|://[^/@:]*:)[^/@]*@")


def absolute(text: str) -> str:
    """The URL that means the same in every process: relative local paths are taken from this one's folder.

    Local paths become `file://` URLs with everything unusual percent-encoded, so that any name of a file, also one
    that is not UTF-8, is plain ASCII here. Other URLs stay as they are, with the local end of a chain made absolute.

    >>> absolute("/data/my run.txt"), absolute("S3://bucket/my run.txt")
    ('file:///data/my%20run.txt', 's3://bucket/my run.txt')
    >>> absolute("file://localhost/data/x"), absolute("zip://x.txt::/data/y.zip")
    ('file:///data/x', 'zip://x.txt::/data/y.zip')

    Raises UsageError for an empty path, one with a null character, and `file://` on another machine.
    """
    if not text or "\0" in text:
        raise UsageError(f"{text!r} names no file")
    if not _REMOTE.match(text):
        return "file://" + quote(os.fsencode(_absolute_path(text)))
    first, separator, rest = text.partition("::")
    start, _, path = first.partition("://")
    if start.lower() == "file" and not separator:
        host, slash, path = path.partition("/")
        if host.lower() not in ("", "localhost") or not slash:
            raise UsageError(f"{text!r} is no file of this machine", hint="write file:///path, with three slashes")
        return "file://" + quote(os.fsencode(_absolute_path("/" + unquote(path, errors="surrogateescape"))))
    first = start.lower() + first[len(start) :]
    if not separator:
        return first
    *middle, last = rest.split("::")
    # fsspec takes the local end of a chain literally, hence as a plain path here
    return "::".join((first, *middle, local_path(absolute(last)) or last))


def _absolute_path(path: str) -> str:
    # The system may take `a/link/..` elsewhere than text does, so only paths without `..` are tidied.
    return os.path.join(os.getcwd(), path) if ".." in path else os.path.abspath(path)


def local_path(url: str) -> str | None:
    """The local path that a URL made by `absolute` names, or None for one that is elsewhere.

    >>> local_path("file:///data/my%20run.txt"), local_path("s3://bucket/x")
    ('/data/my run.txt', None)
    """
    if not url.startswith("file://"):
        return None
    return unquote(url[7:], errors="surrogateescape") if "%" in url else url[7:]


def scheme(url: str) -> str:
    """The protocol that reads it: the first of a chain.

    >>> scheme("https://host/x"), scheme("simplecache::s3://bucket/x")
    ('https', 'simplecache')
    """
    return re.split("://|::", url, maxsplit=1)[0]


def name(url: str) -> str:
    """What to call its file: the last part of the path, always one single part, "file" when there is none.

    >>> name("https://host/data/my%20run.txt?version=3"), name("zip://in/a.txt::/b.zip"), name("https://host")
    ('my run.txt', 'a.txt', 'file')
    """
    for part in url.split("::"):
        start, _, path = part.partition("://") if "://" in part else ("", "", part)
        if start in ("http", "https"):
            path = unquote(re.split("[?#]", path)[0].partition("/")[2], errors="surrogateescape")
        elif start == "file":
            path = local_path(part) or ""
        last = path.rstrip("/").rpartition("/")[2].replace("\0", "_")
        if last not in ("", ".", "..") and (start or "/" in path):
            return last
    return "file"


def redacted(url: str) -> str:
    """The URL as it may stand in messages and logs: without its password or token.

    >>> redacted("ftp://me:secret@host/x")
    'ftp://me:***@host/x'
    """
    return _SECRET.sub(r"\1***@", url)
