"""The wallet of an account, as billing tells it."""

from __future__ import annotations

from typing import Literal

from gateway.contract.messages.base import Decimals, Identifier, Message, UtcTime


class Balance(Message):
    """An account's wallet as billing knows it."""

    account_id: Identifier
    amount: Decimals
    currency: Literal["INR"] = "INR"
    at: UtcTime
    source: Identifier
