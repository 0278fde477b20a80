"""Golden messages: one valid example of every kind, for integrators to test their consumer with."""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta

from gateway.contract.central_word import TYP_OF
from gateway.contract.envelope import DIRECTORY_TYPE, TIME_TYPE, TYPE_OF, wrap
from gateway.contract.golden_batches import AT, GATEWAY, GENERATION, JOURNAL, golden_batches
from gateway.contract.messages import (
    Ack,
    Alarm,
    AllocationChanged,
    AttributedAccount,
    AttributionChanged,
    Balance,
    ChangesAnswered,
    ChangesAsked,
    ClockStatus,
    DirectoryPart,
    DirectoryRequest,
    HistoryAnswer,
    HistoryRequest,
    JournalStored,
    KeysEscrowed,
    KeysGiven,
    KeysMissing,
    KeysProven,
    KeysReceipt,
    KeysRequest,
    LineStatus,
    Message,
    MeterStatus,
    NamingChanged,
    PartAllocation,
    ReadAgain,
    ReadAgainTaken,
    ReplayRequest,
    Signed,
    Status,
    StatusChanges,
    StatusRequest,
    TimeAnswer,
    TimeRequest,
    TimeVerdict,
)
from gateway.contract.messages.generation import DirectoryVersion, Generation
from gateway.contract.messages.texts import gateway_source
from gateway.contract.sealing import digest
from gateway.contract.signing import CHANGES_TYP, DIRECTORY_TYP, TIME_TYP, sign

RUN = "9f2c01ab"
KEY = bytes(range(32))
"""The private key of the golden directory part: public knowledge, never for use."""

_OLD = AttributedAccount(
    account_id="acc-17", account_number="0012345678", legacy_number="KE0012345", usage_point="up-17"
)
_NEW = AttributedAccount(
    account_id="acc-99", account_number=None, legacy_number="KE0099999", usage_point="up-17"
)


def golden_messages() -> dict[str, bytes]:
    """Return the octets of every golden message by name; the same in every run."""
    return {**golden_batches(), **_single()}


def _single() -> dict[str, bytes]:
    edge, central, billing = gateway_source(GATEWAY), "/central", "/billing"
    span = AttributionChanged(
        meter="GEN:12345678",
        since=AT - timedelta(days=2),
        old=(_OLD,),
        new=(_NEW,),
        directory=DirectoryVersion(GENERATION, 8),
    )
    named = NamingChanged(
        account_id="acc-99",
        kind="account_number",
        new="1009876543",
        directory=DirectoryVersion(GENERATION, 9),
    )
    reads = AllocationChanged(meter="GEN:12345678", epoch=2, gateway=GATEWAY, since=AT)
    allocation = PartAllocation(meter="GEN:12345678", epoch=2, since=AT)
    part = DirectoryPart(
        gateway=GATEWAY,
        directory="0c1d9f2e6b7a4f5e8d3c2b1a09f8e7d6",
        generation=GENERATION,
        version=8,
        number=5,
        kind="snapshot",
        rows="{}",
        allocations=(allocation,),
        issued_at=AT,
    )
    signed = Signed(jws=sign(part.model_dump_json(exclude_none=True).encode(), key=KEY, typ=DIRECTORY_TYP))
    wanted = DirectoryRequest(gateway=GATEWAY, have_version=7, number=4)
    messages: dict[str, tuple[Message, str, str]] = {
        "status-online": (_status(), f"{JOURNAL}/status/1", edge),
        "status-offline": (_offline(), f"{JOURNAL}/status/2", edge),
        "status-changes": (_changes(), f"{GATEWAY}/{RUN}/changes/4/1", edge),
        "status-listing": (_listing(), f"{GATEWAY}/{RUN}/changes/4/1", edge),
        "status-request": (StatusRequest(gateway=GATEWAY, at=AT), f"{GATEWAY}/status/request", central),
        "ack": (_ack("billing"), f"{JOURNAL}/ack/47", billing),
        "read-again": (_signed(_read_again()), f"{GATEWAY}/read-again/7", central),
        "read-again-taken": (
            ReadAgainTaken(gateway=GATEWAY, number=7, meter="GEN:12345678", profile="block_load"),
            f"{GATEWAY}/read-again/7",
            edge,
        ),
        "ack-of-central": (_signed(_ack("central")), f"{JOURNAL}/ack/47", central),
        "replay-request": (
            ReplayRequest(journal=JOURNAL, first=48, last=56, consumer="billing"),
            f"{JOURNAL}/replay/48-56",
            billing,
        ),
        "history-request": (
            HistoryRequest(
                consumer="billing", request="first-load", what="readings", since=AT, after="GEN:12345678"
            ),
            "billing/history/first-load/2",
            billing,
        ),
        "history-answer": (
            HistoryAnswer(
                consumer="billing",
                request="first-load",
                messages=("standing/3.9f2c01ab/8/GEN:12345679/ever", f"{JOURNAL}/41-42@first-load"),
            ),
            "history/billing/first-load/2",
            central,
        ),
        "history-journals": (
            HistoryAnswer(
                consumer="billing",
                request="journals",
                journals=(JournalStored(journal=JOURNAL, gateway=GATEWAY, seq=47),),
            ),
            "history/billing/journals/1",
            central,
        ),
        "changes-asked": (
            Signed(jws=sign(_asked().model_dump_json(exclude_none=True).encode(), key=KEY, typ=CHANGES_TYP)),
            "sap/changes/7",
            "/sap",
        ),
        "changes-answered": (_signed(_answered()), "systems/sap/7/applied", central),
        "directory-request": (wanted, f"{GATEWAY}/directory/7", edge),
        "directory-part": (signed, f"{GATEWAY}/directory/5/1", central),
        "attribution-changed": (span, "attribution/8/GEN:12345678", central),
        "allocation-changed": (reads, "allocation/GEN:12345678/2/open", central),
        "naming-changed": (named, "naming/9/acc-99", central),
        "balance": (
            Balance(account_id="acc-17", amount="-12.50", at=AT, source="billing"),
            "balance/acc-17/1",
            billing,
        ),
    }
    messages |= _times()
    messages |= _keys()
    signed_types = {
        "directory-part": DIRECTORY_TYPE,
        "time-answer": TIME_TYPE,
        "ack-of-central": TYPE_OF[Ack],
        "changes-asked": TYPE_OF[ChangesAsked],
        "changes-answered": TYPE_OF[ChangesAnswered],
        "read-again": TYPE_OF[ReadAgain],
        "keys-receipt": TYPE_OF[KeysReceipt],
        "keys-given": TYPE_OF[KeysGiven],
        "keys-missing": TYPE_OF[KeysMissing],
    }
    return {
        name: wrap(message, id=identity, source=source, time=AT, type=signed_types.get(name))
        for name, (message, identity, source) in messages.items()
    }


def _ack(consumer: str) -> Ack:
    return Ack(
        journal=JOURNAL,
        seq=47,
        consumer=consumer,
        ledger="5f0c1c3e-3d0e-4f0e-9a55-2f1d7c1f6a10",
        ledger_generation=Generation(3, "9f2c01ab"),
        issued_at=AT,
    )


def _read_again() -> ReadAgain:
    return ReadAgain(
        gateway=GATEWAY,
        number=7,
        meter="GEN:12345678",
        profile="block_load",
        since=AT - timedelta(days=50),
        until=AT - timedelta(days=45),
        ledger_generation=Generation(3, "9f2c01ab"),
        issued_at=AT,
    )


def _asked() -> ChangesAsked:
    move = {"kind": "move_out", "usage_point": "up-17", "at": "2026-11-20T10:00:00+05:30"}
    return ChangesAsked(
        system="sap", root="kesco", sequence=7, changes=(move,), reference="order 4711", at=AT
    )


def _answered() -> ChangesAnswered:
    name = "cs-9f2c01ab5e7d3344aabbccdd"
    return ChangesAnswered(
        system="sap", sequence=7, state="applied", change_set=name, directory_version=9, at=AT
    )


def _signed(word: Ack | ChangesAnswered | ReadAgain | KeysReceipt | KeysGiven | KeysMissing) -> Signed:
    typ = TYP_OF[word.__class__]
    return Signed(jws=sign(word.model_dump_json(exclude_none=True).encode(), key=KEY, typ=typ))


def _keys() -> dict[str, tuple[Message, str, str]]:
    """Keys to escrow, their receipt and proof; an edge's request for its meters' keys, and what it is given."""
    meter, key_id, edge = "GEN:12345678", "a1" * 16, gateway_source(GATEWAY)
    sealed = b"MGK1" + bytes(200)  # no text: what is sealed anew is never the same
    nonce, name, text = "00112233445566778899aabbccddeeff", digest(sealed), b64encode(sealed).decode()
    slots = ("48/encryption", "48/authentication")
    return {
        "keys-escrowed": (
            KeysEscrowed(
                gateway=GATEWAY, meter=meter, key_id=key_id, slots=slots, sealed=text, nonce=nonce, made_at=AT
            ),
            f"{GATEWAY}/keys/{key_id}/{nonce}",
            edge,
        ),
        "keys-proven": (
            KeysProven(gateway=GATEWAY, meter=meter, key_id=key_id, sealed_digest=name, at=AT),
            f"{GATEWAY}/keys/{key_id}/proven",
            edge,
        ),
        "keys-receipt": (
            _signed(
                KeysReceipt(
                    gateway=GATEWAY, meter=meter, key_id=key_id, sealed_digest=name, nonce=nonce, issued_at=AT
                )
            ),
            f"central/keys/{key_id}/{nonce}",
            "/central",
        ),
        "keys-request": (
            KeysRequest(gateway=GATEWAY, box_key=b64encode(bytes(range(32))).decode(), nonce=nonce, at=AT),
            f"{GATEWAY}/keys/request/{nonce}",
            edge,
        ),
        "keys-missing": (
            _signed(KeysMissing(gateway=GATEWAY, key_ids=(key_id,), nonce=nonce, issued_at=AT)),
            f"central/keys/{GATEWAY}/{nonce}/missing",
            "/central",
        ),
        "keys-given": (
            _signed(
                KeysGiven(
                    gateway=GATEWAY,
                    box="630dcd2966c43366",
                    digest=name,
                    dropped=("GEN:777",),
                    sealed=text,
                    nonce=nonce,
                    issued_at=AT,
                )
            ),
            f"central/keys/{GATEWAY}/{nonce}/1",
            "/central",
        ),
    }


def _times() -> dict[str, tuple[Message, str, str]]:
    """An edge's question for the time, central's answer, and a verdict on captures of a slow gateway."""
    nonce = "00112233445566778899aabbccddeeff"
    answer = TimeAnswer(gateway=GATEWAY, nonce=nonce, at=AT, host="5f3a9c01", trusted=True, error="0.02")
    verdict = TimeVerdict(
        verdict_id="time/12/GEN:12345678",
        meter="GEN:12345678",
        journal=JOURNAL,
        first_seq=43,
        last_seq=43,
        profile="instantaneous",
        trust="trusted",
        shift="1500",
        evidence="the gateway was 1500 s slow: central told the time later in the same run of its machine",
        version=12,
        at=AT,
    )
    signed = Signed(jws=sign(answer.model_dump_json(exclude_none=True).encode(), key=KEY, typ=TIME_TYP))
    return {
        "time-request": (
            TimeRequest(gateway=GATEWAY, nonce=nonce),
            f"{GATEWAY}/time/{nonce}",
            gateway_source(GATEWAY),
        ),
        "time-answer": (signed, f"time/{nonce}", "/central"),
        "time-verdict": (verdict, verdict.verdict_id, "/central"),
    }


def _status() -> Status:
    return Status(
        gateway=GATEWAY,
        online=True,
        version="0.1.0",
        journal=JOURNAL,
        first_seq=1,
        last_seq=58,
        meters={"ok": 1, "meter_silent": 1},
        lines={"up": 1},
        backlog=0,
        unattributed=1,
        directory_version=7,
        clock=ClockStatus(disciplined=True, at=AT),
        alarms=(Alarm(code="dead_letters", text="a peer refused entries for good", since=AT),),
        run=RUN,
        status_seq=4,
        at=AT,
    )


def _offline() -> Status:
    return _status().model_copy(update={"online": False, "lines": {}, "meters": {}, "alarms": ()})


_SILENT = MeterStatus(
    meter="GEN:777", line="rs485-1", health="meter_silent", since=AT, detail="no answer in 3 polls"
)


def _changes() -> StatusChanges:
    return StatusChanges(gateway=GATEWAY, run=RUN, from_seq=4, to_seq=4, meters=(_SILENT,), at=AT)


def _listing() -> StatusChanges:
    return StatusChanges(
        gateway=GATEWAY,
        run=RUN,
        from_seq=0,
        to_seq=4,
        lines=(LineStatus(name="rs485-1", state="up", since=AT - timedelta(hours=9)),),
        meters=(MeterStatus(meter="GEN:12345678", line="rs485-1", health="ok", since=AT), _SILENT),
        at=AT,
    )
