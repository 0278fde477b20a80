"""The commands `staff …`: accounts by name, and the login of whoever gives commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.central.office.actors import Actor, StaffRole, roles_text
from gateway.central.office.office import Office
from gateway.central.office.proofs import MAX_PASSWORD, MIN_PASSWORD
from gateway.central.office.staff import SESSION, NewAuthenticator
from gateway.cli.office.acting import acting, need_the_box, read_private, session_file
from gateway.cli.office.asked import asked_secret
from gateway.cli.office.files import ConfigChoice, DataOption, find_files
from gateway.cli.office.tokens import tokens_group
from gateway.cli.options import JsonOption
from gateway.cli.output import print_fields, print_line, print_table
from gateway.errors import UsageError
from gateway.private_file import write_private

NameArgument = Annotated[str, typer.Argument(help="Name of the account: a to z, 0 to 9, . _ -")]
RoleOption = Annotated[list[StaffRole], typer.Option("--role", help="What for; may be given several times.")]
StdinOption = Annotated[
    bool, typer.Option("--stdin", help="Read secrets from standard input, one a line: for scripts.")
]

staff_group = typer.Typer(
    help="Staff accounts, tokens of machines, and your own login.", no_args_is_help=True
)
staff_group.add_typer(tokens_group, name="tokens")


@staff_group.command("add")
def add_account(
    name: NameArgument,
    role: RoleOption,
    data: DataOption = None,
    config: ConfigChoice = None,
    stdin: StdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make an account: a password is asked for, and the authenticator's secret is shown once.

    By root, or whoever central's files belong to. From the first account on nobody changes anything without a login.

    Example: meter-gateway staff add meera --role clerk --data DIR
    """
    with box_office(data, config) as (office, by):
        password = _new_password(stdin=stdin)
        made = office.staff.add(name, password, role, by=by, at=datetime.now(UTC))
    _show(made, f"account {name.strip().lower()}: {roles_text(role)}", as_json=as_json)


@staff_group.command("list")
def list_accounts(data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False) -> None:
    """List the accounts with their roles and last login.

    Example: meter-gateway staff list --data DIR
    """
    files = find_files(data, config)
    with Office(files.office, files.folder) as office:
        rows = [
            {
                "name": one.name,
                "roles": roles_text(one.roles),
                "state": "disabled" if one.disabled else "active",
                "last_login": one.last_login,
                "made_by": one.made_by,
                "made_at": one.made_at,
            }
            for one in office.staff.accounts()
        ]
    print_table(rows, as_json=as_json, empty="there are no accounts: whoever may open central's files acts")


@staff_group.command("disable")
def disable_account(name: NameArgument, data: DataOption = None, config: ConfigChoice = None) -> None:
    """Shut an account: its logins end now. It is kept, since the history names it; `staff reset` opens it again.

    Example: meter-gateway staff disable meera --data DIR
    """
    with box_office(data, config) as (office, by):
        office.staff.disable(name, by=by, at=datetime.now(UTC))
    print_line(f"{name.strip().lower()} is disabled, and logged out everywhere")


@staff_group.command("reset")
def reset_account(
    name: NameArgument,
    data: DataOption = None,
    config: ConfigChoice = None,
    stdin: StdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give an account a new password and a new authenticator, and open it where it was shut; its logins end.

    Example: meter-gateway staff reset meera --data DIR
    """
    with box_office(data, config) as (office, by):
        password = _new_password(stdin=stdin)
        made = office.staff.reset(name, password, by=by, at=datetime.now(UTC))
    _show(made, f"account {name.strip().lower()} has new secrets", as_json=as_json)


@staff_group.command("roles")
def give_roles(
    name: NameArgument, role: RoleOption, data: DataOption = None, config: ConfigChoice = None
) -> None:
    """Give an account these roles in place of those that it has; its logins end.

    Example: meter-gateway staff roles meera --role clerk --role care --data DIR
    """
    with box_office(data, config) as (office, by):
        office.staff.give_roles(name, role, by=by, at=datetime.now(UTC))
    print_line(f"{name.strip().lower()}: {roles_text(role)}")


@staff_group.command("login")
def login(
    name: NameArgument, data: DataOption = None, config: ConfigChoice = None, stdin: StdinOption = False
) -> None:
    """Log in at this terminal, with password and code: the commands that you give from now on are yours.

    The login lies in a file that only you can read, and ends after 8 hours or with `staff logout`.

    Example: meter-gateway staff login meera --data DIR
    """
    files = find_files(data, config)
    with Office(files.office, files.folder) as office:
        if not office.staff.exists():
            raise UsageError(
                "there are no accounts: `meter-gateway staff add NAME --role ROLE` makes the first"
            )
        password = asked_secret("password", stdin=stdin)
        code = asked_secret("code of the authenticator", stdin=stdin)
        now = datetime.now(UTC)
        token = office.staff.login(name, password, code, kind="terminal", source="command", at=now)
        path = session_file(office)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, token.encode() + b"\n")
    print_fields({"logged_in": name.strip().lower(), "until": now + SESSION}, as_json=False)


@staff_group.command("logout")
def logout(data: DataOption = None, config: ConfigChoice = None) -> None:
    """End the login of this terminal.

    Example: meter-gateway staff logout --data DIR
    """
    files = find_files(data, config)
    with Office(files.office, files.folder) as office:
        path = session_file(office)
        if not path.exists():
            print_line("nobody is logged in here")
            return
        token, now = read_private(path), datetime.now(UTC)
        held = office.staff.of_session(token, kind="terminal", source="command", at=now)
        if held is not None:
            office.staff.logout(token, by=held, at=now)
        path.unlink()
    print_line("logged out")


@staff_group.command("whoami")
def whoami(data: DataOption = None, config: ConfigChoice = None, as_json: JsonOption = False) -> None:
    """Show who the commands given here are from, with which roles.

    Example: meter-gateway staff whoami --data DIR
    """
    with acting(find_files(data, config)) as who:
        fields = {"name": who.name, "roles": roles_text(who.actor.roles), "proved_by": who.actor.proof.value}
    print_fields(fields, as_json=as_json)


@contextmanager
def box_office(data: Path | None, config: Path | None) -> Iterator[tuple[Office, Actor]]:
    """Open the office for what only the box's own user does."""
    files = find_files(data, config).made()
    by = need_the_box(files.folder)
    with Office(files.office, files.folder) as office:
        yield office, by


def _new_password(*, stdin: bool) -> str:
    words = f"new password ({MIN_PASSWORD} to {MAX_PASSWORD} characters)"
    return asked_secret(words, stdin=stdin, twice=not stdin)


def _show(made: NewAuthenticator, words: str, *, as_json: bool) -> None:
    shown = {"result": words, "authenticator_secret": made.seed, "authenticator_uri": made.uri}
    print_fields(shown, as_json=as_json)
    if not as_json:
        print_line("shown this once: put it into the authenticator app, and keep no copy")
