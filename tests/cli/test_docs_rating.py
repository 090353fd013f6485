"""docs/rating.md: every command is run, every sum is calculated again, and no number stands there that neither has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from core.sums import NUMBER, SUM, holds, value
from tollkeeper.core.catalog_keys import AMOUNT, MODELS, SECTIONS
from tollkeeper.core.rating import QUANTITY

from .conftest import Run

PAGE = (Path(__file__).parents[2] / "docs" / "rating.md").read_text()
SECTIONS_OF_PAGE = dict(re.findall(r"^##+ (.*?)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
WORKED = re.compile(r"```sh\n(tollkeeper rate.*)\n```\n\n```text\n(.*?)```", re.DOTALL)
COMMANDS = re.findall(r"```sh\n([^\n]*)\n```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
SUMS = SUM.findall(PAGE)


@pytest.mark.parametrize(("command", "printed"), COMMANDS)
def test_a_command_prints_what_the_page_says(run: Run, command: str, printed: str) -> None:
    words = shlex.split(command)
    assert words[:2] == ["tollkeeper", "rate"]
    result = run(*words[1:])
    assert (result.code, result.out, result.err) == (0, printed, "")


def test_every_block_is_a_command_and_what_it_prints() -> None:
    assert PAGE.count("```") == 4 * len(COMMANDS) > 0


@pytest.mark.parametrize("calculation", SUMS, ids=lambda found: " = ".join(part for part in found if part))
def test_a_sum_of_the_page_is_right(calculation: tuple[str, str, str]) -> None:
    assert holds(*calculation)


def test_a_wrong_sum_would_be_noticed() -> None:
    assert SUM.findall("so `2 × 3 = 7` and `0.5 × 0.03 = 0.015 → 0.01`") == [
        ("2 × 3", "7", ""),
        ("0.5 × 0.03", "0.015", "0.01"),
    ]
    assert not holds("2 × 3", "7", "")
    assert not holds("0.5 × 0.03", "0.015", "0.01")
    assert holds("⌈2,500 ÷ 1,000⌉ × 0.5 − 1", "0.5", "0.50")


@pytest.mark.parametrize("title", [title for title, text in SECTIONS_OF_PAGE.items() if "```sh" in text])
def test_each_line_of_an_output_is_worked_out_by_hand_and_each_number_in_the_text_stands_in_either(title: str) -> None:
    text = SECTIONS_OF_PAGE[title]
    told = {value(number) for part in re.findall(r"```.*?```", text, re.DOTALL) for number in NUMBER.findall(part)}
    sums = SUM.findall(text)
    worked = {value(number) for found in sums for part in found for number in NUMBER.findall(part)}
    prose = SUM.sub("", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    assert {value(number) for number in NUMBER.findall(prose)} <= told | worked
    amounts = {
        value(number)
        for _, output in COMMANDS
        if output in text
        for number in re.findall(r"([0-9.,]+)(?:\n| usd| before rounding)", output)
    }
    assert amounts <= worked


def test_every_model_and_every_setting_on_which_vendors_disagree_is_worked_out() -> None:
    assert set(MODELS) <= set(SECTIONS_OF_PAGE)
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)`: ", SECTIONS_OF_PAGE["Where vendors disagree"], re.MULTILINE)
    defaults = {key.name: key.default for key in SECTIONS["plans.KEY.prices"]}
    choices = {name for name in defaults if defaults[name] in (True, "up", "clamp", "refuse", "exact", "last")}
    assert dict(rows) == {
        name: str(defaults[name]).lower() if defaults[name] is True else defaults[name] for name in choices
    }
    for name in choices:
        assert f"--set {name}=" in PAGE


def test_the_bounds_of_the_page_are_the_codes() -> None:
    bounds = re.findall(r"at most (\d+)(?: digits)? before(?: the point)? and (\d+) after", SECTIONS_OF_PAGE["Bounds"])
    coded = re.findall(r"at most (\d+) digits before the point and (\d+) after", QUANTITY + " " + AMOUNT.expected)
    assert bounds == coded
