"""`/buy/…`: the page behind the link in a 402 or a quota's 429. The plans on offer, a way to checkout, and back. Needs no script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Final
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tollkeeper.core.buy_links import LinkInvalid
from tollkeeper.core.errors import InvalidRequest, NotFound, TollkeeperError
from tollkeeper.core.plans import Plan
from tollkeeper.core.price_words import headline, limit_words, quota_words, usage_words
from tollkeeper.services.checkout import Action, Checkouts, Offer
from tollkeeper.web.html import join
from tollkeeper.web.routes import StrictRoute, services_of

router = APIRouter(route_class=StrictRoute, include_in_schema=False)

HEADERS: Final[Mapping[str, str]] = {
    # No form-action: the answer to the form leads to the provider's address, whatever that is.
    "content-security-policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}
_MAX_FORM: Final = 2_000


@router.get("/buy/{token}")
def show_plans(token: str, request: Request) -> Response:
    """The plans."""
    return _page(request, token, lambda checkouts, customer: plans_page(checkouts.offer(customer), token))


@router.get("/buy/{token}/done")
def show_done(token: str, request: Request) -> Response:
    """Back from the checkout: whether the plan holds yet."""
    return _page(request, token, lambda checkouts, customer: done_page(checkouts.offer(customer), token))


@router.post("/buy/{token}")
async def choose(token: str, request: Request) -> Response:
    """A plan was chosen: on to the checkout, or, for a dearer plan in place of a running one, to a page that asks once more."""
    sent = parse_qs((await request.body())[:_MAX_FORM].decode("latin-1"))
    plan, sure = sent.get("plan", [""])[0], sent.get("sure") == ["yes"]
    return await run_in_threadpool(_choose, request, token, plan, sure)


def _choose(request: Request, token: str, key: str, sure: bool) -> Response:
    try:
        checkouts, customer = _whose(request, token)
        offer = checkouts.offer(customer)
        plan, action = next((found for found in offer.plans if found[0].key == key), (None, "none"))
        if plan is None or action in ("none", "current"):
            return RedirectResponse(f"/buy/{token}", 303, headers=dict(HEADERS))
        if action == "change" and not sure:
            return _html(confirm_page(offer, plan, token))
        if action == "change":
            checkouts.change(customer, key, "now")
            return RedirectResponse(f"/buy/{token}/done", 303, headers=dict(HEADERS))
        here = f"{checkouts.public_url}/buy/{token}"
        bought = checkouts.buy(customer, key, success_url=f"{here}/done", cancel_url=here)
        return RedirectResponse(str(bought.document["url"]), 303, headers=dict(HEADERS))
    except TollkeeperError as error:
        return _failure(error)


def _page(request: Request, token: str, make: Callable[[Checkouts, str], str]) -> Response:
    try:
        checkouts, customer = _whose(request, token)
        return _html(make(checkouts, customer))
    except TollkeeperError as error:
        return _failure(error)


def _whose(request: Request, token: str) -> tuple[Checkouts, str]:
    money = services_of(request).money
    if money.checkouts is None or money.links is None:
        raise NotFound("Nothing is sold here by a link: there is no payment provider.")
    environment, customer = money.links.read(token)
    if environment != money.checkouts.environment:
        raise LinkInvalid
    return money.checkouts, customer


def _failure(error: TollkeeperError) -> Response:
    status = 404 if isinstance(error, NotFound) else 400 if isinstance(error, InvalidRequest) else 503
    if not error.permanent:
        said = "The payment provider does not answer just now. Nothing was charged; try again in a minute."
    else:
        status, said = (409 if status == 503 else status), error.detail
    return _html(
        _frame("Not here", f'<section class="box"><h1>That did not work</h1><p>{escape(said)}</p></section>'), status
    )


def _html(text: str, status: int = 200) -> Response:
    return HTMLResponse(text, status, headers=dict(HEADERS))


def plans_page(offer: Offer, token: str) -> str:
    """Every plan on offer, the one the customer is on marked."""
    cards = join(_card(plan, action, offer, token) for plan, action in offer.plans)
    owed = ""
    if offer.owed is not None and (url := offer.owed.document.get("hosted_url")):
        owed = (
            '<section class="notice"><p><strong>An invoice is open.</strong> Once it is paid, calls go on at once.</p>'
            f'<a class="button" href="{escape(str(url))}">Pay the invoice</a></section>'
        )
    lead = f"For {escape(offer.customer.name)}. A plan holds from the moment it is paid, and keys stay as they are."
    test = ' <span class="tag">Test mode</span>' if offer.standing.environment == "test" else ""
    name = escape(offer.name)
    return _frame(
        "Plans",
        f'<h1>{name}: choose a plan{test}</h1><p class="lead">{lead}</p>{owed}<div class="plans">{cards}</div>'
        '<p class="foot">Payment and cards are handled by the payment provider; this site never sees a card number.</p>',
    )


def _card(plan: Plan, action: Action, offer: Offer, token: str) -> str:
    currency = offer.customer.currency
    amount, often = headline(plan, currency)
    items = [escape(words) for words in plan_words(plan, currency, offer.meters, offer.features)]
    listed = f"<ul>{join(f'<li>{item}</li>' for item in items)}</ul>" if items else "<ul></ul>"
    tag = '<span class="tag">Your plan</span>' if action == "current" else ""
    return (
        f'<section class="plan{" current" if action == "current" else ""}"><h2>{escape(plan.name)}{tag}</h2>'
        f'<p class="price">{escape(amount)} <small>{often}</small></p>{listed}{_way(plan, action, offer, token)}</section>'
    )


def _way(plan: Plan, action: Action, offer: Offer, token: str) -> str:
    if action in ("buy", "change"):
        trial = plan.trial_days and action == "buy" and offer.standing.bought is None
        label = f"Try {plan.trial_days} days free" if trial else f"Choose {plan.name}"
        return (
            f'<form method="post" action="/buy/{escape(token)}"><input type="hidden" name="plan" value="{escape(plan.key)}">'
            f'<button type="submit">{escape(label)}</button></form>'
        )
    if action == "none" and offer.standing.bought is not None:
        return '<p class="last">To move to a smaller plan, ask us or use the billing portal.</p>'
    return ""


def plan_words(plan: Plan, currency: str, units: Mapping[str, str], features: Mapping[str, str]) -> list[str]:
    """What is in a plan, line by line: allowances, usage prices, features."""
    billed = [price for price in plan.prices if price.meter is not None and price.currency == currency]
    words = [quota_words(quota, _unit(quota.meter, units)) for quota in plan.quotas]
    words += [usage_words(price, _unit(str(price.meter), units)) for price in billed]
    fastest = [limit for limit in plan.limits if limit.meter is None]
    words += [limit_words(limit) for limit in fastest[:1]]
    for key, value in plan.features.items():
        name = features.get(key) or key.replace("_", " ")
        if value is True:
            words.append(name[:1].upper() + name[1:])
        elif value is not False:
            words.append(f"{name[:1].upper() + name[1:]}: {value}")
    return words


def confirm_page(offer: Offer, plan: Plan, token: str) -> str:
    amount, often = headline(plan, offer.customer.currency)
    return _frame(
        "Change the plan",
        f'<section class="box"><h1>Change to {escape(plan.name)}?</h1>'
        f"<p>{escape(amount)} {often}, from now on. What was paid ahead for the old plan is set against it, what was used so far is "
        "invoiced, and the card on file is charged at once.</p>"
        f'<form method="post" action="/buy/{escape(token)}"><input type="hidden" name="plan" value="{escape(plan.key)}">'
        '<input type="hidden" name="sure" value="yes"><button type="submit">Change and pay</button></form>'
        f'<p class="foot"><a class="quiet" href="/buy/{escape(token)}">Keep the plan as it is</a></p></section>',
    )


def done_page(offer: Offer, token: str) -> str:
    """After the checkout. While the payment is not confirmed the page looks again by itself."""
    ours = offer.standing.subscription
    if offer.paid and ours is not None and ours.status in ("active", "trialing"):
        plan = next((plan.name for plan, _ in offer.plans if plan.key == ours.plan), ours.plan)
        return _frame(
            "Thank you",
            f'<section class="box"><h1>Thank you. {escape(plan)} is active.</h1><p>Your keys work as before, with the new plan. '
            "You can close this page.</p>"
            f'<a class="button" href="/buy/{escape(token)}">See the plan</a></section>',
        )
    return _frame(
        "One moment",
        '<section class="box"><h1>One moment …</h1><p>The payment provider has not confirmed the payment yet. '
        "This page looks again by itself; you can also close it.</p></section>",
        refresh=True,
    )


def _unit(meter: str, units: Mapping[str, str]) -> str:
    return units.get(meter) or meter.replace("_", " ").removesuffix("s")


def _frame(title: str, main: str, *, refresh: bool = False) -> str:
    again = '<meta http-equiv="refresh" content="2">' if refresh else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'{again}<title>{escape(title)}</title><link rel="icon" href="/docs/static/icon.svg" type="image/svg+xml">'
        f'<link rel="stylesheet" href="/docs/static/buy.css"></head><body><main>{main}</main></body></html>'
    )
