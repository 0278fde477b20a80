"""The commands by name. `--help` lists them from this table; a command's module is imported when it is given."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from gateway.cli.plain_parameters import PlainCommand, PlainGroup


class Entry(NamedTuple):
    """Where a command or group is, as `MODULE:NAME` below gateway.cli, and the first line of its help."""

    place: str
    help: str


COMMANDS = {
    "demo": Entry(
        "tools.demo:demo",
        "Run everything on embedded defaults: meters, broker, edge, central, pages. Ctrl-C ends it.",
    ),
    "run": Entry("service.run:run", "Run the roles that the configuration names, until SIGTERM or Ctrl-C."),
    "reload": Entry(
        "service.reload:reload",
        "Let the running edge read its file anew: lines and meters come, go and change, and no other is disturbed.",
    ),
    "check": Entry(
        "service.check:check",
        "Check a configuration file and the secrets it names; every mistake is shown where it stands.",
    ),
    "simulate": Entry(
        "tools.simulate:simulate",
        "Serve a neighbourhood of simulated meters on real sockets and ptys, or one replayed meter, until Ctrl-C.",
    ),
    "listen": Entry(
        "service.listen:listen",
        "Print deliveries as billing would take them: the smallest example of a consumer.",
    ),
    "outbox": Entry(
        "service.journal:outbox", "Show what the edge's journal holds and how far each delivery is."
    ),
    "replay": Entry("service.journal:replay", "Ask a running edge to send a range of its journal again."),
    "counters": Entry(
        "service.counters:counters_group",
        "Invocation counters: ours with each meter, and the meters' own of pushes.",
    ),
    "keys": Entry(
        "keys.group:keys_group", "Keys of meters: changed in two phases, escrowed, imported, given to edges."
    ),
    "read": Entry(
        "meter.read:read", "Read one profile of one meter and print it; nothing is stored or delivered."
    ),
    "scan": Entry(
        "meter.scan:scan",
        "Find who answers on a line: meters of DLMS and of Modbus, with serial and model where they tell.",
    ),
    "watch": Entry(
        "meter.watch:watch",
        "Listen on a line and print what passes: who is asked, who answers, what is no frame. Nothing is sent.",
    ),
    "line": Entry("meter.line:line_group", "How well a line carries."),
    "backfill": Entry(
        "meter.backfill:backfill",
        "Let the running edge read what a meter stored in a span once more: what is new is journaled and delivered.",
    ),
    "commission": Entry(
        "meter.fitting:commission",
        "Bind a meter to a usage point, with proof: serial read over the line, opening reading seen at central.",
    ),
    "replace": Entry(
        "meter.fitting:replace",
        "Replace a meter: final reading of the old, opening reading of the new, both seen at central.",
    ),
    "clock": Entry("meter.clock:clock", "Show the meter's clock beside this computer's; with --set, set it."),
    "relay": Entry(
        "meter.relay:relay",
        "Show the meter's supply contact: what it is, what it was told, who may move it; with --to move it.",
    ),
    "events": Entry(
        "meter.events:events",
        "List what the meter's event logs hold, each with its log and its name by the companion.",
    ),
    "program": Entry(
        "meter.program:program",
        "Program a meter by a named act: shown before and after, confirmed, read back, recorded.",
    ),
    "get": Entry(
        "meter.objects:get",
        "Read one attribute of any object, typed and as its octets; keys and passwords are never shown.",
    ),
    "set": Entry(
        "meter.objects:set_",
        "Write one attribute that the configuration allows ([acts] set): shown before, confirmed, read back, recorded.",
    ),
    "action": Entry(
        "meter.objects:action",
        "Run one method that the configuration allows ([acts] action): confirmed and recorded; never repeated.",
    ),
    "firmware": Entry("meter.firmware:firmware_group", "Firmware images, and upgrades of many meters."),
    "certificates": Entry(
        "meter.certificates:certificates_group",
        "Key pairs and certificates in a meter (class 64, suites 1 and 2).",
    ),
    "explore": Entry(
        "meter.explore:explore",
        "Walk a meter's object list and show every object: class, version, access, value, and its name.",
    ),
    "unattributed": Entry(
        "office.ledger:unattributed", "List readings that stand under no account, by meter and reason."
    ),
    "missing": Entry(
        "office.missing:missing",
        "List the entries of edges' journals that central lacks: those asked for again, and those lost for ever.",
    ),
    "altered": Entry(
        "office.missing:altered",
        "Verify the checksum of every capture in the ledger, and list those that were altered since they came.",
    ),
    "dead-letters": Entry("office.missing:dead_letters_group", "Messages that central could not understand."),
    "explain": Entry(
        "office.ledger:explain",
        "Say why a reading stands where it stands: relations, dates, file and row, version, delivery.",
    ),
    "readings": Entry(
        "office.ledger:readings",
        "List the readings of an account between two times, as known now or at an earlier time.",
    ),
    "decode": Entry(
        "tools.decode:decode",
        "Read DLMS traffic (frames, APDUs, values, deciphered when keys are given) and Modbus (RTU, TCP, ASCII).",
    ),
    "models": Entry(
        "tools.models:models_group",
        "Models of Modbus meters: those that are there, one of them, and your own tried.",
    ),
    "push": Entry(
        "tools.pushes:push_group", "What meters push, and the companions that say how it is laid out."
    ),
    "directory": Entry("office.directory:directory_group", "Who holds which meter."),
    "allocation": Entry("office.allocation:allocation_group", "Which gateway reads which meter."),
    "times": Entry("office.times:times_group", "Captures whose time is not trusted."),
    "quarantine": Entry("office.allocation:quarantine_group", "Entries that are kept but not believed."),
    "campaign": Entry(
        "office.campaign:campaign_group", "Everybody is told the new number, and nobody twice."
    ),
    "slips": Entry("office.slips:slips_group", "New account numbers on paper, for meter readers."),
    "staff": Entry("office.staff:staff_group", "Staff accounts, tokens of machines, and your own login."),
    "audit": Entry("office.audit:audit_group", "The record of who did and saw what, as a hash chain."),
    "contacts": Entry("office.contacts:contacts_group", "Registered mobiles of accounts."),
    "privacy": Entry(
        "office.privacy:privacy_group",
        "Personal data: given out, erased, kept how long, and who could have been seen.",
    ),
    "sms": Entry("office.sms:sms_group", "Messages to people's phones: templates, and what became of them."),
}


class LazyGroup(PlainGroup):
    """The root of all commands: holds their names and help lines, and imports the one that is given."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=entry.help) for name, entry in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return name, command and arguments of the command that `args` begin with."""
        name, found, rest = super().resolve_command(ctx, args)
        if name is None or found is None:
            return name, found, rest
        command = import_command(name)
        if "structlog" in sys.modules:  # the command has parts that log; the others need not load logging
            from gateway.logs import setup_logging

            setup_logging("warning")
        return name, command, rest


def import_command(name: str) -> Any:
    """Import the module of a command or group of `COMMANDS` and return what typer makes of it."""
    module, _, attribute = COMMANDS[name].place.partition(":")
    found = getattr(import_module(f"gateway.cli.{module}"), attribute)
    parent = typer.Typer(rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        parent.add_typer(found, name=name)
    else:
        parent.command(name, cls=PlainCommand)(found)
    return get_group(parent).commands[name]


def every_command() -> dict[tuple[str, ...], Any]:
    """Import all commands; return them by their words, `("directory", "show")` for one of a group."""
    found: dict[tuple[str, ...], Any] = {}
    for name in COMMANDS:
        found |= _commands_of((name,), import_command(name))
    return found


def _commands_of(words: tuple[str, ...], command: Any) -> dict[tuple[str, ...], Any]:
    if not isinstance(command, TyperGroup):
        return {words: command}
    found = {words: command} if command.invoke_without_command else {}
    for inner, child in command.commands.items():
        found |= _commands_of((*words, inner), child)
    return found
