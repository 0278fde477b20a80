"""The edge's copy of its part of the directory: the signed parts themselves, verified again when loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.contract.envelope import MAX_DIRECTORY_MESSAGE, parse_data
from gateway.contract.messages import DirectoryPart
from gateway.contract.signing import DIRECTORY_TYP, verify
from gateway.contract.topics import gateway_name
from gateway.errors import ConfigError, ContractError
from protocols.durable import replace_file

MAX_CHANGES = 200
"""Changes kept after a snapshot; beyond it a new snapshot is asked for."""
_FILE = "directory.jws"


class StoredPart:
    """A snapshot and the changes after it, one compact JWS a line, in `{folder}/directory.jws` (0600).

    Blocking and small; callers in an event loop use a thread. `keys` are central's public keys. A part is
    taken in two steps, so that only what could be applied is kept:

    >>> part = stored.check(jws)  # doctest: +SKIP
    >>> apply(part.rows)  # doctest: +SKIP
    >>> stored.store(jws, part)  # doctest: +SKIP
    """

    def __init__(self, folder: Path, gateway: str, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ConfigError("no key to verify the directory with: name central's public key")
        self._path = folder / _FILE
        self._gateway = gateway_name(gateway)
        self._keys = tuple(keys)
        self._signed: list[str] = []
        self.version = 0

    @property
    def full(self) -> bool:
        """Whether only a snapshot can follow: there is none yet, or too many changes follow it."""
        return not 0 < len(self._signed) <= MAX_CHANGES

    def load(self) -> list[DirectoryPart]:
        """Return the stored parts in order; what does not verify is left out (and asked for again)."""
        parts: list[DirectoryPart] = []
        self._signed, self.version = [], 0
        try:
            lines = self._path.read_text(encoding="ascii").split()
        except (FileNotFoundError, UnicodeDecodeError):
            return []
        except OSError as error:
            raise ConfigError(
                f"the stored directory {self._path} cannot be read: {error.strerror}"
            ) from error
        for jws in lines:
            try:
                part = self.check(jws)
            except ContractError:
                break
            parts.append(part)
            self._signed.append(jws)
            self.version = part.version
        return parts

    def expect_snapshot(self) -> None:
        """Take nothing but a snapshot next: what is stored cannot be applied. It may not be older."""
        self._signed = []

    def check(self, jws: str) -> DirectoryPart:
        """Verify a part that would follow what is stored; ContractError says why not.

        A snapshot may not be older than what is stored (nobody can set a gateway back by an old
        message); a change must follow the stored version.
        """
        payload = verify(jws, keys=self._keys, typ=DIRECTORY_TYP)
        part = parse_data(payload, DirectoryPart, limit=MAX_DIRECTORY_MESSAGE)
        if part.gateway != self._gateway:
            raise ContractError(f"$.gateway: a directory part for {part.gateway!r}, not for us")
        if part.kind == "snapshot":
            if part.version < self.version:
                raise ContractError(f"$.version: snapshot {part.version} is older than our {self.version}")
            return part
        if part.previous != self.version or self.full:
            raise DirectoryHole(f"$.previous: a change after {part.previous}, but we have {self.version}")
        if part.version <= self.version:
            raise ContractError(f"$.version: {part.version} does not follow {self.version}")
        return part

    def store(self, jws: str, part: DirectoryPart) -> None:
        """Keep a checked part durably: a snapshot replaces everything, a change is appended."""
        signed = [jws] if part.kind == "snapshot" else [*self._signed, jws]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._path, ("\n".join(signed) + "\n").encode("ascii"))
        self._signed, self.version = signed, part.version


class DirectoryHole(ContractError):
    """A change does not follow what we have: a snapshot must be asked for."""
