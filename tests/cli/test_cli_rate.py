"""`tollkeeper rate`: a price from the catalog, a file or the options, and the lines of a quantity; without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tollkeeper.core.catalog import example_catalog

from .conftest import Run

TIERED = """\
LINE         QUANTITY  UNIT AMOUNT  AMOUNT
up to 1,000     1,000            0    0.00
above 1,000  11,345.5        0.001   11.35
12,345.5 cost 11.35 usd (11.3455 before rounding)
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "tollkeeper.toml"
    path.write_text(example_catalog())
    return path


@pytest.mark.usefixtures("catalog")
def test_a_price_of_the_catalog_is_rated_line_by_line(run: Run) -> None:
    result = run("rate", "12345.5", "--plan", "pro", "--price", "calls")
    assert (result.code, result.out, result.err) == (0, TIERED, "")
    assert run("rate", "12345.5", "--plan", "pro").out == TIERED  # the only price of the plan


def test_options_make_a_price_of_each_model(run: Run) -> None:
    assert run("rate", "12345.5", "--tier", "1000:0", "--tier", "inf:0.001").out == TIERED
    assert run("rate", "250", "--unit-amount", "0.5", "--currency", "jpy").out.endswith("250 cost 125 jpy\n")
    assert run("rate", "--flat-amount", "9").out.endswith(
        "flat amount         1            9    9.00\nIn all 9.00 usd\n"
    )
    words = ["rate", "2500", "--package", "1000:0.5", "--included", "100", "--minimum", "5", "--discount", "10%"]
    assert run(*words).out == (
        "LINE               QUANTITY  UNIT AMOUNT  AMOUNT\n"
        "included                100            0    0.00\n"
        "packages of 1,000         3          0.5    1.50\n"
        "minimum                                     3.50\n"
        "discount                                   -0.50\n"
        "2,500 cost 4.50 usd\n"
    )


def test_a_line_says_where_its_tier_lies(run: Run) -> None:
    tiers = ["--tier", "10:1:5", "--tier", "20:2", "--set", "past_last_tier=free"]
    assert [line.split("  ")[0] for line in run("rate", "25", *tiers).out.splitlines()[1:-1]] == [
        "up to 10",
        "flat amount, up to 10",
        "above 10 up to 20",
        "past the last tier",
    ]


def test_a_file_may_be_json_or_toml_or_stdin(run: Run, tmp_path: Path) -> None:
    price = {"model": "graduated", "currency": "usd", "tiers": [{"up_to": "1000", "unit_amount": "0"}]}
    price["tiers"].append({"up_to": "inf", "unit_amount": "0.001"})  # type: ignore[attr-defined]
    (tmp_path / "price.json").write_text(json.dumps(price))
    tiers = '[{up_to = "1000", unit_amount = "0"}, {up_to = "inf", unit_amount = "0.001"}]'
    (tmp_path / "price.toml").write_text(f'model = "graduated"\ntiers = {tiers}\n')
    assert run("rate", "12345.5", "--file", "price.json").out == TIERED
    assert run("rate", "12345.5", "--file", "price.toml").out == TIERED
    assert run("rate", "12345.5", "--file", "-", stdin=json.dumps(price).encode()).out == TIERED


@pytest.mark.usefixtures("catalog")
def test_options_change_what_was_read(run: Run) -> None:
    words = ["rate", "2000", "--plan", "pro"]
    assert run(*words).out.endswith("2,000 cost 1.00 usd\n")
    assert run(*words, "--set", "model=volume").out.endswith("2,000 cost 2.00 usd\n")
    assert run(*words, "--unit-amount", "0.01").out.endswith("2,000 cost 20.00 usd\n")
    assert run(*words, "--maximum", "0.5").out.endswith("2,000 cost 0.50 usd\n")


def test_json_is_the_answer_of_the_api(run: Run) -> None:
    assert json.loads(run("rate", "--unit-amount", "0.01", "--json", "--set", "negative=allow", "--", "-50.5").out) == {
        "currency": "usd",
        "amount": "-0.51",
        "exact_amount": "-0.505",
        "lines": [{"kind": "tier", "tier": 0, "quantity": "-50.5", "unit_amount": "0.01", "amount": "-0.51"}],
    }


@pytest.mark.usefixtures("catalog")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["5", "--plan", "po"], "there is no 'po'; tollkeeper.toml has free, pro"),
        (["5", "--price", "calls"], "name one; tollkeeper.toml has free, pro"),
        (["5", "--plan", "pro", "--price", "fee"], "there is no 'fee'; plan pro has calls"),
        (["5", "--plan", "free"], "name one; plan free has none"),
        (["5", "--plan", "pro", "--file", "x"], "from the catalog or from a file"),
        (["5", "--file", "nothing.json"], "nothing.json cannot be read"),
        (["5", "--file", "tollkeeper.toml"], "price.plans: expected a key of plans.KEY.prices"),
        (["5", "--tier", "5"], "'5' is not UP_TO:UNIT[:FLAT]"),
        (["5", "--set", "minimum"], "'minimum' is not KEY=VALUE"),
        (["5", "--unit-amount", "x"], 'price.unit_amount: expected an amount of money such as "0.002"'),
        (["x", "--unit-amount", "1"], "quantity: expected a decimal"),
        (["--unit-amount", "1"], "quantity: expected a decimal"),
        (["5"], "price.model: expected one of"),
    ],
)
def test_what_cannot_be_is_told_with_exit_code_2(run: Run, words: list[str], said: str) -> None:
    result = run("rate", *words)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


@pytest.mark.parametrize("text", [b"{", b'{"model": ', b"= 1", b"\xff", b"[" * 5000, b"{" + b'"a":[' * 5000])
def test_a_file_that_is_neither_json_nor_toml_is_told(run: Run, text: bytes) -> None:
    result = run("rate", "5", "--file", "-", stdin=text)
    assert (result.code, result.err.split(":")[1]) == (2, " - is neither JSON nor TOML")
