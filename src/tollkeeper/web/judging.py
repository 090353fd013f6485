"""A call that stands before a gate with its keys and its price: judged."""

from __future__ import annotations

import asyncio
import logging

from tollkeeper.core.errors import InvalidRequest, NotFound, TollkeeperError
from tollkeeper.core.gate import Decision
from tollkeeper.services.gate import Gate
from tollkeeper.services.snapshots import Snapshot
from tollkeeper.web.key_places import KeyPlaces
from tollkeeper.web.rules import Rule

log = logging.getLogger("tollkeeper.gate")


async def judge(gate: Gate, keys: frozenset[str], rule: Rule, ip: str | None, places: KeyPlaces) -> Decision:
    """Identify, limit, take. Raises InvalidRequest for several keys, TollkeeperError when the gate is not set up for this price."""
    decision = judge_from_memory(gate, keys, rule, ip, places)
    if decision is None:
        [raw] = keys
        snapshot = await asyncio.to_thread(gate.load, raw)
        decision = _judge(gate, snapshot, keys, rule, ip, places)
    return decision


def judge_from_memory(
    gate: Gate, keys: frozenset[str], rule: Rule, ip: str | None, places: KeyPlaces
) -> Decision | None:
    """`judge` without a read; None when the key must be read first."""
    snapshot = None
    if len(keys) > 1:
        raise InvalidRequest("Several different API keys are sent: send one.")
    for raw in keys:
        snapshot = gate.find(raw)
        if snapshot is None and gate.may_be_key(raw):
            return None
    return _judge(gate, snapshot, keys, rule, ip, places)


def _judge(
    gate: Gate, snapshot: Snapshot | None, keys: frozenset[str], rule: Rule, ip: str | None, places: KeyPlaces
) -> Decision:
    try:
        # a cost of 0 would only ask: what costs nothing is judged without its meter, and so limited
        decision = gate.judge(snapshot, rule.meter if rule.cost else None, rule.cost, None, ip)
    except (NotFound, InvalidRequest) as error:
        log.error("a call cannot be judged: %s", error.detail)
        raise TollkeeperError("The gate in front of this API is not set up for this path.") from error
    if not keys:
        decision.reason = f"Send your API key as {places}."
    return decision
