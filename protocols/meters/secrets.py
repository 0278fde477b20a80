"""Keys and passwords by reference: private files, or systemd's credentials."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from protocols.errors import MeterConfigError

MAX_SECRET = 4_096
"""Octets of a secret's file; a longer file is something else."""
CREDENTIAL_FOLDER = "keys"
"""Name of the folder of secrets in the unit's `LoadCredential=`."""
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2})+")
_KEY_HEX = (32, 64)


class FileSecrets:
    """Secrets in files: `$CREDENTIALS_DIRECTORY/REF` first, then `…/keys_REF`, then `folder/REF`.

    systemd shows the files of a folder given as `LoadCredential=keys:FOLDER` under the names `keys_REF`.

    A file in `folder` must be a plain file, owned by this user, with no right for group or others (0600 or
    stricter); systemd guards its own folder. Content: one trailing line end is dropped; `hex:` before hex
    digits, or exactly 32 or 64 hex digits (an AES key), give the octets they stand for; anything else is
    taken as it is (write `raw:` before a password that looks like one of these). A secret is read anew at
    each call, so a changed file counts at once. Errors name the reference, never the content.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        given = (os.environ if environment is None else environment).get("CREDENTIALS_DIRECTORY")
        self._folder = folder
        self._credentials = Path(given) if given else None

    def __repr__(self) -> str:
        return f"FileSecrets({str(self._folder)!r})"

    def secret(self, ref: str) -> bytes:
        """Return the octets behind `ref`; MeterConfigError says what is wrong with its file."""
        if not _REF.fullmatch(ref) or ".." in ref:
            raise MeterConfigError(
                f"{ref[:140]!r} is not a secret's name: letters, digits, dot, dash and underscore"
            )
        for path in self._credential_files(ref):
            if path.is_file():
                return decoded(_read(path, ref, private=False), ref)
        return decoded(_read(self._folder / ref, ref, private=True), ref)

    def _credential_files(self, ref: str) -> tuple[Path, ...]:
        if self._credentials is None:
            return ()
        return self._credentials / ref, self._credentials / f"{CREDENTIAL_FOLDER}_{ref}"


def _read(path: Path, ref: str, *, private: bool) -> bytes:
    """Read through one descriptor, so that what is checked is what is read."""
    links = os.O_NOFOLLOW if private else 0
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | links)
    except FileNotFoundError as error:
        raise MeterConfigError(f"there is no secret {ref}: put it into {path} (chmod 600)") from error
    except OSError as error:
        raise MeterConfigError(f"the secret {ref} cannot be read from {path}: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MeterConfigError(f"the secret {ref} must be a plain file: {path}")
        if private:
            _check_private(status, path, ref)
        content = os.read(descriptor, MAX_SECRET + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_SECRET:
        raise MeterConfigError(f"the secret {ref} in {path} is longer than {MAX_SECRET} octets")
    return content


def _check_private(status: os.stat_result, path: Path, ref: str) -> None:
    if status.st_uid != os.geteuid():
        raise MeterConfigError(f"the secret {ref} belongs to another user: chown {path}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise MeterConfigError(f"others may read the secret {ref}: chmod 600 {path}")


def decoded(content: bytes, ref: str) -> bytes:
    """Return the octets that a secret's text stands for (see `FileSecrets`); MeterConfigError otherwise."""
    content = content.removesuffix(b"\n").removesuffix(b"\r")
    if content.startswith(b"raw:"):
        content = content[4:]
    elif content.startswith(b"hex:"):
        digits = b"".join(content[4:].split())
        if not _HEX.fullmatch(digits):
            raise MeterConfigError(f"the secret {ref} says hex: but pairs of hex digits do not follow")
        content = bytes.fromhex(digits.decode())
    elif len(content) in _KEY_HEX and _HEX.fullmatch(content):
        content = bytes.fromhex(content.decode())
    if not content:
        raise MeterConfigError(f"the secret {ref} is empty")
    return content
