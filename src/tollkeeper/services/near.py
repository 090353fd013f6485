"""A customer is about to use up a quota, and is told before being refused."""

from __future__ import annotations

import logging

from tollkeeper.core.gate import NEAR_PERCENT, Decision

logger = logging.getLogger("tollkeeper.gate")


def tell_near(decision: Decision) -> None:
    """An event in the log, `quota.near`: once a period, or again when usage was given back in between."""
    quota = decision.quota
    assert quota is not None
    extra = {
        "event": "quota.near",
        "customer": decision.who.customer,
        "key_id": decision.who.key_id,
        "meter": quota.meter,
    }
    told = {
        "environment": decision.who.environment,
        "used": quota.used,
        "limit": quota.limit,
        "resets_at": quota.resets_at,
    }
    logger.info(
        "%s has used %d %% of its quota of %s", decision.who.customer, NEAR_PERCENT, quota.meter, extra=extra | told
    )
