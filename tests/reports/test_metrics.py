"""What is owed, refused and different shows in the metrics."""

from __future__ import annotations

from typing import Any

from prometheus_client.core import CollectorRegistry

from reports.test_meter_errors import Broken, broken
from tollkeeper.core.errors import StorageUnavailable
from tollkeeper.integrations.metrics_money import money_metrics

__all__ = ["broken"]


class Collector:
    def __init__(self, money: Any) -> None:
        self.money = money

    def collect(self) -> Any:
        return money_metrics(self.money)


def shown(house: Broken) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(house.money))
    return registry


def test_usage_on_its_way_then_refused_is_shown_with_its_units_and_its_age(broken: Broken) -> None:
    broken.running.control(
        "/faults", {"kind": "429", "method": "POST", "path": "/v1/billing/meter_events", "count": 50}
    )
    broken.use(3)
    broken.move(600)
    registry = shown(broken)
    assert registry.get_sample_value("tollkeeper_outbox_messages", {"status": "pending"}) == 1
    assert registry.get_sample_value("tollkeeper_outbox_oldest_seconds") == 600
    assert registry.get_sample_value("tollkeeper_usage_reports_total") == 1
    assert registry.get_sample_value("tollkeeper_usage_reports_behind") == 0
    broken.running.control("/faults", method="DELETE")
    broken.settle()
    broken.hear()
    assert broken.money.drift is not None
    broken.money.drift.check_all()
    assert registry.get_sample_value("tollkeeper_outbox_messages", {"status": "rejected"}) == 1
    assert registry.get_sample_value("tollkeeper_outbox_oldest_seconds") == 0
    refused = {"meter": "api_calls", "state": "refused"}
    assert registry.get_sample_value("tollkeeper_drift_comparisons", refused) == 1
    assert registry.get_sample_value("tollkeeper_drift_units", refused) == 3


def test_what_cannot_be_read_has_no_sample(broken: Broken) -> None:
    def fail() -> Any:
        raise StorageUnavailable("The disk is away.")

    broken.money.outbox.state = fail  # type: ignore[method-assign]
    assert broken.money.drift is not None
    broken.money.drift.sums = fail  # type: ignore[method-assign]
    registry = shown(broken)
    assert registry.get_sample_value("tollkeeper_outbox_oldest_seconds") is None
    assert registry.get_sample_value("tollkeeper_drift_comparisons", {"meter": "api_calls", "state": "equal"}) is None
    assert registry.get_sample_value("tollkeeper_usage_reports_total") == 0
