"""The commands that read the ledger: unattributed, explain, readings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer

from gateway.central.explain import explain as explain_reading
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.resolve import readings as account_readings
from gateway.central.office.actors import Right
from gateway.cli.meter.rows import in_words
from gateway.cli.office.acting import acting
from gateway.cli.office.explanation import print_explanation
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.options import JsonOption, parse_time
from gateway.cli.output import print_json, print_table, text
from gateway.contract.messages import CaptureValue
from gateway.errors import UsageError
from gateway.roles.central_files import CentralFiles
from mapping.directory import Unattributed
from mapping.store import DirectoryStore


@contextmanager
def _ledger(files: CentralFiles) -> Iterator[Ledger]:
    ledger = Ledger(files.ledger, read_only=True)
    try:
        yield ledger
    finally:
        ledger.close()


def unattributed(
    data: DataOption = None,
    config: ConfigChoice = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Meters that are no consumer's too (feeder, stock).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List readings that stand under no account, by meter and reason.

    Example: meter-gateway unattributed --data DIR
    """
    with _ledger(find_files(data, config)) as ledger:
        groups = ledger.unattributed.groups()
    rows = [asdict(group) for group in groups if everything or group.reason != Unattributed.NOT_A_CONSUMER]
    print_table(rows, as_json=as_json, empty="every reading of a consumer stands under an account")


def explain(
    what: Annotated[str, typer.Argument(help="A capture id, an account or legacy number, or a meter.")],
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """Say why a reading stands where it stands: relations, dates, file and row, version, delivery.

    Example: meter-gateway explain GEN:10000101 --data DIR
    """
    files = find_files(data, config)
    with _ledger(files) as ledger, acting(files, Right.SEE) as who, DirectoryStore(files.directory) as store:
        who.note("reading.explained", who.subject(what, store.snapshot()))
        answer = explain_reading(ledger, store, what)
    if as_json:
        print_json(asdict(answer))
    else:
        print_explanation(answer)


def readings(
    account: Annotated[str, typer.Argument(help="10-digit account number, legacy number or account id.")],
    since: Annotated[str, typer.Option(help="From this time (ISO 8601; a bare date is Indian midnight).")],
    until: Annotated[str, typer.Option(help="Until this time.")],
    known_at: Annotated[str | None, typer.Option("--known-at", help="As it was known at this time.")] = None,
    data: DataOption = None,
    config: ConfigChoice = None,
    as_json: JsonOption = False,
) -> None:
    """List the readings of an account between two times, as known now or at an earlier time.

    Example: meter-gateway readings 1234567890 --since 2026-11-01 --until 2026-11-30 --data DIR
    """
    start, end = parse_time(since, option="--since"), parse_time(until, option="--until")
    if end <= start:
        raise UsageError(f"--until {until} is not later than --since {since}")
    files = find_files(data, config)
    with _ledger(files) as ledger, acting(files, Right.SEE) as who, DirectoryStore(files.directory) as store:
        who.note("readings.seen", who.subject(account, store.snapshot()), {"since": since, "until": until})
        known = None if known_at is None else parse_time(known_at, option="--known-at")
        rows = account_readings(ledger, account, start, end, store, known_at=known)
    print_table(
        [
            {
                "at": row.capture.at,
                "profile": row.capture.profile,
                "meter": row.capture.meter,
                "role": row.role,
                "account": row.account_number or row.legacy_number or row.account_id,
                "values": values if as_json else in_words(values),
            }
            for row in rows
            for values in [{v.name: _value_text(v, unit=not as_json) for v in row.capture.message.values}]
        ],
        as_json=as_json,
        empty="no readings",
    )


def _value_text(value: CaptureValue, *, unit: bool) -> str:
    found = next((v for v in (value.value, value.text, value.bits, value.instant) if v is not None), None)
    if found is None:
        return f"missing: {value.missing}"
    return f"{text(found)} {value.unit}" if unit and value.unit else text(found)
