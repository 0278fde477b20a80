"""What most likely is wrong when a meter does not let us in, and the setting to look at; pure text."""

from __future__ import annotations

from protocols.dlms.security.hls import HLS
from protocols.errors import MeterRefused, MeterSilent, ProtocolError
from protocols.session import Auth, DlmsSettings

USER = 1
"""Source of an AARE's diagnostic: the service user."""
FAILURE = 13
_CONTEXT, _TITLE = 2, 3
_MECHANISMS = (11, 12, 14)
_KEYS = "encryption_key_ref, authentication_key_ref"


def refused(auth: Auth, ciphered: bool, source: int, diagnostic: int) -> str:
    """Say what to look at when an AARE refuses with a diagnostic (Green Book 9.4.2); "" when that is unclear."""
    if source != USER:
        return ""
    if diagnostic == _CONTEXT:
        if ciphered:
            return _hint("ciphering not wanted for this client", "ciphered, client")
        return _hint("ciphering wanted for this client", f"ciphered, {_KEYS}")
    if diagnostic == _TITLE:
        return _hint("our system title unknown to the meter", "system_title")
    if diagnostic in _MECHANISMS:
        return _hint(f"authentication {auth} not offered to this client", "auth, client")
    if diagnostic in (1, FAILURE):
        return _failure(auth, ciphered)
    return ""


def unproved(auth: Auth) -> str:
    """Say what to look at when pass 3 of HLS is refused."""
    if auth is Auth.HLS_GMAC:
        return _hint("encryption or authentication key wrong", _KEYS)
    if auth is Auth.HLS_ECDSA:
        return _hint("our certificate unknown to the meter, or signing key wrong", "signing_key_ref")
    return _hint("HLS key wrong", "password_ref")


def _failure(auth: Auth, ciphered: bool) -> str:
    if auth is Auth.NONE and not ciphered:
        return _hint("password wanted for this client", "auth, client")
    if auth is Auth.LLS and not ciphered:
        return _hint("LLS password wrong", "password_ref")
    if auth is Auth.LLS:
        return _hint("LLS password or global key wrong", f"password_ref, {_KEYS}")
    if auth is Auth.HLS_GMAC:
        return _hint("encryption or authentication key wrong", _KEYS)
    if ciphered or auth not in HLS:
        return _hint("global key wrong", _KEYS)
    return _hint("client address wrong", "client")


def explained(error: ProtocolError, linking: bool, settings: DlmsSettings, client: int) -> ProtocolError:
    """Say what to look at when the meter did not answer, or refused the link, before an association stood.

    `linking` tells that the link was not connected yet.
    """
    hdlc = settings.framing == "hdlc"
    if isinstance(error, MeterSilent):
        if linking:
            physical = "" if settings.physical is None else f"physical {settings.physical}, "
            place = f"{physical}server {settings.server}"
            hint = _hint(
                f"no meter at {place}, or no power, wiring or baud rate", "physical, server, the line"
            )
            return MeterSilent(f"{error} to the connect request (SNRM){hint}")
        where = "physical, " if hdlc else ""
        hint = _hint(f"client {client} or server {settings.server} unknown to it", f"client, {where}server")
        return MeterSilent(f"{error} to the association request (AARQ){hint}")
    if isinstance(error, MeterRefused) and linking and hdlc:
        hint = _hint(f"client {client} unknown to it, or another client connected", "client")
        return type(error)(f"{error}{hint}", reason_code=error.reason_code)
    return error


def silent_public(error: ProtocolError, linking: bool, settings: DlmsSettings, client: int) -> ProtocolError:
    """Explain silence or refusal as `explained` does, where the public client was to read the invocation counter."""
    known = explained(error, linking, settings, client)
    if linking:
        return known
    return MeterSilent(f'{known}; counter_object = "" leaves out asking for the invocation counter')


def _hint(cause: str, see: str) -> str:
    return f" ({cause}?): see {see}"
