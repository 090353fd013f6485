"""Lines of access logs, each as a Hit: common, combined, AWS ALB, and JSON as nginx and Caddy write it; also mixed.

Formats: https://httpd.apache.org/docs/2.4/logs.html, https://nginx.org/en/docs/http/ngx_http_log_module.html,
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html,
https://caddyserver.com/docs/caddyfile/directives/log. Each pattern reads a line once,
so that no line takes longer than its length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tollkeeper.core.accesslog_times import iso_time, log_time

_QUOTED: Final = r'"((?:[^"\\]++|\\.)*+)"'
_COMBINED: Final = re.compile(
    r"(\S++) (\S++) ([^\[]*+)\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    + _QUOTED
    + r" (\d{3})(?= |\r?$)",
    re.ASCII,
)
_ALB: Final = re.compile(
    r"(?:https?|h2|grpcs|wss?) (\S{10,40}) \S++ (\S++) \S++ \S++ \S++ \S++ (\d{3}) \S++ \S++ \S++ " + _QUOTED, re.ASCII
)
_HOST: Final = re.compile(r".+:[0-9]{1,5}")
_ABSOLUTE: Final = re.compile(r"[a-z]{1,5}://[^/?#]*")
NOBODY: Final = ("", "-")


class Hit(NamedTuple):
    """One call as the log has it. `at`: microseconds since 1970. Text is as it stands in the log, of any content.

    `request`: the request line or its target; `key`: the value of a header that bears a key, which only JSON logs have.
    """

    at: int
    status: int
    address: str
    user: str
    request: str
    key: str = ""


Parse = Callable[[str], "Hit | str"]


def parser(decode: Callable[[str], Any], read_object: Callable[[Any], Hit | str]) -> Parse:
    """What reads a line: to a Hit, or to the reason (a few words) why it is none. `decode` turns JSON text into objects.

    `decode` may raise ValueError, RecursionError. `read_object` is `accesslog_json.object_reader(…)`.
    """

    def parse(line: str) -> Hit | str:
        match = _COMBINED.match(line)
        if match is not None:
            address, ident, user, time, request, status = match.groups()
            if ident != "-" and _HOST.fullmatch(address):  # Apache's vhost_combined: the host stands before everything
                address, user = ident, user.partition(" ")[2]
            at = log_time(time)
            return "a time that is none" if at is None else Hit(at, int(status), address, user.rstrip(" "), request)
        if line.lstrip()[:1] == "{":
            try:
                return read_object(decode(line))
            except (ValueError, RecursionError):
                return "broken JSON"
        match = _ALB.match(line)
        if match is None:
            return "no format that is known"
        time, client, status, request = match.groups()
        at = iso_time(time)
        if at is None:
            return "a time that is none"
        return Hit(at, int(status), client.rpartition(":")[0].strip("[]"), "", request)

    return parse


def target_of(request: str) -> str:
    """Path and query of a request line, or of a target; "" when the line is no request."""
    if not request.startswith("/"):
        words = request.split(" ")
        if not 2 <= len(words) <= 3:
            return ""
        request = words[1]
        match = _ABSOLUTE.match(request)
        if match is not None:
            request = request[match.end() :]
    return request if request.startswith("/") else "/" if request.startswith("?") or not request else ""
