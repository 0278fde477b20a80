"""The commands `privacy …`: data given out or erased, how long it is kept, who could have been seen."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.central.campaign import privacy as campaign_privacy
from gateway.central.campaign.store import CampaignStore
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.resolve import readings as account_readings
from gateway.central.office.actors import Right
from gateway.central.office.breaches import exposure
from gateway.central.people.privacy import erase, export, held
from gateway.central.people.retention import keep_to, last_runs
from gateway.cli.office.acting import acting
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.office.people import KindOption, NumberArgument, People, opened
from gateway.cli.options import JsonOption, parse_time
from gateway.cli.output import print_fields, print_json, print_line, print_table, text
from gateway.config import file as configuration
from gateway.config.privacy import PrivacySection
from gateway.errors import UsageError
from gateway.private_file import write_private
from gateway.roles.retention import kept_of
from mapping.files import write_table
from mapping.store import DirectoryStore

KEPT: tuple[tuple[str, str], ...] = (
    ("readings", "billing rests on them; they stand under the meter and an opaque account id"),
    ("directory", "whose reading it is: numbers and account ids, no name and no address"),
    (
        "audit trail",
        "who saw and changed what; a hash chain of opaque ids, out of which nothing can be taken",
    ),
    ("messages' keys", "template, state and key only: so that nothing is ever sent twice"),
    ("opt-outs", "the owner's wish that nothing comes"),
    (
        "slips",
        "which slip was handed over where: number and usage point; names and readers' notes are erased",
    ),
    ("backups", "copies from before hold the data until they run out: erase again after one is restored"),
)
"""What an erasure leaves, and why."""
ReasonNeeded = Annotated[str, typer.Option("--reason", help="Why; kept in the audit trail.")]

privacy_group = typer.Typer(
    help="Personal data: given out, erased, kept how long, and who could have been seen.",
    no_args_is_help=True,
)


@privacy_group.command("export")
def export_(
    number: NumberArgument,
    to: Annotated[Path, typer.Option("--to", help="File to write (JSON, mode 0600).")],
    data: DataOption = None,
    config: ConfigChoice = None,
    kind: KindOption = None,
    reason: ReasonNeeded = "the consumer's wish",
    readings_since: Annotated[
        str | None, typer.Option("--readings-since", help="With the readings from this time on.")
    ] = None,
) -> None:
    """Write all that is kept of one consumer into a file: contacts, messages, slips, balance, who looked, readings.

    Example: meter-gateway privacy export KE0012345 --to consumer.json --data DIR
    """
    since = None if readings_since is None else parse_time(readings_since, option="--readings-since")
    with opened(data, config, Right.CONSUMERS) as people:
        account = people.account(number, kind)
        people.seen(account, "privacy.exported", reason)
        document = {
            "account": account,
            "made_at": people.now,
            **_numbers(people, account),
            **export(people.store, account),
            **_slips(people, account),
            **_ledger(people, account, since),
            "who_looked": [
                {"at": one.at, "actor": one.actor, "what": one.act, "why": one.detail.get("reason", "")}
                for one in people.who.office.trail.entries(subject=f"account:{account}")
            ],
        }
    try:
        write_private(
            to, json.dumps(document, ensure_ascii=False, indent=2, default=_written).encode() + b"\n"
        )
    except OSError as error:
        raise UsageError(f"{to} cannot be written: {error.strerror}") from error
    counts = {name: len(value) for name, value in document.items() if isinstance(value, list)}
    print_fields({"written": str(to), **counts}, as_json=False)


@privacy_group.command("erase")
def erase_(
    number: NumberArgument,
    reason: ReasonNeeded,
    data: DataOption = None,
    config: ConfigChoice = None,
    kind: KindOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase one consumer's mobiles, their history and what messages said; says what stays, and why.

    Example: meter-gateway privacy erase KE0012345 --reason "moved out" --data DIR
    """
    if not reason.strip():
        raise UsageError("--reason: say why; it is kept")
    with opened(data, config, Right.CONSUMERS) as people:
        account = people.account(number, kind)
        people.who.note("privacy.erased", f"account:{account}", {"reason": reason[:200]})
        done = erase(people.store, account, by=people.who.name, reason=reason, now=people.now)
        counts = {**done.counts(), "slip_notes": _forget_slips(people, account)}
    kept = [{"kept": what, "why": why} for what, why in KEPT]
    if as_json:
        print_json({"account": account, "erased": counts, "kept": kept})
        return
    print_fields({"account": account, **{f"erased {k}": n for k, n in counts.items()}}, as_json=False)
    print_line("open pages of the consumer end; nobody can log in until a mobile is added and verified")
    print_table(kept, as_json=False)


@privacy_group.command("retention")
def retention(
    data: DataOption = None,
    config: ConfigChoice = None,
    now: Annotated[
        bool, typer.Option("--now", help="Run now; central does it once a day by itself.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the last run removed, of which age, and what is kept; central runs it each day.

    Example: meter-gateway privacy retention --data DIR
    """
    with opened(data, config, Right.CONSUMERS, Right.FLEET) as people:
        if now:
            section = PrivacySection() if config is None else configuration.load(config).privacy
            people.who.note("privacy.retention", "people")
            done = keep_to(people.store, kept_of(section), now=people.now)
        else:
            done = last_runs(people.store)
        rows = [{"kind": r.kind, "older than": r.until, "removed": r.count, "at": r.at} for r in done]
        counts = held(people.store)
    if as_json:
        print_json({"removed": rows, "kept": counts})
        return
    print_table(rows, as_json=False, empty="no run yet")
    print_fields({f"kept {name}": count for name, count in counts.items()}, as_json=False)


@privacy_group.command("breach")
def breach(
    since: Annotated[
        str, typer.Option("--since", help="From when on (ISO 8601; a bare date is Indian midnight).")
    ],
    until: Annotated[str, typer.Option("--until", help="Until before when.")],
    data: DataOption = None,
    config: ConfigChoice = None,
    actor: Annotated[
        str | None, typer.Option("--actor", help="Only by this staff account or token: meera, machine:sap.")
    ] = None,
    session: Annotated[str | None, typer.Option("--session", help="Only by this consumer's login.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Only from this address, or `command`.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Write the accounts to this CSV file (0600).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whose data could have been seen within a span, when and by whom, out of the audit trail.

    Example: meter-gateway privacy breach --since 2026-11-01 --until 2026-11-30 --actor meera --data DIR
    """
    begin, end = parse_time(since, option="--since"), parse_time(until, option="--until")
    if end <= begin:
        raise UsageError(f"--until {until} is not later than --since {since}")
    with acting(find_files(data, config), Right.AUDIT) as who:
        entries = who.office.trail.entries(actor=actor, since=begin, until=end)
        found = exposure(entries, session=session, source=source)
        who.note("privacy.breach_report", "trail", {"actor": actor or "", "accounts": found.accounts})
    rows = [
        {
            "account": one.account_id,
            "by": one.actor,
            "first": one.first,
            "last": one.last,
            "times": one.times,
            "what": ", ".join(one.acts),
        }
        for one in found.seen
    ]
    others = [
        {"by": by, "what": act, "of": subject, "times": times}
        for (by, act, subject), times in found.others.items()
    ]
    if to is not None:
        header = ("account", "by", "first", "last", "times", "what")
        write_table(to, header, ([text(row[name]) for name in header] for row in rows))
    if as_json:
        print_json({"accounts": found.accounts, "seen": rows, "others": others})
        return
    print_line(f"{found.accounts} accounts could have been seen")
    print_table(rows, as_json=False, empty="none by name")
    if others:
        print_table(others, as_json=False, title="acts that concern many, or none by name")


def _numbers(people: People, account: str) -> dict[str, Any]:
    with DirectoryStore(people.files.directory) as directory:
        snapshot = directory.snapshot()
        return {
            "numbers": [
                {"kind": one.kind.value, "number": one.number, "from": one.valid_from, "to": one.valid_to}
                for one in snapshot.namings(account)
            ],
            "meters": [
                {"meter": meter, "from": span.start, "to": span.end}
                for meter, span in snapshot.meters_of_account(account)
            ],
        }


def _slips(people: People, account: str) -> dict[str, list[dict[str, Any]]]:
    if isinstance(people.files.campaign, Path) and not people.files.campaign.exists():
        return {"slips": [], "reader_said": [], "campaigns": []}
    with CampaignStore(people.files.campaign) as store:
        return campaign_privacy.export(store, account)


def _forget_slips(people: People, account: str) -> int:
    if isinstance(people.files.campaign, Path) and not people.files.campaign.exists():
        return 0
    with CampaignStore(people.files.campaign) as store:
        return campaign_privacy.forget(store, account)


def _ledger(people: People, account: str, since: datetime | None) -> dict[str, Any]:
    if not people.files.has_ledger:
        return {"balance": None, "readings": []}
    ledger = Ledger(people.files.ledger, read_only=True)
    try:
        held_balance = ledger.balances.get(account)
        found: dict[str, Any] = {"balance": None if held_balance is None else json.loads(held_balance.body)}
        if since is not None:
            with DirectoryStore(people.files.directory) as directory:
                found["readings"] = [
                    {
                        "at": row.capture.at,
                        "profile": row.capture.profile,
                        "meter": row.capture.meter,
                        "role": row.role,
                        "values": [
                            one.model_dump(mode="json", exclude_none=True)
                            for one in row.capture.message.values
                        ],
                    }
                    for row in account_readings(ledger, account, since, people.now, directory)
                ]
        return found
    finally:
        ledger.close()


def _written(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
