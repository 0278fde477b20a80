"""The commands `contacts …`: mobiles of accounts, shown masked, with where they come from and what became of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.central.office.actors import Right
from gateway.central.people.contacts import Contact, Language
from gateway.central.people.imports import ContactImport, ContactVerdict, import_contacts
from gateway.central.people.verification import verified
from gateway.cli.exits import Exit
from gateway.cli.office.files import ConfigChoice, DataOption, FileArgument
from gateway.cli.office.people import KindOption, NumberArgument, People, ReasonOption, opened
from gateway.cli.options import JsonOption, parse_time
from gateway.cli.output import print_fields, print_json, print_line, print_table
from gateway.errors import UsageError
from mapping.files import escaped, write_table
from mapping.rekey_texts import VERDICTS
from mapping.row_verdicts import Verdict
from mapping.sheets import Dress
from mapping.store import DirectoryStore

MAX_SHOWN = 50
"""Rows that were not applied, shown on a terminal."""
LanguageOption = Annotated[Language, typer.Option("--language", help="Language of the verdicts: en or hi.")]
MobileArgument = Annotated[
    str,
    typer.Argument(
        help="Ten digits; - reads it from the standard input, so that it is on no list of processes."
    ),
]
ContactArgument = Annotated[
    str, typer.Argument(help="Which one: the id's beginning, or the mobile's last digits.")
]

contacts_group = typer.Typer(help="Registered mobiles of accounts.", no_args_is_help=True)


@contacts_group.command("show")
def show(
    number: NumberArgument,
    data: DataOption = None,
    config: ConfigChoice = None,
    kind: KindOption = None,
    whole: Annotated[bool, typer.Option("--whole", help="Show whole mobiles; needs --reason.")] = False,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show an account's mobiles: masked, with source, verification and its age. The view is logged.

    Example: meter-gateway contacts show KE0012345 --data DIR
    """
    if whole and not reason.strip():
        raise UsageError("--whole needs --reason: why you need to see whole mobiles")
    with opened(data, config, Right.CONSUMERS) as people:
        account = people.account(number, kind)
        people.seen(account, "contacts.seen", reason)
        found = people.contacts.of_account(account)
        rows = [_row(people, one, whole=whole) for one in found]
    print_table(rows, as_json=as_json, empty="the account has no mobile")


@contacts_group.command("add")
def add(
    number: NumberArgument,
    mobile: MobileArgument,
    data: DataOption = None,
    config: ConfigChoice = None,
    kind: KindOption = None,
    source: Annotated[
        str, typer.Option("--source", help="Where it comes from: counter, form, 1912 …")
    ] = "counter",
    message_language: Annotated[
        Language | None, typer.Option("--message-language", help="Language of messages to it: en or hi.")
    ] = None,
) -> None:
    """Add a mobile to an account; it counts as verified only after `contacts verify`.

    Example: meter-gateway contacts add KE0012345 9876543210 --data DIR
    """
    digits = typer.get_text_stream("stdin").readline(64).strip() if mobile == "-" else mobile
    with opened(data, config, Right.CONSUMERS) as people:
        account = people.account(number, kind)
        done = people.contacts.add(
            account, digits, by=people.who.name, source=source, at=people.now, language=message_language
        )
        people.who.note("contacts.added", f"account:{account}", {"contact": done.id, "source": source[:100]})
    print_line(f"{done.masked} is a mobile of the account (contact {done.id[:8]})")


@contacts_group.command("verify")
def verify(
    number: NumberArgument,
    contact: ContactArgument,
    data: DataOption = None,
    config: ConfigChoice = None,
    kind: KindOption = None,
    how: Annotated[
        str, typer.Option("--how", help="How control was proved: otp, call back, paper …")
    ] = "counter",
    at: Annotated[
        str | None, typer.Option("--at", help="When, with offset; now where it is left out.")
    ] = None,
) -> None:
    """Note that the account's holder proved control of a mobile: it may be told the new number for 12 months.

    Example: meter-gateway contacts verify KE0012345 3210 --how otp --data DIR
    """
    with opened(data, config, Right.CONSUMERS) as people:
        when = people.now if at is None else parse_time(at, option="--at")
        if when > people.now:
            raise UsageError("--at lies in the future: nobody has verified it yet")
        held = _chosen(people, people.account(number, kind), contact)
        people.contacts.verify(held.id, by=people.who.name, how=how, at=when)
        people.who.note(
            "contacts.verified", f"account:{held.account_id}", {"contact": held.id, "how": how[:100]}
        )
    print_line(f"{held.masked} is verified")


@contacts_group.command("remove")
def remove(
    number: NumberArgument,
    contact: ContactArgument,
    data: DataOption = None,
    config: ConfigChoice = None,
    kind: KindOption = None,
    why: Annotated[str, typer.Option("--why", help="Why it goes.")] = "not theirs",
) -> None:
    """Use a mobile no longer for an account; its history stays until the retention's end.

    Example: meter-gateway contacts remove KE0012345 3210 --why "moved out" --data DIR
    """
    with opened(data, config, Right.CONSUMERS) as people:
        held = _chosen(people, people.account(number, kind), contact)
        people.contacts.remove(held.id, by=people.who.name, why=why, at=people.now)
        people.who.note(
            "contacts.removed", f"account:{held.account_id}", {"contact": held.id, "why": why[:100]}
        )
    print_line(f"{held.masked} was removed")


@contacts_group.command("history")
def history(
    number: NumberArgument,
    data: DataOption = None,
    config: ConfigChoice = None,
    kind: KindOption = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what was done to an account's mobiles, when and by whom. The view is logged.

    Example: meter-gateway contacts history KE0012345 --data DIR
    """
    with opened(data, config, Right.CONSUMERS) as people:
        account = people.account(number, kind)
        people.seen(account, "contacts.history_seen", reason)
        masked = {one.id: one.masked for one in people.contacts.of_account(account, removed=True)}
        rows = [
            {
                "at": one.at,
                "what": one.what,
                "mobile": masked.get(one.contact_id, "—"),
                "detail": one.detail,
                "by": one.by,
                "contact": one.contact_id[:8],
            }
            for one in people.contacts.history(account)
        ]
    print_table(rows, as_json=as_json, empty="nothing was done yet")


@contacts_group.command("opt-out")
def opt_out(
    mobile: MobileArgument,
    data: DataOption = None,
    config: ConfigChoice = None,
    back: Annotated[bool, typer.Option("--back", help="Take it back at the owner's wish.")] = False,
    source: Annotated[str, typer.Option("--source", help="How the wish came.")] = "counter",
) -> None:
    """Send a mobile nothing more but the codes that its owner asks for.

    Example: meter-gateway contacts opt-out 9876543210 --data DIR
    """
    digits = typer.get_text_stream("stdin").readline(64).strip() if mobile == "-" else mobile
    with opened(data, config, Right.CONSUMERS) as people:
        if back:
            had = people.contacts.opt_in(digits)
            people.who.note("contacts.opt_in", "contacts")
            print_line("it takes messages again" if had else "it never asked for none")
            return
        people.contacts.opt_out(digits, source=source, at=people.now)
        people.who.note("contacts.opt_out", "contacts", {"source": source[:100]})
    print_line("it gets no messages but codes that its owner asks for")


@contacts_group.command("import")
def import_(
    file: FileArgument,
    data: DataOption = None,
    config: ConfigChoice = None,
    language: LanguageOption = "en",
    sheet: Annotated[
        str | None, typer.Option("--sheet", help="The sheet of a workbook with several.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="For example cp1252; else found out.")
    ] = None,
    corrections: Annotated[
        str | None,
        typer.Option("--corrections", help="Write what was not applied, with reasons, to this CSV file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Load mobiles from CSV or XLSX. Columns: legacy_number or account_number, mobile, verified_at, language.

    Example: meter-gateway contacts import mobiles.csv --data DIR
    """
    with opened(data, config, Right.CONSUMERS) as people, DirectoryStore(people.files.directory) as directory:
        dress = Dress(encoding=encoding, sheet=sheet)
        find = directory.snapshot().account_by_number
        people.who.note("contacts.import", "contacts", {"file": file.name[:100]})
        done = import_contacts(people.store, file, find, by=people.who.name, now=people.now, dress=dress)
    rows = [_verdict(one, language) for one in done.not_applied]
    if corrections is not None:
        header = list(rows[0]) if rows else ["line", "verdict", "code", "column", "position", "what", "do"]
        write_table(
            corrections, header, ([escaped(str(cell or "")) for cell in row.values()] for row in rows)
        )
    counts = {verdict.value: count for verdict, count in done.counts.items()}
    if as_json:
        print_json(counts | {"rows": rows})
    else:
        words = {verdict: VERDICTS[verdict][language == "hi"] for verdict in counts}
        print_fields(counts if language == "en" else {words[v]: n for v, n in counts.items()}, as_json=False)
        if rows:
            print_table(
                rows[:MAX_SHOWN], as_json=False, title="not applied" if language == "en" else "लागू नहीं हुए"
            )
            if len(rows) > MAX_SHOWN:
                print_line(f"… and {len(rows) - MAX_SHOWN} more: --corrections FILE writes all of them")
    if _left(done):
        raise typer.Exit(Exit.FAILED)


def _left(done: ContactImport) -> int:
    return done.counts[Verdict.REJECTED] + done.counts[Verdict.CONFLICT]


def _verdict(one: ContactVerdict, language: Language) -> dict[str, Any]:
    return {
        "line": one.line,
        "verdict": one.verdict.value if language == "en" else VERDICTS[one.verdict.value][1],
        "code": one.code,
        "column": one.column,
        "position": one.position,
        "what": one.what(language),
        "do": one.advice(language),
    }


def _row(people: People, one: Contact, *, whole: bool) -> dict[str, Any]:
    age = None if one.verified_at is None else (people.now - one.verified_at).days
    return {
        "contact": one.id[:8],
        "mobile": one.mobile if whole else one.masked,
        "source": one.source,
        "added": one.added_at,
        "verified": one.verified_at,
        "how": one.verified_how,
        "days ago": age,
        "told the number": verified(one.verified_at, people.now),
        "language": one.language,
        "wants none since": people.contacts.opted_out(one.mobile),
    }


def _chosen(people: People, account: str, given: str) -> Contact:
    found = [
        one
        for one in people.contacts.of_account(account)
        if (len(given) >= 4 and one.id.startswith(given))
        or (len(given) >= 4 and one.mobile.endswith(given[-10:]))
    ]
    if len(found) != 1:
        how = "no mobile" if not found else f"{len(found)} mobiles"
        raise UsageError(f"{how} of the account fit: `contacts show` lists them with their ids")
    return found[0]
