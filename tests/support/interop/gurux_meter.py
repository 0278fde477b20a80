"""A meter made of gurux-dlms as a test asks for it, and our client's settings towards it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from protocols.dlms.security import curves
from protocols.session import Auth, DlmsSettings
from tests.support.dlms.bench import HLS_KEY, KEYS, PASSWORD, SIGNERS, suite_keys
from tests.support.fakes import Secrets
from tests.support.interop.served import IST, MAX_PDU, keys_of, protection_of, secret_of, signing_task
from tests.support.interop.table import GURUX_AUTH, Case

METER_TITLE = b"GRX\x00\x00\x00\x00\x07"
METER_COUNTER = 77
ALL_KEYS = (KEYS, suite_keys(1), suite_keys(2))
SECRETS = Secrets(
    {"lls": PASSWORD, "hls": HLS_KEY}
    | {f"ek-{suite}": keys.encryption for suite, keys in enumerate(ALL_KEYS)}
    | {f"ak-{suite}": keys.authentication for suite, keys in enumerate(ALL_KEYS)}
    | {
        "signing": SIGNERS[1, "client"].private_numbers().private_value.to_bytes(32, "big"),
        "signer": curves.public_octets(SIGNERS[1, "meter"].public_key()),
    }
)


def wall(at: datetime) -> str:
    """Give a time as the meter's own clock shows it."""
    return (at + IST).replace(tzinfo=None).isoformat()


def meter_task(case: Case, now: datetime, begin: datetime) -> dict[str, Any]:
    """Return the task of serving such a meter, whose load profile has rows from `begin` on."""
    return {
        "do": "serve",
        "framing": case.framing,
        "auth": GURUX_AUTH[case.auth],
        "protection": case.protection,
        "general": "general" in case.form,
        "general_blocks": case.general_blocks,
        "address_octets": case.address_octets,
        "password": secret_of(case).hex(),
        "title": METER_TITLE.hex(),
        "encryption_key": keys_of(case).encryption.hex(),
        "authentication_key": keys_of(case).authentication.hex(),
        "answer_key": keys_of(case).authentication.hex(),
        "suite": case.suite,
        **signing_task(case, "meter", "client"),
        "counter": METER_COUNTER,
        "max_pdu": MAX_PDU,
        "now": wall(now),
        "begin": wall(begin),
    }


def physical_of(case: Case) -> int | None:
    """Give the meter's HDLC address."""
    return 17 if case.framing == "hdlc" and case.address_octets > 1 else None


def settings_of(case: Case) -> DlmsSettings:
    """Return our client's settings."""
    password = ("lls" if case.auth is Auth.LLS else "hls") if case.auth.needs_secret else None
    keys = case.ciphered or case.auth is Auth.HLS_GMAC
    return DlmsSettings(
        client=48,
        physical=physical_of(case),
        framing=case.framing,
        auth=case.auth,
        ciphered=case.ciphered,
        protection=protection_of(case),
        dedicated_key="ded" in case.form,
        general="general" in case.form,
        # in a list gurux says "success" without a value of an object that it lacks: our client gives lists up then, in
        # a new association; lists of what is there are read below
        max_list=1,
        address_octets=case.address_octets if case.framing == "hdlc" else 0,
        password_ref=password,
        encryption_key_ref=f"ek-{case.suite}" if keys else None,
        authentication_key_ref=f"ak-{case.suite}" if keys else None,
        suite=case.suite,
        signing_key_ref="signing" if case.suite == 1 else None,
        meter_signing_ref="signer" if case.suite == 1 else None,
    )
