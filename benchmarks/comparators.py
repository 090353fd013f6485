"""The servers that stand beside Tollkeeper in the check: the floor, FastAPI with `limits`, Hono with ioredis."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import redis

from benchmarks.machine import SERVER_CORE, redis_server
from benchmarks.processes import Server, free_port, python

HONO = Path(__file__).with_name("hono")
UVICORN = (
    "-m",
    "uvicorn",
    "--loop",
    "uvloop",
    "--http",
    "httptools",
    "--no-access-log",
    "--no-proxy-headers",
    "--no-server-header",
)


def install_hono() -> None:
    """`npm ci` into benchmarks/hono/node_modules, unless the lock file has been installed already."""
    done = HONO / "node_modules" / ".installed"
    lock = (HONO / "package-lock.json").read_bytes()
    if done.exists() and done.read_bytes() == lock:
        return
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
    subprocess.run(command, cwd=HONO, check=True, stdout=subprocess.DEVNULL)
    done.write_bytes(lock)


def start_floor(stack: ExitStack, work: Path, way: str) -> Server:
    port = free_port()
    command = python("-m", "benchmarks.apps.floor", way, str(port))
    return stack.enter_context(Server(command, port, SERVER_CORE, work / f"floor-{way}.log"))


def start_redis(stack: ExitStack, work: Path, name: str, core: int, fsync: str | None) -> Server:
    """Redis 6.2 with an append-only file synced `fsync` ("always", "everysec"); None keeps nothing on disk."""
    port = free_port()
    folder = work / f"redis-{name}"
    folder.mkdir()
    command = [redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "no"] if fsync is None else ["--appendonly", "yes", "--appendfsync", fsync]
    command += ["--auto-aof-rewrite-percentage", "0"]  # a rewrite in the middle of a run would be charged to Hono
    return stack.enter_context(Server(command, port, core, work / f"redis-{name}.log"))


def start_fastapi(
    stack: ExitStack, work: Path, name: str, keys: Sequence[str], database: Server, strategy: str
) -> Server:
    port = free_port()
    environment = {
        "BENCH_KEYS": " ".join(keys),
        "BENCH_REDIS_PORT": str(database.port),
        "BENCH_STRATEGY": strategy,
    }
    command = python(*UVICORN, "--port", str(port), "benchmarks.apps.fastapi_limits:app")
    return stack.enter_context(Server(command, port, SERVER_CORE, work / f"fastapi-{name}.log", environment))


def start_hono(stack: ExitStack, work: Path, name: str, keys: Sequence[str], database: Server) -> Server:
    with redis.Redis(port=database.port) as client, client.pipeline() as batch:
        for n, key in enumerate(keys):
            digest = hashlib.sha256(key.encode()).hexdigest()
            fields = {"customer": f"cus_{n:026d}", "id": f"key_{n:026d}", "plan": "bench"}
            batch.hset(f"key:{digest}", mapping=fields)
        batch.execute()
    port = free_port()
    environment = {"BENCH_PORT": str(port), "BENCH_REDIS_PORT": str(database.port), "NODE_ENV": "production"}
    command = ["node", str(HONO / "server.mjs")]
    return stack.enter_context(Server(command, port, SERVER_CORE, work / f"hono-{name}.log", environment, cwd=HONO))


def recorded_by_hono(database: Server) -> int:
    """Events in the stream."""
    with redis.Redis(port=database.port) as client:
        return int(client.xlen("events"))
