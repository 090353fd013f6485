"""The official client, loaded late, and its errors as ours. Whether something was done decides which one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import NotFound, SettingsInvalid, TollkeeperError
from tollkeeper.core.provider import ProviderBusy, ProviderRefused, ProviderUnauthorized, ProviderUnavailable

if TYPE_CHECKING:
    from stripe import StripeClient, StripeError

API_VERSION: Final = "2026-10-28.endive"
PAGE: Final = 100
RETRIES: Final = 2
"""Of a call that a person waits for. What goes through the outbox is tried again there."""


def environment_of(secret_key: str) -> Environment:
    """Of a secret (sk_) or restricted (rk_) key. Raises SettingsInvalid."""
    for mode in ("test", "live"):
        if secret_key.startswith((f"sk_{mode}_", f"rk_{mode}_")):
            return "test" if mode == "test" else "live"
    raise SettingsInvalid(
        "STRIPE_SECRET_KEY: expected a secret or restricted key (sk_test_…, rk_test_…, sk_live_…, rk_live_…)."
    )


class Calls:
    """Calls to one Stripe account. Safe in any thread; connections are kept per thread by the client."""

    def __init__(self, secret_key: str, api_base: str | None = None, meter_events_base: str | None = None) -> None:
        """Bases None: Stripe's own addresses. Raises SettingsInvalid for what is no secret key."""
        self.environment = environment_of(secret_key)
        self.api_base = api_base
        self._secret_key = secret_key
        self._bases = {"api": api_base, "meter_events": meter_events_base or api_base}
        self._client: StripeClient | None = None
        self._lock = threading.Lock()

    @property
    def client(self) -> StripeClient:
        if self._client is None:
            with self._lock:
                if self._client is None:
                    import stripe

                    from tollkeeper.integrations.stripe.transport import Transport

                    stripe.enable_telemetry = False
                    bases: Any = {name: base.rstrip("/") for name, base in self._bases.items() if base}
                    self._client = stripe.StripeClient(
                        self._secret_key,
                        stripe_version=API_VERSION,
                        base_addresses=bases,
                        max_network_retries=RETRIES,
                        http_client=Transport(self.api_base or stripe.DEFAULT_API_BASE),
                    )
        return self._client

    def get(self, work: Callable[[StripeClient], Any]) -> dict[str, Any]:
        """One call, its answer as plain data: strings, numbers, lists, dicts. Raises what the module's docstring of errors tells."""
        client = self.client  # loads stripe
        import stripe

        try:
            answer: dict[str, Any] = work(client).to_dict(for_json=True)
        except stripe.StripeError as error:
            raise translated(error) from error
        return answer

    def pages(self, work: Callable[[StripeClient, Any], Any], params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Every object of a list, a page at a time."""
        after: dict[str, Any] = {}
        while True:
            page = self._page(work, {**params, **after, "limit": PAGE})
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            after = {"starting_after": page["data"][-1]["id"]}

    def _page(self, work: Callable[[StripeClient, Any], Any], params: dict[str, Any]) -> dict[str, Any]:
        return self.get(lambda client: work(client, params))

    def thin_pages(
        self, work: Callable[[StripeClient, Any], Any], params: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Every object of a list of /v2, whose next page is an address that the client follows."""
        client = self.client
        import stripe

        try:
            for one in work(client, {**params, "limit": PAGE}).auto_paging_iter():
                yield one.to_dict(for_json=True)
        except stripe.StripeError as error:
            raise translated(error) from error

    def post(self, work: Callable[[StripeClient, Any], Any], key: str, *, retries: int | None = None) -> dict[str, Any]:
        """One call that changes something, under the key by which Stripe knows a repeat; `work` passes the options on."""
        options: dict[str, Any] = {"idempotency_key": key}
        if retries is not None:
            options["max_network_retries"] = retries
        return self.get(lambda client: work(client, options))


def translated(error: StripeError) -> TollkeeperError:
    """Ours for an error of the client. What is not known to have failed is ProviderUnavailable."""
    import stripe

    status, said = error.http_status, (error.user_message or str(error)).strip()
    reason = str(error.code or getattr(error.error, "type", None) or "")
    if isinstance(error, stripe.APIConnectionError) or status is None:
        return ProviderUnavailable(f"Stripe did not answer: {said.splitlines()[0] if said else 'no connection'}")
    if status < 400:  # not what Stripe answers: something that stands between, and what became of the call is not known
        return ProviderUnavailable(f"What answered is not Stripe ({status}): {said[:200]}")
    if status == 429:
        return ProviderBusy(f"Stripe asks to be called less often: {said}", retry_after=_seconds(error.headers))
    if status >= 500 or status == 409:  # 409: the first call under this key is still under way
        return ProviderUnavailable(f"Stripe answered {status}: {said}")
    if status in (401, 403):
        return ProviderUnauthorized(f"Stripe does not accept STRIPE_SECRET_KEY for this: {said}", retry_after=60.0)
    if status == 404:
        return NotFound(f"Stripe has no such thing: {said}")
    parameter = getattr(error, "param", None)
    return ProviderRefused(f"Stripe refused{f' {parameter}' if parameter else ''}: {said}", reason=reason)


def _seconds(headers: Mapping[str, str] | None) -> float:
    """Of `Retry-After`; 0 when there is none."""
    text = str((headers or {}).get("retry-after") or (headers or {}).get("Retry-After") or "")
    return float(text) if text.isdigit() else 0.0
