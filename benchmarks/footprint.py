"""Start to first answer, import time, idle memory."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from benchmarks.machine import SERVER_CORE
from benchmarks.processes import post, python
from benchmarks.report import Figure, Section, median
from benchmarks.tollkeeper_server import Tollkeeper, check_bodies

TIMES = 7
IMPORT = "import time; start = time.perf_counter(); import tollkeeper; print(time.perf_counter() - start)"


def memory_mib(pid: int) -> dict[str, float]:
    """Rss and Pss of a process in MiB, from smaps_rollup."""
    found = {}
    for row in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = row.partition(":")
        if name in ("Rss", "Pss"):
            found[name] = int(rest.split()[0]) / 1024
    return found


def import_seconds() -> float:
    command = ["taskset", "-c", str(SERVER_CORE), *python("-c", IMPORT)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(work: Path) -> Section:
    server = Tollkeeper(work / "footprint")
    body = check_bodies(server.fill("hard", 1))[0].encode()
    starts, idle, cpu = [], [], []
    for _ in range(TIMES):
        begin = time.perf_counter()
        server.start()
        answer = post(f"http://127.0.0.1:{server.port}/v1/check", body, server.server_key)
        starts.append(time.perf_counter() - begin)
        cpu.append(server.server.cpu_seconds())
        if b'"VALID"' not in answer:
            raise RuntimeError(f"the first check was not VALID: {answer!r}")
        time.sleep(1)
        idle.append(memory_mib(server.server.process.pid))
        server.stop()
    imports = [import_seconds() for _ in range(TIMES)]
    rss, pss = (median(one[name] for one in idle) for name in ("Rss", "Pss"))
    return Section(
        "footprint",
        "Start, import, memory",
        figures=[
            Figure("start to first answer (a VALID check)", median(starts), "s", at_most=1),
            Figure("processor time until then", median(cpu), "s"),
            Figure("import tollkeeper", median(imports) * 1000, "ms", at_most=100),
            Figure("idle memory, resident (RSS)", rss, "MiB", at_most=120_000_000 / 2**20),
            Figure("idle memory, proportional (PSS)", pss, "MiB"),
        ],
        conditions=[
            f"Medians of {TIMES}, on one core, files in the page cache; the start is of `tollkeeper serve` with one customer.",
            "120 MB are 114.4 MiB. Idle: one second after the first answer.",
        ],
        raw={"starts": starts, "cpu_seconds": cpu, "imports": imports, "idle": idle},
    )
