"""Values of readings are exact."""

import decimal
from decimal import Decimal

import pytest

from protocols.reading import Number


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (Number(1234, -2), "12.34"),
        (Number(-5, 1), "-5E+1"),
        (Number(0, -3), "0.000"),
        (Number(123456789012345678901234567890123, -3), "123456789012345678901234567890.123"),
        (Number(2**64 - 1, -12), "18446744.073709551615"),
    ],
)
def test_a_number_becomes_a_decimal_without_rounding(number: Number, value: str) -> None:
    """More digits than the decimal context has, and a context that rounds, change nothing."""
    with decimal.localcontext() as context:
        context.prec = 3
        assert str(number.decimal()) == value
    assert Number.from_text(number.text()).decimal() == Decimal(value)
