"""Settings: one table, read from the environment, from `NAME_FILE` for secrets, and from `.env` in the working directory.

Precedence: environment, then `NAME_FILE`, then `.env`, then the default. A blank value means "not set".
Reading changes nothing; only `ensure_admin_token` writes, and says so by its name.
"""

from __future__ import annotations

import difflib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from tollkeeper.core.errors import SettingsInvalid
from tollkeeper.dotenv import read_env, write_env

PREFIX = "TOLLKEEPER_"


class Kind(NamedTuple):
    """A type of setting: what it expects, in words, and its parser, which raises ValueError."""

    expected: str
    parse: Callable[[str], Any]


def _text(value: str) -> str:
    if not value.isprintable():
        raise ValueError
    return value


def _whole(low: int, high: int) -> Kind:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise ValueError
        return int(value)

    return Kind(f"a whole number from {low} to {high:,}", parse)


def _choice(*words: str) -> Kind:
    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError
        return value.lower()

    return Kind(f"one of {', '.join(words)}", parse)


def _http_url(value: str) -> str:
    parts = urlsplit(_text(value))
    _ = parts.port  # raises ValueError when it is no number
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or " " in value:
        raise ValueError
    return value.rstrip("/")


def _database_url(value: str) -> str:
    path = value.removeprefix("sqlite:///")
    if path == value or path.strip() in ("", ":memory:") or path.endswith("/") or "?" in path:
        raise ValueError
    return _text(value)


def _token(value: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]{16,256}", value):
        raise ValueError
    return value


def _stripe_key(value: str) -> str:
    if not re.fullmatch(r"[sr]k_(test|live)_[0-9A-Za-z_]{1,240}", value):
        raise ValueError
    return value


def _webhook_secrets(value: str) -> str:
    if not re.fullmatch(r"whsec_[\x21-\x2b\x2d-\x7e]+(,\s*whsec_[\x21-\x2b\x2d-\x7e]+)*", value):
        raise ValueError
    return value


STRIPE_KEY = Kind("a secret or restricted key of Stripe (sk_test_…, rk_test_…, sk_live_…, rk_live_…)", _stripe_key)
WEBHOOK_SECRETS = Kind(
    "the signing secret of the webhook endpoint (whsec_…), several separated by commas", _webhook_secrets
)
TEXT = Kind("printable text", _text)
HTTP_URL = Kind("an address such as http://127.0.0.1:3000", _http_url)
DATABASE_URL = Kind("sqlite:///FILE (sqlite:////FILE for an absolute path)", _database_url)
TOKEN = Kind("16 to 256 ASCII characters without spaces", _token)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. `default` is text, as it would stand in `.env`; None means unset, and `help` says what happens then."""

    name: str
    field: str
    kind: Kind
    default: str | None
    help: str
    secret: bool = False


SETTINGS = (
    Setting(
        "TOLLKEEPER_HOST", "host", TEXT, "127.0.0.1", "Address the server listens on. `0.0.0.0` answers other machines."
    ),
    Setting("PORT", "port", _whole(0, 65535), "3000", "Port the server listens on. `0` takes a free one."),
    Setting(
        "TOLLKEEPER_DATABASE_URL",
        "database_url",
        DATABASE_URL,
        "sqlite:///tollkeeper.db",
        "The database. Beside `X.db` stand `X-usage.db` (the usage log) and `X.lock`.",
        secret=True,
    ),
    Setting(
        "TOLLKEEPER_CATALOG",
        "catalog",
        TEXT,
        "tollkeeper.toml",
        "The catalog file: meters, plans, prices, limits, quotas.",
    ),
    Setting(
        "TOLLKEEPER_ADMIN_TOKEN",
        "admin_token",
        TOKEN,
        None,
        "May do everything. When unset, the server makes one and writes it to `.env` (mode 0600).",
        secret=True,
    ),
    Setting(
        "TOLLKEEPER_URL",
        "url",
        HTTP_URL,
        None,
        "The server the command line speaks to. When unset, `http://127.0.0.1:PORT`.",
    ),
    Setting(
        "TOLLKEEPER_PUBLIC_URL",
        "public_url",
        HTTP_URL,
        None,
        "How customers reach the server; used in links. When unset, `TOLLKEEPER_URL`.",
    ),
    Setting(
        "TOLLKEEPER_LOG_LEVEL",
        "log_level",
        _choice("debug", "info", "warning", "error"),
        "info",
        "The least that is logged.",
    ),
    Setting(
        "TOLLKEEPER_LOG_FORMAT",
        "log_format",
        _choice("auto", "json", "pretty"),
        "auto",
        "Shape of the log. `auto` is `pretty` on a terminal and `json` elsewhere.",
    ),
    Setting(
        "TOLLKEEPER_LOG_REQUESTS",
        "log_requests",
        _choice("all", "some", "none"),
        "some",
        "Which requests leave a line in the log. `some`: all, but of `/v1/check` and `/v1/events` only failures of the server (5xx) "
        "and those over a second; `/metrics` counts every one.",
    ),
    Setting(
        "TOLLKEEPER_EVENT_MAX_AGE_DAYS",
        "event_max_age_days",
        _whole(1, 3650),
        "35",
        "An event whose time is older than this is answered `too_old`. Stripe takes 35 days.",
    ),
    Setting(
        "TOLLKEEPER_RETENTION_DAYS",
        "retention_days",
        _whole(2, 36500),
        "400",
        "Days the usage log and its event ids are kept. More than `TOLLKEEPER_EVENT_MAX_AGE_DAYS`; totals are kept for ever.",
    ),
    Setting(
        "STRIPE_SECRET_KEY",
        "stripe_secret_key",
        STRIPE_KEY,
        None,
        "Key of the Stripe account that collects the money; a restricted one is enough. A test key bills the environment `test`, a live "
        "key `live`. When unset, invoices are issued without Stripe.",
        secret=True,
    ),
    Setting(
        "STRIPE_WEBHOOK_SECRET",
        "stripe_webhook_secret",
        WEBHOOK_SECRETS,
        None,
        "Signing secret of the endpoint `/webhooks/stripe`; several, separated by commas, while one is replaced. When unset, webhooks "
        "are answered 404 and events are only polled.",
        secret=True,
    ),
    Setting(
        "STRIPE_API_BASE",
        "stripe_api_base",
        HTTP_URL,
        None,
        "Another address for Stripe's API, such as that of `tollkeeper sandbox`. When unset, Stripe's own.",
    ),
    Setting(
        "STRIPE_METER_EVENTS_BASE",
        "stripe_meter_events_base",
        HTTP_URL,
        None,
        "Another address for Stripe's meter event streams. When unset, `STRIPE_API_BASE`, or Stripe's own.",
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "otlp_endpoint",
        HTTP_URL,
        None,
        "OTLP/HTTP collector for traces. When unset, none are made.",
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "otlp_headers",
        TEXT,
        None,
        "Headers for the collector, `name=value,name=value`. When unset, none.",
        secret=True,
    ),
    Setting("OTEL_SERVICE_NAME", "otel_service_name", TEXT, "tollkeeper", "Name of this service in traces."),
)
_KNOWN = {s.name for s in SETTINGS} | {f"{s.name}_FILE" for s in SETTINGS if s.secret}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the table says after reading. `directory` is where `.env` and relative paths are looked for.

    `sources` names for each setting where its value came from; `warnings` are sentences for the person who started us.
    """

    directory: Path
    host: str
    port: int
    database_url: str = field(repr=False)
    catalog: str
    admin_token: str | None = field(repr=False)
    url: str
    public_url: str
    log_level: str
    log_format: str
    log_requests: Literal["all", "some", "none"]
    event_max_age_days: int
    retention_days: int
    stripe_secret_key: str | None = field(repr=False)
    stripe_webhook_secret: str | None = field(repr=False)
    stripe_api_base: str | None
    stripe_meter_events_base: str | None
    otlp_endpoint: str | None
    otlp_headers: str | None = field(repr=False)
    otel_service_name: str
    sources: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def env_path(self) -> Path:
        return self.directory / ".env"

    @property
    def catalog_path(self) -> Path:
        return self.directory / self.catalog

    @property
    def database_path(self) -> Path:
        """The main database file, `X.db`."""
        return self.directory / self.database_url.removeprefix("sqlite:///")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Settings:
        """Read every source. Raises SettingsInvalid, which names every fault at once; changes nothing."""
        environ = os.environ if environ is None else environ
        directory = cwd or Path()
        dotenv = read_env(directory / ".env")
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        faults: list[str] = []
        for setting in SETTINGS:
            value, source = setting.default, "default"
            try:
                value, source = next(_found(setting, environ, dotenv, directory), (value, source))
                values[setting.field] = None if value is None else setting.kind.parse(value)
            except _Unreadable as fault:
                faults.append(f"{setting.name}: {fault}")
            except ValueError:
                shown = "the value" if setting.secret else repr(value)
                faults.append(f"{setting.name}: {shown} from {source} is not valid: expected {setting.kind.expected}")
            sources[setting.name] = source
        if not faults and values["retention_days"] <= values["event_max_age_days"]:
            faults.append(
                f"TOLLKEEPER_RETENTION_DAYS: {values['retention_days']} from {sources['TOLLKEEPER_RETENTION_DAYS']} is not "
                f"valid: expected more than TOLLKEEPER_EVENT_MAX_AGE_DAYS, {values['event_max_age_days']}, so that a repeated "
                "event is always recognised"
            )
        if faults:
            raise SettingsInvalid("\n".join(faults))
        values["url"] = values["url"] or f"http://127.0.0.1:{values['port']}"
        values["public_url"] = values["public_url"] or values["url"]
        return cls(directory=directory, sources=sources, warnings=tuple(_unknown(environ, dotenv)), **values)


class _Unreadable(Exception):
    """A `NAME_FILE` that cannot be read, or a value that cannot be text."""


def _found(
    setting: Setting, environ: Mapping[str, str], dotenv: Mapping[str, tuple[str, str]], directory: Path
) -> Iterator[tuple[str, str]]:
    """Every (value, where it is from) that is not blank, the strongest first; a file is read only when its turn comes."""
    places = (("the environment", environ), (None, dotenv))
    for label, place in places:
        for name in (setting.name, f"{setting.name}_FILE") if setting.secret else (setting.name,):
            entry = place.get(name, "")
            text, source = entry if isinstance(entry, tuple) else (entry, label or "")
            if not text.strip():
                continue
            if name == setting.name:
                yield text.strip(), source
            else:
                yield _read_secret(directory / text.strip(), name, source), f"{text.strip()} ({name} in {source})"


def _read_secret(path: Path, name: str, source: str) -> str:
    try:
        text = path.read_bytes().decode().strip()
    except (OSError, ValueError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "not UTF-8 text"
        raise _Unreadable(f"{path}, named by {name} in {source}, cannot be read: {reason}") from None
    if not text:
        raise _Unreadable(f"{path}, named by {name} in {source}, is empty")
    return text


def _unknown(environ: Mapping[str, str], dotenv: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    named = [(name, "the environment") for name in environ] + [(name, source) for name, (_, source) in dotenv.items()]
    for name, source in sorted(named):
        if name.startswith(PREFIX) and name not in _KNOWN:
            words = {known.removeprefix(PREFIX): known for known in sorted(_KNOWN)}
            close = difflib.get_close_matches(name.removeprefix(PREFIX), words, n=1)
            hint = f"; did you mean {words[close[0]]}?" if close else ""
            yield f"{name} in {source} is not a setting{hint}"


def ensure_admin_token(settings: Settings) -> tuple[Settings, bool]:
    """The settings with an admin token, and whether it was made (and written to `.env`) just now."""
    if settings.admin_token is not None:
        return settings, False
    token = f"tk_admin_{secrets.token_urlsafe(32)}"
    write_env(settings.env_path, "TOLLKEEPER_ADMIN_TOKEN", token)
    sources = {**settings.sources, "TOLLKEEPER_ADMIN_TOKEN": str(settings.env_path)}
    return replace(settings, admin_token=token, sources=sources), True
