"""A key file: the secrets of one meter in a small private TOML file, so that none is ever an argument."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

from protocols.dlms.security.ciphered_forms import KEY_OCTETS, LONG_KEY_OCTETS
from protocols.errors import MeterConfigError
from protocols.meters.secrets import decoded
from protocols.session import Auth

MAX_OCTETS = 16_384
"""A longer file is no key file."""
PAIRS = (
    "signing_key",
    "signing_certificate",
    "meter_signing",
    "trust_anchor",
    "agreement_key",
    "meter_agreement",
    "master_key",
)
"""Private keys and certificates of suites 1 and 2, as PEM text (private keys also in hex), and the master key."""
NAMES = ("password", "hls_key", "encryption_key", "authentication_key", "dedicated_key", *PAIRS)
"""What a key file may hold; `dedicated_key` is of use to `decode` only."""
_KEYS = ("encryption_key", "authentication_key", "dedicated_key")


class KeyFile:
    """`SecretSource` whose references are the names in the file.

    Values are text. 32 or 64 hex digits, or `hex:` before hex digits, give the octets they stand for;
    anything else is taken as it is (`raw:` before a password that looks like hex). Ciphering keys have 16
    octets, under suite 2 32. Errors name the file and the key's name, never a value; MeterConfigError when others may
    read the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._secrets = _read(path)

    def __repr__(self) -> str:
        return f"KeyFile({str(self._path)!r})"

    def __contains__(self, name: str) -> bool:
        return name in self._secrets

    @property
    def counters(self) -> Path:
        """Where invocation counters with these keys are kept: beside the file, under its name."""
        return self._path.with_suffix(".counters.json")

    def secret(self, ref: str) -> bytes:
        """Return the octets of `ref`; MeterConfigError when the file does not have it."""
        if ref not in self._secrets:
            raise MeterConfigError(f"{self._path} has no {ref}")
        return self._secrets[ref]

    def password_name(self, auth: Auth) -> str | None:
        """Return the name of the secret that `auth` needs: `password` for LLS, else `hls_key`; either serves."""
        first = ("password", "hls_key") if auth is Auth.LLS else ("hls_key", "password")
        return next((name for name in first if name in self._secrets), None)

    @property
    def suite(self) -> int:
        """The security suite that the length of the encryption key tells: 2, else 0."""
        return 2 if len(self._secrets.get("encryption_key", b"")) == LONG_KEY_OCTETS else 0

    @property
    def has_keys(self) -> bool:
        """Say whether the file has both keys that ciphering needs."""
        return "encryption_key" in self._secrets and "authentication_key" in self._secrets


def _read(path: Path) -> dict[str, bytes]:
    try:
        content = tomllib.loads(_private_text(path))
    except ValueError as error:  # the text is not repeated: it may hold a key
        raise MeterConfigError(
            f'{path} is not TOML: write a line such as encryption_key = "00…0F" for each'
        ) from error
    for name in content:
        if name not in NAMES:
            raise MeterConfigError(f"{path}: `{name}` is none of {', '.join(NAMES)}")
    return {name: _secret(path, name, value) for name, value in content.items()}


def _secret(path: Path, name: str, value: object) -> bytes:
    if not isinstance(value, str) or not value:
        raise MeterConfigError(f"{path}: {name} is text or hex digits in quotes")
    try:
        octets = decoded(value.encode(), name)
    except MeterConfigError as error:
        raise MeterConfigError(f"{path}: {error}") from error
    if name in _KEYS and len(octets) not in (KEY_OCTETS, LONG_KEY_OCTETS):
        raise MeterConfigError(
            f"{path}: {name} has {len(octets)} octets; {KEY_OCTETS} octets are needed "
            f"({2 * KEY_OCTETS} hex digits, or {KEY_OCTETS} characters), under suite 2 {LONG_KEY_OCTETS}"
        )
    return octets


def _private_text(path: Path) -> str:
    """Read through one descriptor, so that what is checked is what is read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise MeterConfigError(f"the key file {path} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise MeterConfigError(f"the key file {path} must be a plain file")
        if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o077:
            raise MeterConfigError(f"others may read the key file {path}: chmod 600 {path}")
        content = file.read(MAX_OCTETS + 1)
    if len(content) > MAX_OCTETS:
        raise MeterConfigError(f"the key file {path} is longer than {MAX_OCTETS} octets")
    return content.decode("utf-8")
