"""Central's files under one data folder, and the keys of the directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from gateway.config.file import Config
from gateway.contract.signing import new_key_pair
from gateway.private_file import write_private
from protocols.meters.secrets import FileSecrets

SIGNING_KEY = "directory-signing"
VERIFY_KEY = "directory-verify"


@dataclass(frozen=True, slots=True)
class CentralFiles:
    """Central's files in one folder; `second_copy` of the sealed keys stands elsewhere, where it is named.

    `url` is the PostgreSQL that holds directory, ledger and people, where they are no files; it carries the password.
    """

    folder: Path
    second_copy: Path | None = None
    url: str | None = field(default=None, repr=False)

    @property
    def directory(self) -> Path | str:
        """Return where the database of who holds which meter is: a path, or a URL."""
        return self.url or self.folder / "directory.db"

    @property
    def are_made(self) -> bool:
        """Whether a central has run here, as far as files tell: on a server the stores say so when they are opened."""
        return self.url is not None or (Path(self.ledger).is_file() and Path(self.directory).is_file())

    @property
    def rekey(self) -> Path:
        """Return the folder of the plans of re-key files."""
        return self.folder / "rekey"

    @property
    def senders(self) -> Path:
        """Return the path of the profiles of those who send such files."""
        return self.folder / "senders.json"

    @property
    def ledger(self) -> Path | str:
        """Return where the database of every reading for ever is: a path, or a URL."""
        return self.url or self.folder / "ledger.db"

    @property
    def has_ledger(self) -> bool:
        """Whether there is a ledger, as far as files tell."""
        return self.url is not None or Path(self.ledger).is_file()

    @property
    def people(self) -> Path | str:
        """Return where contacts, messages and who saw what are kept: a path, or a URL."""
        return self.url or self.folder / "contacts.db"

    @property
    def campaign(self) -> Path | str:
        """Return where slips, ticks and the campaign are kept: a path, or a URL."""
        return self.url or self.folder / "campaign.db"

    @property
    def keys(self) -> Path:
        """Return the path of the sealed keys of meters."""
        return self.folder / "keys.db"

    @property
    def office(self) -> Path | str:
        """Return where staff, tokens, change sets and the audit trail are: beside the directory, or in its database."""
        return self.url or self.folder / "office.db"

    def made(self) -> CentralFiles:
        """Return these files after making their folder, private."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self


def central_files(data: Path) -> CentralFiles:
    """Return central's files under a gateway's data folder, all embedded."""
    return CentralFiles(data / "central")


def central_files_of(config: Config, data: Path | None = None) -> CentralFiles:
    """Return central's files as a configuration names them; `data` is another gateway's data folder than its own.

    Raises ConfigError where the database's password is not among the secrets.
    """
    folder = (data or config.gateway.data) / "central"
    return CentralFiles(folder, config.keys.second_copy, _database_url(config))


def _database_url(config: Config) -> str | None:
    section = config.central
    if section.database is None or section.database_password_ref is None:
        return section.database
    password = FileSecrets(config.secrets).secret(section.database_password_ref).decode().strip()
    scheme, _, rest = section.database.partition("://")
    user, _, place = rest.partition("@")
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}"


def make_directory_keys(folder: Path, suffix: str = "") -> tuple[Path, Path]:
    """Write a new signing key pair as secrets (0600) into `folder` unless it is there; return both paths.

    `suffix` is added to the names: the next pair lies beside the present one.

    Raises OSError when the folder or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    signing, verify = folder / f"{SIGNING_KEY}{suffix}", folder / f"{VERIFY_KEY}{suffix}"
    if not signing.exists():
        private, public = new_key_pair()
        # The private key is last: where it is, the pair is whole, and a crash before it makes a new pair.
        write_private(verify, public)
        write_private(signing, private)
    return signing, verify
