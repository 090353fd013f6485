"""What no webhook brought is found in the provider's list of events, once, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spine import SECOND
from tollkeeper.core.provider import ProviderEvent, ProviderUnavailable
from tollkeeper.services.reconcile_events import OVERLAP_US, EventPoll

from .desk import InboxDesk
from .parts import NOW, event, written

US = 1_000_000


class Listed:
    """The provider's list. `asked`: the instants since which it was asked. `break_after`: so many events are given, then it fails."""

    name = "stripe"
    environment = "test"

    def __init__(self) -> None:
        self.events_: list[ProviderEvent] = []
        self.asked: list[int] = []
        self.break_after: int | None = None

    def happen(self, at: int, live: bool = False) -> str:
        """An event at so many seconds after NOW."""
        made = event(created=NOW + at, live=live)
        self.events_.append(ProviderEvent(made["id"], "invoice.paid", (NOW + at) * US, live, "in_1", written(made)))
        return str(made["id"])

    def events(self, since: int) -> Iterator[ProviderEvent]:
        self.asked.append(since)
        found = sorted((one for one in self.events_ if one.created_at >= since), key=lambda one: one.created_at)
        for number, one in enumerate(found):
            if number == self.break_after:
                raise ProviderUnavailable("in the middle")
            yield one


class Polled:
    def __init__(self, folder: Path) -> None:
        self.desk = InboxDesk(folder)
        self.listed = Listed()
        self.poll = self.restarted()

    def restarted(self) -> EventPoll:
        listed: Any = self.listed
        return EventPoll(self.desk.database, self.desk.time.clock(), listed, self.desk.inbox)

    def stored(self) -> set[str]:
        return {one.id for one in self.desk.inbox.events(limit=10_000)}


@pytest.fixture
def polled(tmp_path: Path) -> Iterator[Polled]:
    made = Polled(tmp_path)
    yield made
    made.desk.database.close()


def test_the_first_time_what_happened_in_the_last_day_comes_in(polled: Polled) -> None:
    polled.listed.happen(-2_000_000)  # before there was anything of ours
    ids = {polled.listed.happen(at) for at in (-80_000, -5, 0)}
    assert polled.poll.run_once() is False
    assert polled.stored() == ids
    assert polled.poll.caught == 3


def test_an_event_that_came_as_a_webhook_too_is_applied_once(polled: Polled) -> None:
    id = polled.desk.arrive()
    polled.listed.events_.append(
        ProviderEvent(id, "invoice.paid", NOW * US, False, "in_1", b'{"rendered":"otherwise"}')
    )
    before = polled.desk.get(id)
    polled.poll.run_once()
    polled.desk.settle()
    polled.poll.run_once()
    polled.desk.settle()
    assert (polled.desk.applied(id), polled.desk.get(id).payload, polled.poll.caught) == (1, before.payload, 0)


def test_it_reads_on_from_the_newest_event_less_the_overlap_after_a_restart_too(polled: Polled) -> None:
    polled.listed.happen(-10)
    polled.poll.run_once()
    polled.desk.time.move(3600 * SECOND)
    late = polled.listed.happen(-200)  # appears an hour after it happened, before others that are known
    polled.poll = polled.restarted()
    polled.poll.run_once()
    assert polled.listed.asked[1:] == [(NOW - 10) * US - OVERLAP_US]
    assert late in polled.stored()


def test_nothing_is_lost_while_the_server_is_down_for_weeks(polled: Polled) -> None:
    polled.listed.happen(0)
    polled.poll.run_once()
    missed = {polled.listed.happen(day * 86_400) for day in range(1, 25)}
    polled.desk.time.move(25 * 86_400 * SECOND)
    polled.restarted().run_once()
    assert missed <= polled.stored()


def test_a_pass_that_breaks_off_leaves_no_gap(polled: Polled) -> None:
    ids = [polled.listed.happen(number - 1000) for number in range(450)]
    polled.listed.break_after = 333
    with pytest.raises(ProviderUnavailable):
        polled.poll.run_once()
    assert polled.stored() == set(ids[:300])
    polled.listed.break_after = None
    polled.restarted().run_once()
    assert polled.stored() == set(ids)
    assert polled.listed.asked[1] == (NOW - 1000 + 299) * US - OVERLAP_US


def test_a_time_ahead_of_ours_does_not_hide_what_happens_now(polled: Polled) -> None:
    """The clock of a test account was moved by a year."""
    polled.listed.happen(365 * 86_400)
    polled.poll.run_once()
    now = polled.listed.happen(5)
    polled.desk.time.move(10 * SECOND)
    polled.poll.run_once()
    assert now in polled.stored()


def test_a_live_event_in_the_list_of_a_test_account_is_kept_and_ignored(polled: Polled) -> None:
    id = polled.listed.happen(0, live=True)
    polled.poll.run_once()
    polled.desk.settle()
    assert (polled.desk.get(id).status, polled.desk.applied(id)) == ("ignored", 0)
