"""Compression of request bodies, with limits that hold while a body is read. No meaning of what is inside.

Most exporters compress with gzip, and inflating is the larger half of what such a request costs; ISA-L does it in half
of zlib's time.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from isal import isal_zlib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from tracestone.collector.receiver.arrivals import Taking
from tracestone.collector.receiver.budget import Held
from tracestone.schema.errors import Invalid, TooLarge

_GZIP = b"\x1f\x8b\x08"
# The least that zlib makes: two bytes of header and four of checksum around the data.
_ZLIB_BYTES = 6
# Below these, decompressing on the event loop is cheaper than a thread. A few bytes may become very many.
_INLINE_BYTES = 512 * 1024
_INLINE_RESULT_BYTES = 2 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024
# Its own stubs take the class for an instance.
_ERRORS: tuple[type[Exception], ...] = (isal_zlib.error, zstd.ZstdError)  # type: ignore[assignment]
_MAX_MEMBERS = 2000


class _Member(Protocol):
    """One gzip member, zlib stream or zstd frame that is being decompressed."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: memoryview, max_length: int, /) -> bytes: ...


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
    if encoding not in _ENCODINGS:
        raise Invalid("content-encoding", f"{encoding[:50]!r} is not supported; use gzip, deflate, zstd or identity")
    if len(body) <= _INLINE_BYTES:
        try:
            data = decompressed(body, encoding, min(limit, _INLINE_RESULT_BYTES), _Untold())
        except TooLarge:
            pass
        else:
            held.take(len(data))
            return data
    return await asyncio.to_thread(decompressed, body, encoding, limit, held)


async def decompress_message(data: bytes, limit: int, held: Held) -> bytes:
    """A gRPC message as it was before compression, told by its first bytes. Raises like `decompress`.

    grpc itself would decompress on its own, but a whole message at once, on behalf of everybody who asks, and count
    none of it. Left to us it does not tell how a message is compressed. But gzip's first bytes begin no protobuf, and
    what begins like zlib's is taken for it only when its checksum says so.
    """
    if data[:3] == _GZIP:
        return await decompress(data, "gzip", limit, held)
    if len(data) > _ZLIB_BYTES and _is_zlib(data):
        try:
            return await decompress(data, "deflate", limit, held)
        except Invalid:
            return data
    return data


class _Untold:
    def take(self, size: int) -> None:
        """Counts nothing: it is little."""


def decompressed(body: bytes, encoding: str, limit: int, held: Taking) -> bytes:
    """Every member of the body, one after the other, as RFC 1952 and 8878 have it; what follows the first is data."""
    view = memoryview(body)
    parts = []
    room = limit
    at = members = 0
    while at < len(view):
        members += 1
        if members > _MAX_MEMBERS:
            raise Invalid("content-encoding", f"the {encoding} data has more than {_MAX_MEMBERS} members")
        member = _ENCODINGS[encoding](view[at:], limit)
        while not member.eof:
            if at == len(view):
                raise Invalid("content-encoding", f"the {encoding} data is cut short")
            # In chunks, because what follows a member is copied at its end.
            chunk = view[at : at + _CHUNK_BYTES]
            try:
                data = member.decompress(chunk, room + 1)
            except _ERRORS as error:
                raise Invalid("content-encoding", f"the body is not {encoding} data: {error}") from error
            if len(data) > room:
                raise TooLarge(f"The body has more than {limit} bytes after decompression.")
            held.take(len(data))
            parts.append(data)
            room -= len(data)
            at += len(chunk) - len(member.unused_data)
    return b"".join(parts)


def _gzip(rest: memoryview, limit: int) -> _Member:
    # Nothing is said of these before ten bytes are there, and then it is cut short.
    if not _GZIP.startswith(rest[: len(_GZIP)]):
        raise Invalid("content-encoding", "the body is not gzip data: it begins with other bytes")
    return isal_zlib.decompressobj(31)


def _deflate(rest: memoryview, limit: int) -> _Member:
    # HTTP means zlib's format by that name; some send what is inside of it.
    return isal_zlib.decompressobj(15 if _is_zlib(rest) else -15)


def _zstd(rest: memoryview, limit: int) -> _Member:
    # A frame may ask for a window as large as what it holds; more than the limit is never needed.
    window = min(max(limit.bit_length(), 23), 27)
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: window})


def _is_zlib(data: bytes | memoryview) -> bool:
    return len(data) > 1 and data[0] & 0x0F == isal_zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0


_ENCODINGS: dict[str, Callable[[memoryview, int], _Member]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zlib": _deflate,
    "zstd": _zstd,
}
