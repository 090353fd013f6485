"""A limit on the memory of a process tree, its page cache included, by a control group made for the occasion.

Control groups v1: a group below our own in the memory hierarchy, so that limits already set still hold. v2: a group beside our own,
where the parent hands the memory controller down; else `systemd-run --scope`. Where none can be had, `reason` says so and nothing
is limited: the caller prints it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """`command` is put before the command to be limited. `limited` False: `reason` says why not."""

    limited: bool
    reason: str
    command: tuple[str, ...] = ()
    group: Path | None = None

    def peak_bytes(self) -> int | None:
        """The most that was in use, page cache included; None where the kernel does not say."""
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            if self.group is not None and (self.group / name).exists():
                return int((self.group / name).read_text())
        return None


@contextlib.contextmanager
def memory_limit(size: int) -> Iterator[MemoryLimit]:
    """A limit of `size` bytes for whatever is started with `command` in front. The group is removed afterwards."""
    made = _group(size)
    if made is None:
        if shutil.which("systemd-run") and Path("/run/systemd/system").exists():
            user = () if os.geteuid() == 0 else ("--user",)
            command = ("systemd-run", *user, "--scope", "--quiet", "-p", f"MemoryMax={size}", "-p", "MemorySwapMax=0")
            yield MemoryLimit(True, f"systemd-run --scope, MemoryMax={size}", command)
        else:
            yield MemoryLimit(False, "no writable memory control group and no systemd-run: memory was not limited")
        return
    try:
        # the shell joins the group, then becomes the command
        join = ("sh", "-c", f'echo $$ > {made}/cgroup.procs && exec "$@"', "sh")
        yield MemoryLimit(True, f"control group with a limit of {size / 2**30:g} GiB, page cache included", join, made)
    finally:
        _remove(made)


def _own(controller: str) -> str | None:
    """Our path in the hierarchy of `controller` ("" is v2), from /proc/self/cgroup."""
    for row in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = row.split(":", 2)
        if names == controller or controller in names.split(","):
            return path
    return None


def _group(size: int) -> Path | None:
    name = f"tollkeeper-bench-{os.getpid()}"
    v1, v2 = _own("memory"), _own("")
    if v1 is not None:
        group, limit = ROOT / "memory" / v1.lstrip("/") / name, "memory.limit_in_bytes"
    elif v2 is not None:
        group, limit = (ROOT / v2.lstrip("/")).parent / name, "memory.max"
    else:
        return None
    try:
        group.mkdir()
    except OSError:
        return None
    try:
        (group / limit).write_text(str(size))
        if (group / "memory.swap.max").exists():
            (group / "memory.swap.max").write_text("0")
    except OSError:
        _remove(group)
        return None
    return group


def _remove(group: Path) -> None:
    for _ in range(100):  # a process that has just ended may still be counted
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)
