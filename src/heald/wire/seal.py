"""What two ends of a data stream agree on, so that nobody else can read it, change it or take part.

Both prove that they have a secret key of the run by their static keys, and mix in fresh ones, so that what was recorded
stays unreadable even to whoever finds the keys later: X25519 twice, as in the patterns of Noise (KK, without its second
static step: https://noiseprotocol.org/noise.html), HKDF-SHA256 (RFC 5869) over both, and AES-256-GCM (RFC 5116) with a
counter as nonce in each direction. A record that was changed, repeated or left out does not open.

Not CURVE, which protects all else: AES has instructions of its own in today's processors, and copies nothing here.
"""

from __future__ import annotations

from typing import Final

from heald.core.errors import UsageError
from heald.wire.key import Pair

OPENING: Final = 33  # bytes that each end says first
TAG: Final = 16  # bytes by which a record is longer than what is in it
_VERSION = 1
_PURPOSE = b"heald data stream 1"


class Forged(UsageError):
    """A record is not what the other end has sent, or the other end is none of this run."""


class Agreement:
    """One end before the first record: it says `opening`, and hears the other's.

    `own` is the key pair of this end, `other` the public key of the other; `begins`: this end has made the connection.

    >>> from heald.wire import key
    >>> keys = key.new()
    >>> agent = Agreement(keys.agent, keys.head.public, begins=True)
    >>> head = Agreement(keys.head, keys.agent.public, begins=False)
    >>> here, there = agent.seal(head.opening), head.seal(agent.opening)
    >>> record, content = bytearray(4 + TAG), bytearray(4)
    >>> _ = here.close_into(b"weft", record)
    >>> there.open_into(record, content)
    >>> bytes(content)
    b'weft'
    """

    def __init__(self, own: Pair, other: str, *, begins: bool) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        from zmq.utils import z85

        self._static = X25519PrivateKey.from_private_bytes(z85.decode(own.secret))
        self._other = z85.decode(other)
        self._fresh = X25519PrivateKey.generate()
        self._begins = begins
        self.opening = bytes([_VERSION]) + self._fresh.public_key().public_bytes_raw()

    def seal(self, opening: bytes | bytearray | memoryview) -> Seal:
        """What closes and opens records from now on. Raises Forged for an opening that cannot be."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        said = bytes(opening)
        if len(said) != OPENING or said[0] != _VERSION:
            raise Forged("the other end of a data stream is something else than heald, or another version of it")
        fresh, static = X25519PublicKey.from_public_bytes(said[1:]), X25519PublicKey.from_public_bytes(self._other)
        try:
            secret = self._fresh.exchange(fresh) + self._static.exchange(static)
        except ValueError as raised:  # a point of small order
            raise Forged("the other end of a data stream sent a key that cannot be") from raised
        both = self.opening + said if self._begins else said + self.opening
        keys = HKDF(SHA256(), 64, salt=both, info=_PURPOSE).derive(secret)
        mine, theirs = (keys[:32], keys[32:]) if self._begins else (keys[32:], keys[:32])
        return Seal(mine, theirs)


class Seal:
    """Closes what this end sends, and opens what it gets, each in its order."""

    def __init__(self, mine: bytes, theirs: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._mine, self._theirs = AESGCM(mine), AESGCM(theirs)
        self._closed = self._opened = 0

    def close_into(self, content: bytes | memoryview, record: bytearray | memoryview) -> int:
        """Write the record of some content, TAG bytes longer than that; its length."""
        nonce = self._closed.to_bytes(12, "big")
        self._closed += 1
        return self._mine.encrypt_into(nonce, content, None, record)

    def open_into(self, record: bytearray | memoryview, content: bytearray | memoryview) -> None:
        """Write what is in a record. Raises Forged when it is not the next one that the other end has sent."""
        from cryptography.exceptions import InvalidTag

        nonce = self._opened.to_bytes(12, "big")
        self._opened += 1
        try:
            self._theirs.decrypt_into(nonce, record, None, content)
        except InvalidTag as raised:
            raise Forged("a record of a data stream was changed on its way, or is of another run") from raised
