"""Central's files under one data folder, and the keys of the directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.contract.signing import new_key_pair

SIGNING_KEY = "directory-signing"
VERIFY_KEY = "directory-verify"


@dataclass(frozen=True, slots=True)
class CentralFiles:
    """Central's files under one data folder."""

    folder: Path

    @property
    def directory(self) -> Path:
        """Who holds which meter."""
        return self.folder / "directory.db"

    @property
    def ledger(self) -> Path:
        """Every reading for ever."""
        return self.folder / "ledger.db"

    @property
    def contacts(self) -> Path:
        """Registered mobiles."""
        return self.folder / "contacts.db"

    def made(self) -> CentralFiles:
        """Make the folder, private."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self


def central_files(data: Path) -> CentralFiles:
    """Return central's files under a gateway's data folder."""
    return CentralFiles(data / "central")


def make_directory_keys(folder: Path) -> tuple[Path, Path]:
    """Write a new signing key pair as secrets (0600) unless they are there; gives both paths."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    signing, verify = folder / SIGNING_KEY, folder / VERIFY_KEY
    if not signing.exists():
        private, public = new_key_pair()
        for path, octets in ((signing, private), (verify, public)):
            path.touch(mode=0o600)
            path.write_bytes(octets)
    return signing, verify
