"""A client of a running Tollkeeper, of the standard library only.

    with Tollkeeper("http://127.0.0.1:3000", token) as toll:
        decision = toll.check(key, "api_calls")
        if decision["code"] != "VALID":
            return decision["status"], decision["problem"]

Any number of threads may share one client: connections are kept alive and handed from one to the next. Quantities are int, Decimal
or decimal strings, never floats; they come back as strings.
"""

from __future__ import annotations

import http.client
import json as jsonlib
import os
import select
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

KEEP_ALIVE = 4.0
"""Seconds that an idle connection is kept: below the 5 s after which uvicorn closes it, so that it is not used while it closes."""
MAX_IDLE = 64
_AMBIGUOUS = " Whether the request was carried out is not known."


class ClientError(Exception):
    """What every exception of this module is."""


class Unreachable(ClientError):
    """No answer: refused, no such host, a broken connection, or a timeout. The message says which, and of what address."""


class ApiError(ClientError):
    """The server's answer was an error. `code` is the word to branch on; `problem` is the whole problem+json body."""

    def __init__(self, status: int, code: str, detail: str, request_id: str | None, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.problem = problem
        super().__init__(f"{detail} ({status} {code})")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, for whoever watches. Headers as sent, so with the token."""

    method: str
    url: str
    request_headers: Mapping[str, str]
    request_body: bytes | None
    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


class Tollkeeper:
    """`token`: the admin token or a server key. `timeout`: seconds to connect, and between bytes. `watch` sees every exchange.

    Raises ValueError for an address or a token that cannot be sent.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:3000",
        token: str | None = None,
        *,
        timeout: float = 10.0,
        watch: Callable[[Exchange], None] | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an address such as http://127.0.0.1:3000")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ValueError("a token is printable ASCII")
        self.url = url.rstrip("/")
        self._scheme, self._host, self._port, self._base = (
            parts.scheme,
            parts.hostname,
            parts.port,
            parts.path.rstrip("/"),
        )
        self._token = token
        self._timeout = timeout
        self._watch = watch
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []  # append and pop are atomic
        self._pid = os.getpid()

    def check(
        self,
        key: str,
        meter: str,
        cost: int | str | Decimal = 1,
        *,
        scope: str | None = None,
        ip: str | None = None,
        id: str | None = None,
        reserve: bool = False,
        durable: bool = True,
    ) -> dict[str, Any]:
        """Ask the gate. A refusal is an answer, not an exception: look at `code` (`"VALID"` is allowed) and `status`."""
        body = {
            "key": key,
            "meter": meter,
            "cost": _decimal(cost),
            "scope": scope,
            "ip": ip,
            "id": id,
            "reserve": reserve,
            "durable": durable,
        }
        answer: dict[str, Any] = self.request("POST", "/v1/check", body)
        return answer

    def commit(self, reservation: str, quantity: int | str | Decimal | None = None) -> dict[str, Any]:
        """Count what was used in the place of what `check(…, reserve=True)` took; None: what was reserved. Safe to repeat."""
        path = f"/v1/reservations/{quote(reservation, safe='')}/commit"
        used = None if quantity is None else _decimal(quantity)
        answer: dict[str, Any] = self.request("POST", path, {"quantity": used}, repeatable=True)
        return answer

    def release(self, reservation: str) -> dict[str, Any]:
        """Give back what `check(…, reserve=True)` took, when nothing was used."""
        path = f"/v1/reservations/{quote(reservation, safe='')}/release"
        answer: dict[str, Any] = self.request("POST", path, repeatable=True)
        return answer

    def events(self, events: Iterable[Mapping[str, Any]], environment: str | None = None) -> dict[str, Any]:
        """Send usage events; the answer holds one result for each, in order. Fills in a missing `id`.

        Every event has an id, so after Unreachable the same events may be sent again: each counts once. To do that across
        processes, give them ids of your own. A Decimal in `data` stays exact. `environment`: for the admin token; live otherwise.
        """
        batch = [{"id": str(uuid.uuid4()), **event} for event in events]
        answer: dict[str, Any] = self.request(
            "POST", "/v1/events", batch, query={"environment": environment}, repeatable=True
        )
        return answer

    def usage(self, **query: str | int | None) -> dict[str, Any]:
        """`GET /v1/usage`: customer, key, meter, from_, to, window, zone, group_by, environment. None is left out."""
        answer: dict[str, Any] = self.request(
            "GET", "/v1/usage", query={name.rstrip("_"): value for name, value in query.items()}
        )
        return answer

    def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        body: bytes | None = None,
        query: Mapping[str, str | int | None] | None = None,
        repeatable: bool | None = None,
        exact: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Any address of the API; returns decoded JSON, or None for an empty answer. Raises ApiError, Unreachable.

        `json` is encoded, `body` is JSON already. Raises ValueError, TypeError for what JSON cannot hold.
        `repeatable` requests (GET by default) are sent once more when a kept connection turns out to be closed.
        `exact`: numbers with a fraction come as Decimal.
        """
        path = self._base + quote(path, safe="/%:@+,;=~")
        if query and (pairs := {name: value for name, value in query.items() if value is not None}):
            path += "?" + urlencode(pairs)
        headers = {"Accept": "application/json", "User-Agent": "tollkeeper-python", **(headers or {})}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if json is not None:
            body = jsonlib.dumps(json, allow_nan=False, default=_exact).encode()
        if body is not None:
            headers["Content-Type"] = "application/json"
        started = time.monotonic()
        response, content = self._send(
            method, path, body, headers, method == "GET" if repeatable is None else repeatable
        )
        if self._watch:
            self._watch(
                Exchange(
                    method,
                    f"{self._scheme}://{urlsplit(self.url).netloc}{path}",
                    headers,
                    body,
                    response.status,
                    dict(response.getheaders()),
                    content,
                    time.monotonic() - started,
                )
            )
        return _read(response, content, Decimal if exact else float)

    def close(self) -> None:
        """Close the connections that are idle. They are opened again when needed."""
        while self._idle:
            self._idle.pop()[1].close()

    def __enter__(self) -> Tollkeeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], repeatable: bool
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection, kept = self._connection()
        while True:
            sent = False
            try:
                if connection.sock is None:
                    connection.connect()
                sent = True
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as fault:
                connection.close()
                if kept and repeatable and not isinstance(fault, TimeoutError):
                    kept = False
                    continue
                raise Unreachable(self._explain(fault, sent and not repeatable)) from fault
            except BaseException:
                connection.close()  # interrupted: the answer may still come, and is nobody's
                raise
            if connection.sock is not None and len(self._idle) < MAX_IDLE:
                self._idle.append((time.monotonic(), connection))
            else:
                connection.close()
            return response, content

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        """A connection for this request alone, and whether it is open already."""
        if self._pid != os.getpid():  # forked: what is open is the parent's conversation
            self._pid = os.getpid()
            self.close()
        while True:
            try:
                since, connection = self._idle.pop()
            except IndexError:
                kind = http.client.HTTPSConnection if self._scheme == "https" else http.client.HTTPConnection
                return kind(self._host, self._port, timeout=self._timeout), False
            if time.monotonic() - since < KEEP_ALIVE and not _readable(connection.sock):
                return connection, True
            connection.close()

    def _explain(self, fault: Exception, ambiguous: bool) -> str:
        match fault:
            case TimeoutError():
                what = f"does not answer within {self._timeout:g} s."
            case ConnectionRefusedError():
                what = "refuses the connection; nothing listens there."
            case ssl.SSLError():
                what = f"does not speak TLS as expected: {fault.reason or fault}."
            case http.client.RemoteDisconnected() | ConnectionError():
                what = "closed the connection before it answered."
            case OSError():
                what = f"cannot be reached: {fault.strerror or fault}."
            case _:
                what = f"does not speak HTTP: {type(fault).__name__}."
        return f"{self.url} {what}{_AMBIGUOUS if ambiguous else ''}"


def _readable(sock: Any) -> bool:
    """Whether an idle socket has something to read: the server closed it, or sent what nobody asked for."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _decimal(value: int | str | Decimal) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise TypeError(f"a quantity is int, Decimal or a decimal string, not {type(value).__name__}")
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _exact(value: object) -> str:
    """A Decimal travels as a string: JSON numbers of other programs may pass through a float."""
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"{type(value).__name__} is not JSON")


def _read(response: http.client.HTTPResponse, content: bytes, number: Callable[[str], Any]) -> Any:
    decoded: Any = None
    if content:
        try:
            decoded = jsonlib.loads(content, parse_constant=_no_constant, parse_float=number)
        except ValueError:
            decoded = _NOT_JSON
    if 200 <= response.status < 300 and decoded is not _NOT_JSON:
        return decoded
    problem: Mapping[str, Any] = decoded if isinstance(decoded, dict) else {}
    if problem.get("code"):
        code = str(problem["code"])
        detail = str(problem.get("detail") or problem.get("title") or code)
    else:
        code = "bad_answer"
        detail = (
            f"The answer is {response.status} {response.reason} without the JSON that Tollkeeper sends; "
            "is another server at this address?"
        )
    request_id = problem.get("request_id") or response.headers.get("X-Request-Id")
    raise ApiError(response.status, code, detail, request_id and str(request_id), problem)


_NOT_JSON = object()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
