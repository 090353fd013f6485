"""The table of parameters is the official client's, and the check is strict at every depth."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.write_parameters import TARGET, make

PRICE = {"currency": "usd", "product_data": {"name": "API"}, "unit_amount": 100}


def test_the_table_is_what_the_official_client_declares() -> None:
    assert TARGET.read_text() == make()


@pytest.mark.parametrize(
    ("params", "param", "code"),
    [
        ({**PRICE, "colour": "red"}, "colour", "parameter_unknown"),
        ({**PRICE, "recurring": {"interval": "month", "colour": "red"}}, "recurring[colour]", "parameter_unknown"),
        (
            {"currency": "usd", "product_data": {"name": "A", "tax_details": {"colour": "red"}}, "unit_amount": 1},
            "product_data[tax_details][colour]",
            "parameter_unknown",
        ),
        ({"product_data": {"name": "API"}, "unit_amount": 100}, "currency", "parameter_missing"),
        ({**PRICE, "product_data": {}}, "product", "parameter_missing"),
        ({**PRICE, "product_data": {"active": True}}, "product_data[name]", "parameter_missing"),
        ({**PRICE, "unit_amount": "ten"}, "unit_amount", "parameter_invalid_integer"),
        ({**PRICE, "unit_amount": "1.5"}, "unit_amount", "parameter_invalid_integer"),
        ({**PRICE, "unit_amount": ""}, "unit_amount", "parameter_invalid_empty"),
        ({**PRICE, "nickname": ""}, "nickname", "parameter_invalid_empty"),
        ({**PRICE, "active": "yes"}, "active", None),
        ({**PRICE, "recurring": {"interval": "fortnight"}}, "recurring[interval]", None),
        ({**PRICE, "recurring": "month"}, "recurring", None),
        ({**PRICE, "tiers": {"up_to": 1}}, "tiers", None),
        ({**PRICE, "unit_amount": None, "unit_amount_decimal": "a lot"}, "unit_amount_decimal", None),
    ],
)
def test_a_parameter_that_stripe_does_not_take_is_refused_by_name(
    client: stripe.StripeClient, params: Any, param: str, code: str | None
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.prices.create(params)
    assert (refused.value.http_status, refused.value.param, refused.value.code) == (400, param, code)
    assert client.v1.prices.list().data == []


def test_the_words_of_a_refusal_are_stripes(client: stripe.StripeClient) -> None:
    unknown: Any = {"colour": "red", "shape": "round"}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.customers.create(unknown)
    error = refused.value.error
    assert error is not None
    assert error.message == "Received unknown parameters: colour, shape"
    assert (error.type, error.code, error.param) == ("invalid_request_error", "parameter_unknown", "colour")
    assert error.doc_url == "https://stripe.com/docs/error-codes/parameter-unknown"
