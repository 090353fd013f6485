"""Settings: precedence, refusals that name the place, and the .env file."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.errors import SettingsInvalid
from tollkeeper.dotenv import read_env, write_env
from tollkeeper.settings import SETTINGS, Settings, ensure_admin_token

TOKEN = "an-admin-token-of-some-length"


def test_every_setting_of_the_table_is_a_field_of_settings() -> None:
    beside_the_table = {"directory", "sources", "warnings"}
    assert {s.field for s in SETTINGS} == {f.name for f in dataclasses.fields(Settings)} - beside_the_table


def test_every_default_is_valid(tmp_path: Path) -> None:
    settings = Settings.load({}, tmp_path)
    assert (settings.host, settings.port, settings.database_url) == ("127.0.0.1", 3000, "sqlite:///tollkeeper.db")
    assert settings.database_path == tmp_path / "tollkeeper.db"
    assert settings.catalog_path == tmp_path / "tollkeeper.toml"
    assert settings.admin_token is None
    assert (settings.url, settings.public_url) == ("http://127.0.0.1:3000", "http://127.0.0.1:3000")
    assert set(settings.sources.values()) == {"default"}


def test_environment_beats_file_beats_dotenv_beats_default(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("token-from-the-file\n")
    (tmp_path / ".env").write_text("TOLLKEEPER_ADMIN_TOKEN=token-from-dotenv\nPORT=4000\n")
    by_file = {"TOLLKEEPER_ADMIN_TOKEN_FILE": "secret"}
    by_name = {**by_file, "TOLLKEEPER_ADMIN_TOKEN": "token-from-environment"}
    assert Settings.load(by_name, tmp_path).admin_token == "token-from-environment"
    assert Settings.load(by_file, tmp_path).admin_token == "token-from-the-file"
    from_dotenv = Settings.load({}, tmp_path)
    assert (from_dotenv.admin_token, from_dotenv.port) == ("token-from-dotenv", 4000)
    assert from_dotenv.sources["PORT"] == f"{tmp_path}/.env:2"
    assert Settings.load({"PORT": "5000"}, tmp_path).port == 5000


def test_the_address_the_command_line_speaks_to_follows_the_port(tmp_path: Path) -> None:
    assert Settings.load({"PORT": "4100"}, tmp_path).url == "http://127.0.0.1:4100"
    settings = Settings.load({"PORT": "4100", "TOLLKEEPER_URL": "https://toll.example/"}, tmp_path)
    assert (settings.url, settings.public_url) == ("https://toll.example", "https://toll.example")


def test_a_blank_value_is_not_set(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOLLKEEPER_ADMIN_TOKEN=\nTOLLKEEPER_HOST=0.0.0.0\n")
    settings = Settings.load({"TOLLKEEPER_HOST": " ", "TOLLKEEPER_ADMIN_TOKEN_FILE": ""}, tmp_path)
    assert (settings.host, settings.admin_token) == ("0.0.0.0", None)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PORT", "http", "a whole number from 0 to 65,535"),
        ("PORT", "65536", "a whole number from 0 to 65,535"),
        ("PORT", "٣٠٠٠", "a whole number from 0 to 65,535"),
        ("TOLLKEEPER_LOG_FORMAT", "xml", "one of auto, json, pretty"),
        ("TOLLKEEPER_LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("TOLLKEEPER_URL", "localhost:3000", "an address such as http://127.0.0.1:3000"),
        ("TOLLKEEPER_URL", "http://host:port", "an address such as http://127.0.0.1:3000"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector", "an address such as http://127.0.0.1:3000"),
        ("TOLLKEEPER_EVENT_MAX_AGE_DAYS", "0", "a whole number from 1 to 3,650"),
        ("TOLLKEEPER_RETENTION_DAYS", "-1", "a whole number from 2 to 36,500"),
        ("TOLLKEEPER_RETENTION_DAYS", "35", "more than TOLLKEEPER_EVENT_MAX_AGE_DAYS, 35"),
        ("TOLLKEEPER_DATABASE_URL", "sqlite:///:memory:", "sqlite:///FILE (sqlite:////FILE for an absolute path)"),
        ("TOLLKEEPER_DATABASE_URL", "mysql://root@host/db", "sqlite:///FILE (sqlite:////FILE for an absolute path)"),
        ("TOLLKEEPER_CATALOG", "a\x00b", "printable text"),
        ("TOLLKEEPER_ADMIN_TOKEN", "short", "16 to 256 ASCII characters without spaces"),
    ],
)
def test_a_bad_value_names_the_setting_the_place_and_what_was_expected(
    tmp_path: Path, name: str, value: str, expected: str
) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        Settings.load({name: value}, tmp_path)
    assert refused.value.detail.startswith(f"{name}: ")
    assert "from the environment" in refused.value.detail
    assert f"expected {expected}" in refused.value.detail


def test_every_fault_is_named_at_once_and_a_secret_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# mine\nPORT=no\nTOLLKEEPER_ADMIN_TOKEN=hunter2\n")
    with pytest.raises(SettingsInvalid) as refused:
        Settings.load({}, tmp_path)
    first, second = refused.value.detail.splitlines()
    assert first.startswith(f"PORT: 'no' from {tmp_path}/.env:2")
    assert second.startswith(f"TOLLKEEPER_ADMIN_TOKEN: the value from {tmp_path}/.env:3")
    assert "hunter2" not in refused.value.detail


def test_a_secret_is_not_in_the_representation(tmp_path: Path) -> None:
    assert TOKEN not in repr(Settings.load({"TOLLKEEPER_ADMIN_TOKEN": TOKEN}, tmp_path))


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"", "is empty"), (b"\xff\xfe", "not UTF-8")])
def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SettingsInvalid, match=reason) as refused:
        Settings.load({"TOLLKEEPER_ADMIN_TOKEN_FILE": "secret"}, tmp_path)
    assert "named by TOLLKEEPER_ADMIN_TOKEN_FILE in the environment" in refused.value.detail


def test_an_unknown_name_is_a_warning_with_the_nearest_setting(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOLLKEEPER_CATALOGUE=x\nSTRIPE_API_KEY=y\n")
    settings = Settings.load({"TOLLKEEPER_ZZZ": "1", "TOLLKEEPER_PORT": "1", "HOME": "/"}, tmp_path)
    assert settings.warnings == (
        f"TOLLKEEPER_CATALOGUE in {tmp_path}/.env:1 is not a setting; did you mean TOLLKEEPER_CATALOG?",
        "TOLLKEEPER_PORT in the environment is not a setting; did you mean PORT?",
        "TOLLKEEPER_ZZZ in the environment is not a setting",
    )


def test_dotenv_reads_comments_quotes_and_export(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("\n# c\nA=1\nexport B = two words # why\nC='#not' # c\nD=\"x=y\"\nE=\nF=a#b\r\nG= # nothing\n")
    values = {name: value for name, (value, _) in read_env(path).items()}
    assert values == {"A": "1", "B": "two words", "C": "#not", "D": "x=y", "E": "", "F": "a#b", "G": ""}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("A=1\nnot a setting\n", ":2: expected NAME=VALUE"),
        ("9A=1\n", ":1: expected NAME=VALUE"),
        ('A="open\n', ":1: A has a quote"),
        ("A='x' y\n", ":1: A has a quote"),
        ("A=1\nA=2\n", ":2: A is set twice"),
        ("\udcff", "not UTF-8 text"),
    ],
)
def test_a_faulty_dotenv_names_the_line(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / ".env"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SettingsInvalid, match=fault):
        read_env(path)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("env") / ".env"
    path.write_bytes(content)
    try:
        found = read_env(path)
    except SettingsInvalid:
        return
    assert all(name.isidentifier() for name in found)


def test_the_admin_token_is_made_once_in_a_file_only_the_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nTOLLKEEPER_ADMIN_TOKEN=\nPORT=4000")
    path.chmod(0o644)
    made, new = ensure_admin_token(Settings.load({}, tmp_path))
    assert new
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == f"# mine\nTOLLKEEPER_ADMIN_TOKEN={made.admin_token}\nPORT=4000\n"
    again, new = ensure_admin_token(Settings.load({}, tmp_path))
    assert (again.admin_token, new) == (made.admin_token, False)
    assert list(tmp_path.iterdir()) == [path]


def test_a_dotenv_that_cannot_be_written_says_what_to_do_instead(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="Set A in the environment instead"):
        write_env(tmp_path / "missing" / ".env", "A", "1")


def test_a_faulty_dotenv_is_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("what is this\n")
    with pytest.raises(SettingsInvalid):
        write_env(path, "A", "1")
    assert path.read_text() == "what is this\n"
