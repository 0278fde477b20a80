"""How the program of version 1 wrote captures: for tests of what is still read of them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from gateway.contract.envelope import GAPS_TYPE
from gateway.contract.messages import rfc3339
from gateway.contract.messages.texts import (
    envelope_head,
    gateway_source,
    quoted,
    quoted_ascii,
)
from gateway.errors import ContractError
from mapping.directory import Attribution, Unattributed
from protocols.reading import MeterTime

_FIRST_REVISION = b'"value_rev":1,'


def encode_capture(
    *,
    capture_id: str,
    meter: str,
    profile: str,
    at: str,
    start: datetime | None,
    meter_time: MeterTime | None,
    received_at: datetime,
    quality: str,
    values: str,
    accounts: tuple[Attribution, ...],
    reason: Unattributed | None,
    directory_version: int,
    raw: bytes | None,
    clock: str = "",
) -> bytes:
    """Return a capture's body with value_rev 1 and without seq.

    `at` is RFC 3339 text (`rfc3339`) and `values` a JSON array (`values_json`): whoever stamps needs both
    for the capture's identity and hash anyway. `raw` is what the meter sent, kept as evidence; `clock` a JSON
    object, what speaks of a time that is not trusted.
    """
    begin = f'"{rfc3339(start)}"' if start is not None else "null"
    why = f'"{reason.value}"' if reason is not None else "null"
    doubt = f',"clock":{clock}' if clock else ""
    evidence = f',"raw":"{b64encode(raw).decode()}"' if raw is not None else ""
    return (
        f'{{"capture_id":{quoted(capture_id)},"value_rev":1,"meter":{quoted(meter)},'
        f'"profile":"{profile}","at":"{at}","start":{begin},"meter_time":{_meter_time(meter_time)},'
        f'"received_at":"{rfc3339(received_at)}","quality":"{quality}","values":{values},'
        f'"attributions":[{",".join(map(_attribution, accounts))}],"reason":{why},'
        f'"directory_version":{directory_version}{doubt}{evidence}}}'
    ).encode()


def with_value_rev(body: bytes, revision: int) -> bytes:
    """Return a first revision's body as revision `revision`; ContractError when it is not a first one.

    The text sought cannot stand inside a JSON string (its quotes would be escaped), so its first place is
    the member itself.
    """
    if revision == 1:
        return body
    before, found, after = body.partition(_FIRST_REVISION)
    if not found:
        raise ContractError("$.value_rev: the body is not a first revision that could be raised")
    return b'%b"value_rev":%d,%b' % (before, revision, after)


def _meter_time(stamp: MeterTime | None) -> str:
    if stamp is None:
        return "null"
    deviation = "null" if stamp.deviation is None else str(stamp.deviation)
    status = "null" if stamp.status is None else str(stamp.status)
    trusted = "true" if stamp.trusted else "false"
    return f'{{"wall":{quoted(stamp.wall)},"deviation":{deviation},"status":{status},"trusted":{trusted}}}'


@lru_cache(maxsize=8_192)
def _attribution(one: Attribution) -> str:
    number = "null" if one.account_number is None else quoted(one.account_number)
    legacy = "null" if one.legacy_number is None else quoted(one.legacy_number)
    return (
        f'{{"account_id":{quoted(one.account_id)},"account_number":{number},"legacy_number":{legacy},'
        f'"usage_point":{quoted(one.usage_point)},"role":"{one.role.value}"{_span(one)}}}'
    )


def _span(one: Attribution) -> str:
    if one.since is None or one.until is None:
        return ""
    return f',"from":"{rfc3339(one.since)}","to":"{rfc3339(one.until)}"'


def with_seq(body: bytes, seq: int) -> bytes:
    """Return the body of a capture or gap as an entry of a batch, numbered `seq`."""
    return b'{"seq":%d,%b' % (seq, body[1:])


def assemble(
    entries: Sequence[tuple[int, bytes]], *, type: str, journal: str, gateway: str, time: str
) -> bytes:
    """Build a batch message from `(seq, body)` pairs in rising seq, by splicing octets: nothing is parsed.

    The bodies are laid out as `gateway.contract.capture_body` says, `time` is RFC 3339 text. The same
    entries at the same time give the same octets.
    """
    first, last = entries[0][0], entries[-1][0]
    member = b"gaps" if type == GAPS_TYPE else b"captures"
    return b"".join(
        (
            envelope_head(f"{journal}/{first}-{last}", gateway_source(gateway), type, time, "v1/batch.json"),
            b'{"journal":%b,"gateway":%b,"first_seq":%d,"last_seq":%d,"%b":['
            % (quoted_ascii(journal), quoted_ascii(gateway), first, last, member),
            b",".join([with_seq(body, seq) for seq, body in entries]),
            b"]}}",
        )
    )
