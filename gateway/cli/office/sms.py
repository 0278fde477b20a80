"""The commands `sms …`: templates looked at before an operator refuses them, and what became of messages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.central.office.actors import Right
from gateway.central.telling.lint import MOST_SEGMENTS, lint
from gateway.central.telling.messages import State
from gateway.central.telling.queue import SmsQueue
from gateway.central.telling.templates import Library, registered_text
from gateway.cli.exits import Exit
from gateway.cli.office.files import ConfigChoice, DataOption
from gateway.cli.office.people import KindOption, opened
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_json, print_line, print_problem, print_table
from gateway.config import file as configuration
from gateway.config.sms import SmsSection
from gateway.roles.telling import library_of, pace_of

TemplatesArgument = Annotated[
    Path | None, typer.Argument(help="The utility's file of templates; without it that of --config.")
]

sms_group = typer.Typer(
    help="Messages to people's phones: templates, and what became of them.", no_args_is_help=True
)
templates_group = typer.Typer(
    help="Texts of messages, as they are registered with the operators.", no_args_is_help=True
)
sms_group.add_typer(templates_group, name="templates")


@templates_group.command("check")
def check(
    file: TemplatesArgument = None,
    config: ConfigChoice = None,
    unregistered: Annotated[
        bool,
        typer.Option(
            "--unregistered", help="Texts without a DLT id are no mistake: before they are registered."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check templates as operators will: each mistake with file, line and field; then what each text costs.

    Example: meter-gateway sms templates check templates.toml
    """
    found = lint(_file(file, config), registered=not unregistered)
    rows = [
        {
            "template": one.template,
            "language": one.language,
            "alphabet": one.size.alphabet.value,
            "units": one.size.units,
            "parts": one.size.segments,
            "DLT id": one.dlt_id,
        }
        for one in found.sizes
    ]
    if as_json:
        mistakes = [
            {"file": m.file, "line": m.line, "field": m.field, "problem": m.problem} for m in found.mistakes
        ]
        print_json({"mistakes": mistakes, "templates": rows})
    else:
        if rows:
            print_table(rows, as_json=False, title=f"at their longest (at most {MOST_SEGMENTS} parts)")
        for mistake in found.mistakes:
            print_problem(str(mistake))
        if not found.mistakes:
            print_line(f"{len(found.library.templates)} templates are right")
    if found.mistakes:
        raise typer.Exit(Exit.FAILED)


@templates_group.command("list")
def list_templates(
    file: TemplatesArgument = None, config: ConfigChoice = None, as_json: JsonOption = False
) -> None:
    """List the texts as they are registered with the operators, `{#var#}` in each variable's place.

    Example: meter-gateway sms templates list templates.toml
    """
    found = lint(_file(file, config), registered=False)
    for mistake in found.mistakes:
        print_problem(str(mistake))
    rows = [
        {
            "template": template.id,
            "language": language,
            "DLT id": wording.dlt_id,
            "registered text": registered_text(wording),
        }
        for template in found.library.templates.values()
        for language, wording in template.wordings()
    ]
    print_table(rows, as_json=as_json)
    if found.mistakes:
        raise typer.Exit(Exit.FAILED)


def _file(file: Path | None, config: Path | None) -> Path | None:
    return file if file is not None or config is None else configuration.load(config).sms.templates


@sms_group.command("status")
def status(
    data: DataOption = None,
    config: ConfigChoice = None,
    batch: Annotated[
        str | None, typer.Option("--batch", help="Only what was sent for this: a campaign, codes.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count messages by state, so that none is lost in silence.

    Example: meter-gateway sms status --data DIR
    """
    with opened(data, config, Right.CONSUMERS, Right.FLEET) as people:
        counts = SmsQueue(people.store, Library(templates={})).counts(batch)
    print_fields({state.value: counts.get(state, 0) for state in State}, as_json=as_json)


@sms_group.command("list")
def list_messages(
    data: DataOption = None,
    config: ConfigChoice = None,
    state: Annotated[
        State | None, typer.Option("--state", help="Only these, for example unconfirmed.")
    ] = None,
    number: Annotated[
        str | None, typer.Option("--number", help="Only those of the account of this number.")
    ] = None,
    kind: KindOption = None,
    most: Annotated[int, typer.Option("--rows", min=1, max=10_000, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the newest messages with state and reason; never mobile or text.

    Example: meter-gateway sms list --state unconfirmed --data DIR
    """
    with opened(data, config, Right.CONSUMERS) as people:
        account = None if number is None else people.account(number, kind)
        if account is not None:
            people.seen(account, "sms.seen")
        found = SmsQueue(people.store, Library(templates={})).find(state=state, account_id=account, most=most)
    rows = [
        {
            "message": one.id,
            "template": one.template,
            "state": one.state.value,
            "reason": one.reason,
            "queued": one.queued_at,
            "handed": one.handed_at,
            "ended": one.ended_at,
            "tries": one.tries,
            "parts": one.segments,
            "batch": one.batch,
        }
        for one in found
    ]
    print_table(rows, as_json=as_json, empty="no messages")


@sms_group.command("again")
def again(
    message: Annotated[str, typer.Argument(help="The message's id, from `sms list`.")],
    data: DataOption = None,
    config: ConfigChoice = None,
) -> None:
    """Hand over once more a message that ended unconfirmed, failed or undelivered; it may then arrive twice.

    Example: meter-gateway sms again 5f0c3e --data DIR
    """
    with opened(data, config, Right.CONSUMERS) as people:
        section = configuration.load(config).sms if config is not None else SmsSection()
        queue = SmsQueue(people.store, library_of(section), pace_of(section))
        people.who.note("sms.again", f"message:{message[:64]}")
        queue.again(message, by=people.who.name, now=people.now)
    print_line("it is queued again")
