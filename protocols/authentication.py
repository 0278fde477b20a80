"""How DLMS associations authenticate, what ciphering does to their APDUs, and how they end."""

from __future__ import annotations

from enum import StrEnum


class Auth(StrEnum):
    """How a DLMS association authenticates (Green Book 9.2.2, mechanisms 0 to 6).

    `lls` sends a password; the others prove a secret without sending it. `hls2` is the mechanism of Indian
    meters (AES), `hls-gmac` uses the ciphering keys alone.
    """

    NONE = "none"
    LLS = "lls"
    HLS2 = "hls2"
    HLS_MD5 = "hls-md5"
    HLS_SHA1 = "hls-sha1"
    HLS_GMAC = "hls-gmac"
    HLS_SHA256 = "hls-sha256"

    @property
    def needs_secret(self) -> bool:
        """Say whether it needs a password or HLS key of its own, beside the ciphering keys."""
        return self not in (Auth.NONE, Auth.HLS_GMAC)


class Protection(StrEnum):
    """What ciphering does to each APDU (security control 0x30, 0x10, 0x20).

    `authenticated` shows the text and proves it, `encrypted` hides it without proof; meters of IS 15959 want
    both, which is the default.
    """

    AUTHENTICATED_ENCRYPTED = "authenticated-encrypted"
    AUTHENTICATED = "authenticated"
    ENCRYPTED = "encrypted"


class ReleaseMode(StrEnum):
    """How an association ends: RLRQ, RLRQ with a ciphered Initiate inside, or the link's end alone."""

    PLAIN = "plain"
    PROTECTED = "protected"
    NONE = "none"
