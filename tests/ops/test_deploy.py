"""The deploy files hold together with the code: paths, settings, ports, commands."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tollkeeper.cli.app import build
from tollkeeper.settings import SETTINGS

from .parts import systemd_analyze

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KNOWN = {s.name for s in SETTINGS} | {f"{s.name}_FILE" for s in SETTINGS if s.secret}


def names(text: str) -> set[str]:
    return set(re.findall(r"\b(?:TOLLKEEPER_[A-Z_]+|PORT)\b", text))


def test_every_setting_named_in_the_deploy_files_exists() -> None:
    for file in ("Dockerfile", "compose.yaml", "tollkeeper.service"):
        assert names((DEPLOY / file).read_text()) <= KNOWN


def test_everything_the_image_copies_is_in_the_repository() -> None:
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source


def test_the_image_runs_as_a_user_of_its_own_and_serves() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^USER tollkeeper$", text, re.M)
    assert re.search(r'^ENTRYPOINT \["tollkeeper"\]\nCMD \["serve"\]$', text, re.M)
    assert not re.search(r"TOKEN|SECRET", text)


def test_the_compose_file_is_read_only_and_keeps_its_data_in_a_volume() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["tollkeeper"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "data:/data" in service["volumes"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_the_unit_is_hardened_and_waits_longer_than_the_server_drains() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "tollkeeper.service")
    service = unit["Service"]
    assert service["DynamicUser"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["ExecStart"].split()[1] == "serve"
    grace = int(re.search(r"GRACE_SECONDS = (\d+)", (ROOT / "src/tollkeeper/server.py").read_text()).group(1))  # type: ignore[union-attr]
    assert int(service["TimeoutStopSec"]) > grace


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "tollkeeper.service").read_text()
    unit = tmp_path / "tollkeeper.service"
    unit.write_text(text.replace("/opt/tollkeeper/bin/tollkeeper", "/bin/true"))  # what is started must be there
    command = [systemd_analyze(), "verify", str(unit)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    unit.write_text(
        text.replace("DynamicUser=yes", "DynamicUzer=yes").replace("/opt/tollkeeper/bin/tollkeeper", "/bin/true")
    )
    assert "DynamicUzer" in subprocess.run(command, capture_output=True, text=True).stderr


def test_the_pages_for_operators_name_only_settings_that_exist() -> None:
    for page in (ROOT / "docs" / "operate").glob("*.md"):
        assert names(page.read_text()) <= KNOWN, page.name


def test_the_pages_for_operators_name_only_commands_and_options_that_exist() -> None:
    root = build()
    for page in (ROOT / "docs" / "operate").glob("*.md"):
        for line in re.findall(r"(?:^[$#] |bin/|`|exec tollkeeper )tollkeeper (.*?)(?:`|$)", page.read_text(), re.M):
            words = line.split()
            command: Any = root
            while words and words[0] in getattr(command, "commands", {}):
                command = command.commands[words.pop(0)]
            assert command is not root, (page.name, line)
            options = {name for parameter in command.params for name in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= options, (page.name, line)
