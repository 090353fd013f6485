"""Forward-auth: nginx that asks `/authz` before each call, beside the same nginx that asks nobody. Same upstream, same core."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import load
from benchmarks.check import NotExact, exact
from benchmarks.machine import CLIENT_CORE, SERVER_CORE
from benchmarks.processes import Server, free_port
from benchmarks.report import Figure, Section, median, paragraphs, plain, ratios
from benchmarks.tollkeeper_server import Tollkeeper

CONNECTIONS = 64
KEYS = 64
SECONDS = 10
NGINX = "nginx, the gate asked before each call"
CACHED = "nginx, the gate asked once in 10 s for a key"
PLAIN = "nginx, no gate"

CONDITIONS = """
    nginx (one worker), Tollkeeper and the upstream on core {server}, wrk on core {client}, keep-alive everywhere. The upstream is
    nginx itself, which answers a fixed body: the least work that an API can be, so the gate's share is as large as it can be.

    Each call is judged (key, limit, hard quota), its event is committed with synchronous=FULL, and only then passed on. After each run
    the usage totals were read back: they equal the calls.

    Where answers are kept (a soft quota, the cache in memory), nginx writes its access log, line by line, and nothing is counted while the
    load runs. `tollkeeper settle` counted the log after each run, and the totals equal the calls then. What that takes is told
    beside: settling while calls come costs them so much of the core. CPU is of nginx, which is gateway and upstream, and of Tollkeeper.
"""

CONFIG = """
daemon off;
master_process off;
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
  proxy_cache_path {kept} levels=1:2 keys_zone=tollkeeper:10m max_size=100m inactive=1m use_temp_path=off;
  log_format tollkeeper escape=json '{{"time":"$time_iso8601","status":$status,"call":"$request_id","reservation":"$tk_reservation"}}';
  server {{
    listen 127.0.0.1:{cached};
    access_log {folder}/access.log tollkeeper;
    location / {{
      auth_request /_tollkeeper;
      set $tk_cache_key "$http_authorization $http_x_api_key $arg_api_key";
      auth_request_set $tk_customer $upstream_http_x_tollkeeper_customer;
      auth_request_set $tk_ratelimit $upstream_http_ratelimit;
      auth_request_set $tk_reservation $upstream_http_x_tollkeeper_reservation;
      proxy_set_header X-Tollkeeper-Customer $tk_customer;
      add_header X-Request-Id $request_id always;
      add_header RateLimit $tk_ratelimit always;
      proxy_set_header Authorization "";
      proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_pass http://api;
    }}
    location = /_tollkeeper {{
      internal;
      proxy_cache tollkeeper; proxy_cache_key $tk_cache_key; proxy_set_header X-Cache-Key $tk_cache_key;
      proxy_pass http://tollkeeper/authz?profile=nginx&meter=api_calls&settle=log&cache={seconds};
      proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_pass_request_body off; proxy_set_header Content-Length "";
      proxy_set_header X-Original-URI $request_uri; proxy_set_header X-Original-Method $request_method;
      proxy_set_header X-Real-IP $remote_addr;
    }}
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
        soft = server.fill("soft", KEYS + 1)
        server.start(stack)
        folder = work / "nginx"
        folder.mkdir()
        kept = stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        ports = {"api": free_port(), PLAIN: free_port(), NGINX: free_port(), CACHED: free_port()}
        (folder / "nginx.conf").write_text(
            CONFIG.format(
                folder=folder,
                toll=server.server.port,
                api=ports["api"],
                plain=ports[PLAIN],
                gated=ports[NGINX],
                cached=ports[CACHED],
                kept=kept,
                seconds=SECONDS,
            )
        )
        command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")]
        front = stack.enter_context(Server(command, ports[NGINX], SERVER_CORE, work / "nginx.log"))
        keys = {name: [one.key for one in customers] for name in (PLAIN, NGINX)} | {CACHED: [one.key for one in soft]}
        verify = {NGINX: exact(server, customers), CACHED: exact(server, soft)}
        results: dict[str, list[load.Load]] = {PLAIN: [], NGINX: [], CACHED: []}
        cpu: dict[str, list[float]] = {name: [] for name in results}
        settling: list[Settling] = []
        for turn in range(-1, rounds):  # the turn before the first only warms up
            for name, runs in results.items():
                before = front.cpu_seconds() + server.server.cpu_seconds()
                result = load.run(
                    ports[name], "authz", "/things", keys[name],
                    connections=CONNECTIONS, seconds=1.0 if turn < 0 else seconds, expect='"code":"VALID"',
                )  # fmt: skip
                spent = front.cpu_seconds() + server.server.cpu_seconds() - before
                if turn >= 0:
                    runs.append(result)
                    cpu[name].append(spent / (result.sent + result.drained) * 1e6)
                if name == CACHED:
                    settling.append(settle(server, folder / "access.log"))
                if name in verify:
                    verify[name](result)
    rate = {name: [one.per_second for one in runs] for name, runs in results.items()}
    whole = [call + one.cpu_us for call, one in zip(cpu[CACHED], settling[1:], strict=True)]
    rows = [
        (
            name,
            plain(median(rate[name])),
            f"{median(one.p50_ms for one in runs):.1f}",
            f"{median(one.p99_ms for one in runs):.1f}",
            f"{median(cpu[name]):.1f}",
            f"{median(one.client_busy for one in runs):.2f}",
        )
        for name, runs in results.items()
    ]
    return Section(
        "authz",
        f"Forward-auth through nginx, {CONNECTIONS} connections, {KEYS} keys, {rounds} rounds of {plain(seconds)} s in turn",
        ("", "calls/s", "p50 ms", "p99 ms", "CPU µs/call", "client busy"),
        rows=rows,
        figures=[
            Figure(
                "forward-auth through nginx ÷ plain nginx", median(ratios(rate[NGINX], rate[PLAIN])), "×", at_least=0.35
            ),
            Figure(
                f"the same, answers kept for {SECONDS} s ÷ plain nginx",
                median(ratios(rate[CACHED], rate[PLAIN])),
                "×",
                at_least=0.35,
            ),
            Figure("CPU of plain nginx ÷ of the gate asked each time", median(ratios(cpu[PLAIN], cpu[NGINX])), "×"),
            Figure("CPU of plain nginx ÷ of answers kept", median(ratios(cpu[PLAIN], cpu[CACHED])), "×"),
            Figure("CPU of plain nginx ÷ of answers kept and settled", median(ratios(cpu[PLAIN], whole)), "×"),
            Figure("lines that `tollkeeper settle` counts", median(one.per_second for one in settling), "/s"),
            Figure("CPU of settling, command and server", median(one.cpu_us for one in settling), "µs/line"),
        ],
        conditions=paragraphs(CONDITIONS.format(server=SERVER_CORE, client=CLIENT_CORE)),
        raw={
            "runs": {name: [one.as_json() for one in runs] for name, runs in results.items()},
            "cpu_us": cpu,
            "settling": [asdict(one) for one in settling],
        },
    )


@dataclass(frozen=True, slots=True)
class Settling:
    """A log settled. Both with the command's own start."""

    per_second: float
    cpu_us: float


def settle(server: Tollkeeper, log: Path) -> Settling:
    """On the server's core, as beside a server that serves."""
    environment = os.environ | {
        "TOLLKEEPER_URL": f"http://127.0.0.1:{server.port}",
        "TOLLKEEPER_ADMIN_TOKEN": server.token,
    }
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "tollkeeper", "settle", str(log), "--json"]
    began, before = time.perf_counter(), _cpu_seconds(server)
    told = json.loads(subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE).stdout)
    if told["released"] > CONNECTIONS or told["before"] or told["rejected"] or told["lines_without"]:
        raise NotExact(f"every line but those wrk left at its end was a success, and new; settle told {told}")
    lines = told["committed"]
    return Settling(lines / (time.perf_counter() - began), (_cpu_seconds(server) - before) / lines * 1e6)


def _cpu_seconds(server: Tollkeeper) -> float:
    """Of the server, and of commands that ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return server.server.cpu_seconds() + ended.ru_utime + ended.ru_stime
