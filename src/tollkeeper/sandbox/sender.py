"""One HTTP POST over the standard library's streams: how the sandbox reaches a webhook endpoint."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

_READ = 65_536


async def post(url: str, body: bytes, headers: dict[str, str], seconds: float) -> int:
    """The status of the answer. Raises OSError (no connection, no HTTP) or TimeoutError."""
    async with asyncio.timeout(seconds):
        return await _post(url, body, headers)


async def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OSError(f"not an address: {url}")
    port = parts.port or (443 if secure else 80)
    context = ssl.create_default_context() if secure else None
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        writer.write("\r\n".join(lines).encode("latin-1", "replace") + body)
        await writer.drain()
        words = (await reader.readline()).split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            raise OSError("the answer is not HTTP")
        await reader.read(_READ)
        return int(words[1])
    finally:
        writer.close()
