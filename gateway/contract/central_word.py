"""What central says in its own name, signed: acknowledgements, replay requests, orders, receipts of keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeVar

from gateway.contract.envelope import MAX_MESSAGE, TYPE_OF, parse, parse_data, wrap
from gateway.contract.messages import (
    Ack,
    CarriedOver,
    ChangesAnswered,
    KeysGiven,
    KeysMissing,
    KeysReceipt,
    Message,
    ReadAgain,
    ReplayRequest,
    Signed,
)
from gateway.contract.signing import (
    ACK_TYP,
    CARRIED_TYP,
    CHANGES_ANSWERED_TYP,
    KEYS_GIVEN_TYP,
    KEYS_MISSING_TYP,
    KEYS_RECEIPT_TYP,
    READ_AGAIN_TYP,
    REPLAY_TYP,
    sign,
    verify,
)
from gateway.errors import ContractError

CENTRAL: Final = "central"
"""The consumer that central is, in topics and messages."""
TYP_OF: Final[dict[type[Message], str]] = {
    Ack: ACK_TYP,
    ReplayRequest: REPLAY_TYP,
    ReadAgain: READ_AGAIN_TYP,
    CarriedOver: CARRIED_TYP,
    ChangesAnswered: CHANGES_ANSWERED_TYP,
    KeysReceipt: KEYS_RECEIPT_TYP,
    KeysGiven: KEYS_GIVEN_TYP,
    KeysMissing: KEYS_MISSING_TYP,
}
"""What a signature was made for (`typ`), by message."""

M = TypeVar("M", bound=Message)


def wrap_signed(message: Message, *, key: bytes, id: str, source: str, time: datetime) -> bytes:
    """Return a message of central, signed, in its envelope. `key` as `signing.sign` takes it."""
    kind = message.__class__
    jws = sign(message.model_dump_json(exclude_none=True).encode(), key=key, typ=TYP_OF[kind])
    return wrap(Signed(jws=jws), id=id, source=source, time=time, type=TYPE_OF[kind])


def parse_signed(payload: bytes, kind: type[M], keys: Sequence[bytes]) -> tuple[M, str]:
    """Return a message of central and its signature's text; ContractError when central did not sign it."""
    parsed = parse(payload, Signed)
    if parsed.type != TYPE_OF[kind]:
        raise ContractError(f"$.type: {parsed.type!r} where {TYPE_OF[kind]!r} belongs")
    return read_signed(parsed.data.jws, kind, keys), parsed.data.jws


def read_signed(jws: str, kind: type[M], keys: Sequence[bytes]) -> M:
    """Return what central signed; ContractError when it did not, or signed something else."""
    return parse_data(verify(jws, keys=tuple(keys), typ=TYP_OF[kind]), kind, limit=MAX_MESSAGE)
