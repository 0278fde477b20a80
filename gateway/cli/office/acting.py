"""Who gives an office command: whoever is logged in here, or a machine by its token; never the environment.

A central without staff accounts is a small site: there whoever may open its files acts, by the name that the kernel
knows, `box:NAME`. From the first account on every command that changes something needs a login.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gateway.central.office.actors import Actor, Proof, Right, StaffRole
from gateway.central.office.office import Office
from gateway.cli.options import user
from gateway.errors import AccessDenied, UsageError
from gateway.roles.central_files import CentralFiles
from mapping.snapshot import DirectorySnapshot

TOKEN_FILE: Final = "METER_GATEWAY_TOKEN_FILE"  # noqa: S105  # the name of a variable that names a file
SOURCE: Final = "command"
MAX_TOKEN: Final = 200


@dataclass(frozen=True, slots=True)
class Acting:
    """Who acts, in an opened office; `named` says whether it has staff accounts, so that names are proved."""

    actor: Actor
    office: Office
    named: bool

    @property
    def name(self) -> str:
        """The name as the history has it."""
        return self.actor.name

    def called(self, by: str | None) -> str:
        """Return who it is in the history: a name that is only said (`--by`) counts where there are no accounts."""
        if not self.named:
            return by or self.name
        if by is not None and by != self.name:
            raise UsageError(f"{self.name} gives this command: --by is for a central without staff accounts")
        return self.name

    def note(self, act: str, subject: str, detail: Mapping[str, Any] | None = None) -> None:
        """Add to the audit trail what was done, or looked at."""
        self.office.trail.record(self.actor, act, subject, at=datetime.now(UTC), detail=detail)

    def subject(self, asked: str, snapshot: DirectorySnapshot) -> str:
        """Return who is meant by what was typed, for the trail: an account by its id, anything else as a keyed hash."""
        if snapshot.namings(asked) or snapshot.usage_points_of(asked):
            return f"account:{asked}"
        found = next(iter(snapshot.candidates(asked).values()), None)
        return f"account:{found}" if found is not None else self.office.seal.reference(asked)

    def note_directory(self, version: int, before: int, source: str) -> None:
        """Add to the audit trail that the directory was changed; nothing where it was not."""
        if version != before:
            self.note("directory.applied", f"directory:{version}", {"source": source[:200]})


@contextmanager
def acting(files: CentralFiles, *rights: Right) -> Iterator[Acting]:
    """Open the office and give who acts; AccessDenied where nobody is logged in, or may do none of `rights`."""
    with Office(files.office, files.folder) as office:
        named = office.staff.exists()
        actor = _who(office) if named else box_actor()
        actor.need(*rights)
        yield Acting(actor, office, named)


def box_actor() -> Actor:
    """Return the user of this machine, as the kernel knows it."""
    return Actor(name=f"box:{user()}", roles=frozenset(StaffRole), proof=Proof.BOX, source=SOURCE)


def need_the_box(folder: Path) -> Actor:
    """Return the box's own user for what is done here alone: accounts and tokens.

    AccessDenied unless it is root, or whoever central's files belong to.
    """
    if os.geteuid() not in (0, folder.stat().st_uid):
        raise AccessDenied(
            f"accounts and tokens are made on this machine by root, or by whoever {folder} belongs to"
        )
    return box_actor()


def _who(office: Office) -> Actor:
    now = datetime.now(UTC)
    named = os.environ.get(TOKEN_FILE)
    if named is not None:
        actor = office.machines.of_token(read_private(Path(named)), source=SOURCE, at=now)
        if actor is None:
            raise AccessDenied(
                f"the token in {named} is not known here, or no longer: `staff tokens list` shows why"
            )
        return actor
    path = session_file(office)
    if path.exists():
        held = office.staff.of_session(read_private(path), kind="terminal", source=SOURCE, at=now)
        if held is not None:
            return held
        raise AccessDenied("the login has ended: `meter-gateway staff login NAME` begins another")
    raise AccessDenied(
        "nobody is logged in here: `meter-gateway staff login NAME`, or name a machine's token with"
        f" {TOKEN_FILE}=FILE"
    )


def session_file(office: Office) -> Path:
    """Return where this user's login at an office is kept; UsageError for a user without a home."""
    try:
        home = Path.home()
    except RuntimeError as error:
        raise UsageError(
            f"this user has no home to keep a login in: name a token with {TOKEN_FILE}"
        ) from error
    return home / ".local" / "state" / "meter-gateway" / f"session-{office.uuid[:16]}"


def read_private(path: Path) -> str:
    """Return the one line of a file that nobody else can read; UsageError where others can, or it is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o077:
            raise UsageError(f"{path} must be a plain file that only its owner can read: chmod 600")
        text = file.read(MAX_TOKEN + 1)
    return text[:MAX_TOKEN].decode("ascii", "replace").strip()
