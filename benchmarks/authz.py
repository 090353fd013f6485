"""Forward-auth: nginx that asks `/authz` before each call, beside the same nginx that asks nobody. Same upstream, same core."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

from benchmarks import load
from benchmarks.check import exact
from benchmarks.machine import CLIENT_CORE, SERVER_CORE
from benchmarks.processes import Server, free_port
from benchmarks.report import Figure, Section, median, paragraphs, plain, ratios
from benchmarks.tollkeeper_server import Tollkeeper

CONNECTIONS = 64
KEYS = 64
NGINX = "nginx, the gate asked before each call"
PLAIN = "nginx, no gate"

CONDITIONS = """
    nginx (one worker), Tollkeeper and the upstream on core {server}, wrk on core {client}, keep-alive everywhere. The upstream is
    nginx itself, which answers a fixed body: the least work that an API can be, so the gate's share is as large as it can be.

    Each call is judged (key, limit, hard quota), its event is committed with synchronous=FULL, and only then passed on. After each run
    the usage totals were read back: they equal the calls.
"""

CONFIG = """
daemon off;
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream tollkeeper {{ server 127.0.0.1:{toll}; keepalive 128; keepalive_requests 100000000; }}
  upstream api {{ server 127.0.0.1:{api}; keepalive 128; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{api}; location / {{ default_type application/json; return 200 '{{"code":"VALID"}}'; }} }}
  server {{
    listen 127.0.0.1:{plain};
    location / {{ proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://api; }}
  }}
  server {{
    listen 127.0.0.1:{gated};
    location / {{
      auth_request /_tollkeeper;
      auth_request_set $tk_customer $upstream_http_x_tollkeeper_customer;
      auth_request_set $tk_request_id $upstream_http_x_tollkeeper_request_id;
      auth_request_set $tk_ratelimit $upstream_http_ratelimit;
      proxy_set_header X-Tollkeeper-Customer $tk_customer;
      add_header X-Request-Id $tk_request_id always;
      add_header RateLimit $tk_ratelimit always;
      proxy_set_header Authorization "";
      proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_pass http://api;
    }}
    location = /_tollkeeper {{
      internal;
      proxy_pass http://tollkeeper/authz?profile=nginx&meter=api_calls;
      proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_pass_request_body off; proxy_set_header Content-Length "";
      proxy_set_header X-Original-URI $request_uri; proxy_set_header X-Original-Method $request_method;
      proxy_set_header X-Real-IP $remote_addr;
    }}
  }}
}}
"""


def measure(work: Path, rounds: int, seconds: float) -> Section:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if nginx is None:
        absent = "nginx is missing: apt-get install nginx-light"
        figure = Figure("forward-auth through nginx ÷ plain nginx", None, "×", at_least=0.35, note=absent)
        return Section("authz", "Forward-auth through nginx", ("",), figures=[figure], conditions=[absent], raw={})
    with ExitStack() as stack:
        server = Tollkeeper(work / "tollkeeper-authz")
        customers = server.fill("hard", KEYS + 1)
        server.start(stack)
        folder = work / "nginx"
        folder.mkdir()
        ports = {"api": free_port(), PLAIN: free_port(), NGINX: free_port()}
        (folder / "nginx.conf").write_text(
            CONFIG.format(
                folder=folder, toll=server.server.port, api=ports["api"], plain=ports[PLAIN], gated=ports[NGINX]
            )
        )
        command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")]
        stack.enter_context(Server(command, ports[NGINX], SERVER_CORE, work / "nginx.log"))
        keys = [customer.key for customer in customers]
        verify = exact(server, customers)
        results: dict[str, list[load.Load]] = {PLAIN: [], NGINX: []}
        for turn in range(-1, rounds):  # the turn before the first only warms up
            for name, runs in results.items():
                result = load.run(
                    ports[name], "authz", "/things", keys,
                    connections=CONNECTIONS, seconds=1.0 if turn < 0 else seconds, expect='"code":"VALID"',
                )  # fmt: skip
                if turn >= 0:
                    runs.append(result)
                if name == NGINX:
                    verify(result)
    rate = {name: [one.per_second for one in runs] for name, runs in results.items()}
    rows = [
        (
            name,
            plain(median(rate[name])),
            f"{median(one.p50_ms for one in runs):.1f}",
            f"{median(one.p99_ms for one in runs):.1f}",
            f"{median(one.client_busy for one in runs):.2f}",
        )
        for name, runs in results.items()
    ]
    return Section(
        "authz",
        f"Forward-auth through nginx, {CONNECTIONS} connections, {KEYS} keys, {rounds} rounds of {plain(seconds)} s in turn",
        ("", "calls/s", "p50 ms", "p99 ms", "client busy"),
        rows=rows,
        figures=[
            Figure(
                "forward-auth through nginx ÷ plain nginx", median(ratios(rate[NGINX], rate[PLAIN])), "×", at_least=0.35
            )
        ],
        conditions=paragraphs(CONDITIONS.format(server=SERVER_CORE, client=CLIENT_CORE)),
        raw={"runs": {name: [one.as_json() for one in runs] for name, runs in results.items()}},
    )
