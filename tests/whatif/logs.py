"""Lines of access logs, written apart from what reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from tollkeeper.core.accesslog import Parse, parser
from tollkeeper.core.accesslog_json import object_reader

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def parse(key_field: str = "") -> Parse:
    return parser(json.loads, object_reader(key_field))


def when(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def combined(
    at: datetime,
    address: str = "192.0.2.7",
    user: str = "-",
    path: str = "/v1/x",
    status: int = 200,
    east: int = 0,
    common: bool = False,
) -> str:
    """`%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-agent}i"`; `east`: minutes of the zone that times are written in."""
    t = at.astimezone(timezone(timedelta(minutes=east)))
    sign, far = "-" if east < 0 else "+", abs(east)
    time = f"{t.day:02}/{MONTHS[t.month - 1]}/{t.year:04}:{t:%H:%M:%S} {sign}{far // 60:02}{far % 60:02}"
    tail = "" if common else ' "https://example.com/" "curl/8.5.0"'
    return f'{address} - {user} [{time}] "GET {path} HTTP/1.1" {status} 512{tail}'


def caddy(at: datetime, key: str = "", status: int = 200, address: str = "192.0.2.7", uri: str = "/v1/x") -> str:
    """Caddy's default JSON."""
    headers: dict[str, Any] = {"User-Agent": ["curl/8.5.0"]}
    if key:
        headers["Authorization"] = [key]
    request = {"remote_ip": "10.0.0.1", "remote_port": "41342", "client_ip": address, "proto": "HTTP/2.0"}
    request |= {"method": "GET", "host": "localhost", "uri": uri, "headers": headers}
    line = {"level": "info", "ts": at.timestamp(), "logger": "http.log.access", "msg": "handled request"}
    line |= {"request": request, "bytes_read": 0, "user_id": "", "duration": 0.0009, "size": 10900, "status": status}
    return json.dumps(line)


ALB = (
    "https 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 192.168.131.39:2817 10.0.0.1:80 0.086 0.048 0.037 "
    '200 200 0 57 "GET https://www.example.com:443/v1/x?api_key=0123456789abcdefghij HTTP/1.1" "curl/7.46.0" '
    "ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 "
    '"Root=1-58337281-1d84f3d73c47ec4e58577259" "www.example.com" "arn:aws:acm:us-east-2:123456789012:certificate/12345678" '
    '1 2018-07-02T22:22:48.364000Z "authenticate,forward" "-" "-" "10.0.0.1:80" "200" "-" "-"'
)
"""The example of https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html, with a query."""
