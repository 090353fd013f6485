"""`.env` files, read strictly and written without losing a line."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tollkeeper.core.errors import SettingsInvalid

_LINE = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)")
_QUOTED = re.compile(r"""(?:"([^"]*)"|'([^']*)')[ \t]*(?:#.*)?""")


def read_env(path: Path) -> dict[str, tuple[str, str]]:
    """`NAME=VALUE` lines as {name: (value, "FILE:LINE")}; no file is no lines. Quotes are taken off, nothing is expanded.

    A comment stands on its own line, or after a value and a space. Raises SettingsInvalid for anything else and for a
    repeated name.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "not UTF-8 text"
        raise SettingsInvalid(f"{path} cannot be read: {reason}") from None
    found: dict[str, tuple[str, str]] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise SettingsInvalid(f"{path}:{number}: expected NAME=VALUE or a comment beginning with #")
        name, value = match.groups()
        if name in found:
            raise SettingsInvalid(f"{path}:{number}: {name} is set twice, first at {found[name][1]}")
        if value[:1] in ("'", '"'):
            quoted = _QUOTED.fullmatch(value)
            if quoted is None:
                raise SettingsInvalid(f"{path}:{number}: {name} has a quote that is not closed, or text after it")
            value = quoted[1] if quoted[1] is not None else quoted[2]
        else:
            value = re.split(r"(?:^|[ \t]+)#", value)[0]
        found[name] = (value, f"{path}:{number}")
    return found


def write_env(path: Path, name: str, value: str) -> None:
    """Set one name in `.env`, keeping every other line; the file is replaced whole and has mode 0600. Raises SettingsInvalid."""
    path = path.resolve()
    read_env(path)  # a file that cannot be read as settings is not rewritten
    temporary = path.with_name(f".env.{os.getpid()}.tmp")
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        at = next(
            (i for i, line in enumerate(lines) if (m := _LINE.fullmatch(line.strip())) and m[1] == name), len(lines)
        )
        lines[at : at + 1] = [f"{name}={value}"]
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        os.replace(temporary, path)
    except OSError as fault:
        temporary.unlink(missing_ok=True)
        raise SettingsInvalid(
            f"{path} cannot be written: {fault.strerror}. Set {name} in the environment instead"
        ) from None
