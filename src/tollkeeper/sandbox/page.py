"""The page at `/`: what the sandbox holds, and buttons for its time and its webhooks. It works without JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tollkeeper.sandbox.frame import go, html
from tollkeeper.sandbox.page_style import STYLE, mark
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.texts import money

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_SHOWN = 12
_ADVANCES = {"hour": 3_600, "day": 86_400, "month": 31 * 86_400}


def page_routes(world: World) -> list[Route]:
    """The page, and the address of its buttons."""

    async def show(request: Request) -> Response:
        return html("Sandbox", f"<main>{body(world)}</main>", style=STYLE)

    async def act(request: Request) -> Response:
        given = parse_qs((await request.body()).decode("utf-8", "replace"))
        _act(world, given.get("do", [""])[0])
        return go("/")

    return [Route("/", show, methods=["GET"]), Route("/sandbox/act", act, methods=["POST"])]


def _act(world: World, what: str) -> None:
    now, frozen = world.clock.now(), world.clock.frozen
    if what in _ADVANCES:
        world.move_to(now + _ADVANCES[what], frozen=frozen)
    elif what in ("stop", "run"):
        world.move_to(now, frozen=what == "stop")
    elif what in ("hold", "release"):
        world.webhooks.hold = what == "hold"
        if what == "release":
            world.webhooks.release()
    elif what == "retry":
        world.webhooks.retry_now()
    elif what == "mend":
        world.faults.clear()


def instant(seconds: float | None) -> str:
    """An instant for people, in UTC, that does not break over two lines."""
    return (
        "—"
        if seconds is None
        else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d\u00a0%H:%M:%S").replace("-", "\u2011")
    )


def _buttons(*pairs: tuple[str, str]) -> str:
    inner = "".join(f'<button name="do" value="{do}">{escape(label)}</button>' for do, label in pairs)
    return f'<form method="post" action="/sandbox/act">{inner}</form>'


def _table(title: str, heads: list[str], rows: Iterable[list[str]], kind: str = "", none: str = "None yet.") -> str:
    """A section with a table; cells are HTML. A head that ends in `>` is of numbers."""
    found = list(rows)
    link = f'<a href="/sandbox/state?kind={kind}">JSON</a>' if kind else ""
    if not found:
        return f'<section><h2>{title} {link}</h2><p class="none">{none}</p></section>'
    numbers = [head.endswith(">") for head in heads]

    names = [head.rstrip(">") for head in heads]

    def cells(row: list[str]) -> str:
        """On a narrow screen each says by itself what it is."""
        marked = zip(row, names, numbers, strict=True)
        return "".join(
            f'<td data-is="{name}"{" class=n" if number else ""}><span>{text}</span></td>'
            for text, name, number in marked
        )

    head = "".join(
        f"<th{' class=n' if number else ''}>{name}</th>" for name, number in zip(names, numbers, strict=True)
    )
    lines = "".join(f"<tr>{cells(row)}</tr>" for row in found)
    return (
        f"<section><h2>{title} {link}</h2><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></section>"
    )


def _newest(world: World, kind: str, where: Callable[[Object], bool] = lambda row: True) -> list[Object]:
    rows = (row for row in world.store.table(kind).newest() if not row.get("deleted") and where(row))
    return list(islice(rows, _SHOWN))


def _id(text: Any) -> str:
    return f'<span class="id">{escape(str(text or "—"))}</span>'


def _who(world: World, customer: Any) -> str:
    found = world.store.get("customer", customer) if isinstance(customer, str) else None
    name = (found or {}).get("name") or (found or {}).get("email")
    return escape(name) if name else _id(customer)


def body(world: World) -> str:
    """The page's HTML, without its frame."""
    return "".join(
        [
            _head(world),
            _tiles(world),
            '<div class="two">',
            _customers(world),
            _subscriptions(world),
            "</div>",
            _invoices(world),
            _usage(world),
            '<div class="two">',
            _events(world),
            _deliveries(world),
            "</div>",
            _faults(world),
            _calls(world),
            "<footer>Control: <code>/sandbox/clock</code>, <code>/sandbox/faults</code>, <code>/sandbox/webhooks</code>, "
            '<code>/sandbox/keys</code>, <a href="/sandbox/calls">/sandbox/calls</a>, '
            '<a href="/sandbox/state">/sandbox/state</a>. No money moves here.</footer>',
        ]
    )


def _head(world: World) -> str:
    still = world.clock.frozen
    time = _buttons(
        ("hour", "+1 hour"),
        ("day", "+1 day"),
        ("month", "+31 days"),
        ("run", "Let it run") if still else ("stop", "Stop"),
    )
    state = "stands still" if still else "runs"
    return (
        f"<header><div><h1>Sandbox</h1><p>A stand-in for Stripe. Account {_id(world.account_id)}</p></div>"
        f'<div class="clock"><strong>{instant(world.clock.now())} UTC</strong><span class="none">the clock {state}</span><br>{time}</div>'
        "</header>"
    )


def _tiles(world: World) -> str:
    table = world.store.table
    active = sum(row["status"] in ("active", "trialing") for row in table("subscription"))
    paid = sum(row["status"] == "paid" for row in table("invoice"))
    counts = [
        (sum(not row.get("deleted") for row in table("customer")), "customers"),
        (active, "active subscriptions"),
        (paid, "paid invoices"),
        (world.meters.count(), "meter events"),
        (len(table("event")), "events"),
        (len(table("_delivery")), "deliveries waiting"),
    ]
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{n:,}</b><span>{word}</span></div>' for n, word in counts)
        + "</div>"
    )


def _customers(world: World) -> str:
    rows = [
        [_who(world, row["id"]), _id(row["id"]), f'<span class="any">{escape(row.get("email") or "—")}</span>']
        for row in _newest(world, "customer")
    ]
    return _table("Customers", ["name", "id", "e-mail"], rows, "customer")


def _subscriptions(world: World) -> str:
    def plan(row: Object) -> str:
        prices = [item["price"] for item in row.get("items", {}).get("data", [])]
        held = [price if isinstance(price, dict) else world.store.get("price", price) or {} for price in prices]
        products = [world.store.get("product", str(price.get("product"))) or {} for price in held]
        return escape(", ".join(dict.fromkeys(product.get("name", "—") for product in products)) or "—")

    def until(row: Object) -> str:
        ends = [item.get("current_period_end") for item in row.get("items", {}).get("data", [])]
        return instant(max((end for end in ends if end), default=None))

    rows = [
        [_who(world, row["customer"]), plan(row), mark(row["status"]), until(row)]
        for row in _newest(world, "subscription")
    ]
    return _table("Subscriptions", ["customer", "plan", "status", "period ends"], rows, "subscription")


def _invoices(world: World) -> str:
    rows = []
    for row in _newest(world, "invoice"):
        url = str(row.get("hosted_invoice_url") or "")
        number = escape(row.get("number") or row["id"])
        shown = f'<a href="{escape(url)}">{number}</a>' if url.startswith(("http://", "https://")) else number
        total = money(row["total"], row["currency"])
        rows.append([shown, _who(world, row.get("customer")), mark(row["status"]), total, instant(row["created"])])
    return _table("Invoices", ["number", "customer", "status", "total>", "created>"], rows, "invoice")


def _usage(world: World) -> str:
    rows = []
    for customer, meter, events, total, last in world.meters.recent(_SHOWN):
        found = world.store.get("billing.meter", meter) or {}
        rows.append(
            [
                _who(world, customer),
                escape(found.get("display_name", meter)),
                f"{events:,}",
                escape(total),
                instant(last),
            ]
        )
    heads = ["customer", "meter", "events>", "sum>", "latest hour>"]
    return _table("Usage by hour, latest first", heads, rows, "", "No meter event yet.")


def _events(world: World) -> str:
    rows = [
        [escape(row["type"]), f"{row['pending_webhooks']}", instant(row["created"])] for row in _newest(world, "event")
    ]
    return _table("Events", ["type", "pending>", "created>"], rows, "event")


def _deliveries(world: World) -> str:
    endpoints = "".join(
        _table(
            "Webhook endpoints",
            ["address", "status"],
            [
                [f"<code>{escape(str(row.get('url') or row.get('_url')))}</code>", mark(row["status"])]
                for row in _all(world)
            ],
            "webhook_endpoint",
            "None: nothing is delivered.",
        )
    )
    rows = []
    for attempt in islice(reversed(world.webhooks.attempts), _SHOWN):
        outcome = attempt["outcome"]
        answer = mark(str(outcome)) if isinstance(outcome, int) else escape(outcome)
        again = f" <small>attempt {attempt['attempt']}</small>" if attempt["attempt"] > 1 else ""
        rows.append([escape(attempt["type"]).replace(".", ".<wbr>") + again, answer, instant(attempt["at"])])
    hold = ("release", "Release") if world.webhooks.hold else ("hold", "Hold")
    buttons = f"<section><h2>Deliveries</h2>{_buttons(hold, ('retry', 'Try all again now'))}</section>"
    return f"<div>{endpoints}{buttons}{_table('Last attempts', ['event', 'answer', 'at>'], rows)}</div>"


def _all(world: World) -> list[Object]:
    return [*world.store.table("webhook_endpoint"), *world.store.table("v2.core.event_destination")]


def _faults(world: World) -> str:
    rows = [
        [
            mark(fault["kind"]),
            f"<code>{escape(fault['method'])} {escape(fault['path'])}</code>",
            "for ever" if fault["count"] is None else f"{fault['count']} left",
            str(fault["hits"]),
        ]
        for fault in world.faults.show()
    ]
    if not rows:
        return ""
    table = _table("Faults in force", ["fault", "calls", "how often", "hits>"], rows)
    return table.replace("</section>", f"{_buttons(('mend', 'Lift all'))}</section>")


def _calls(world: World) -> str:
    rows = [
        [
            f"<code>{escape(call['method'])} {escape(call['path'])}</code>",
            mark(str(call["status"])),
            escape(str(call.get("error", ""))),
            instant(call["at"]),
        ]
        for call in islice(reversed(world.calls), _SHOWN)
    ]
    return _table("Last calls", ["call", "answer", "said", "at>"], rows)
