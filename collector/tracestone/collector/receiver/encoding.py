"""Compression of request bodies, with limits that hold while a body is read. No meaning of what is inside."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from tracestone.collector.receiver.arrivals import Taking
from tracestone.collector.receiver.budget import Held
from tracestone.schema.errors import Invalid, TooLarge

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
_GZIP = b"\x1f\x8b\x08"
# The least that zlib makes: two bytes of header and four of checksum around the data.
_ZLIB_BYTES = 6
# Below this, decompressing on the event loop is cheaper than a thread.
_INLINE_BYTES = 512 * 1024
_CHUNK_BYTES = 256 * 1024
_MAX_MEMBERS = 2000


async def read_body(chunks: AsyncIterator[bytes], declared: str | None, limit: int, held: Taking) -> bytes:
    """The whole body, refused with TooLarge as soon as it must be longer than `limit`, Unavailable without room."""
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"The body has {declared} bytes; the limit is {limit}.")
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body has more than {limit} bytes.")
        held.take(len(chunk))
        parts.append(chunk)
    return b"".join(parts)


async def decompress(body: bytes, encoding: str, limit: int, held: Held) -> bytes:
    """The body as it was before compression, at most `limit` bytes. Raises Invalid, TooLarge and Unavailable."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise Invalid("content-encoding", f"{encoding[:50]!r} is not supported; use gzip, deflate or identity")
    if len(body) <= _INLINE_BYTES:
        return _inflate(body, encoding, limit, held)
    return await asyncio.to_thread(_inflate, body, encoding, limit, held)


async def decompress_message(data: bytes, limit: int, held: Held) -> bytes:
    """A gRPC message as it was before compression, told by its first bytes. Raises like `decompress`.

    grpc itself would decompress on its own, but a whole message at once, on behalf of everybody who asks, and count
    none of it. Left to us it does not tell how a message is compressed. But gzip's first bytes begin no protobuf, and
    what begins like zlib's is taken for it only when its checksum says so.
    """
    if data[:3] == _GZIP:
        return await decompress(data, "gzip", limit, held)
    if len(data) > _ZLIB_BYTES and data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0:
        try:
            return await decompress(data, "deflate", limit, held)
        except Invalid:
            return data
    return data


def _inflate(body: bytes, encoding: str, limit: int, held: Held) -> bytes:
    """Every member of the body, one after the other, as RFC 1952 has it; what follows the first is data too."""
    view = memoryview(body)
    parts = []
    room = limit
    at = members = 0
    while at < len(view):
        members += 1
        if members > _MAX_MEMBERS:
            raise Invalid("content-encoding", f"the {encoding} data has more than {_MAX_MEMBERS} members")
        inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
        while not inflater.eof:
            if at == len(view):
                raise Invalid("content-encoding", f"the {encoding} data is cut short")
            # In chunks, because what follows a member is copied at its end.
            chunk = view[at : at + _CHUNK_BYTES]
            try:
                data = inflater.decompress(chunk, room + 1)
            except zlib.error as error:
                raise Invalid("content-encoding", f"the body is not {encoding} data") from error
            if len(data) > room:
                raise TooLarge(f"The body has more than {limit} bytes after decompression.")
            held.take(len(data))
            parts.append(data)
            room -= len(data)
            at += len(chunk) - len(inflater.unused_data)
    return b"".join(parts)
