"""Names of what a trace holds: APDUs, association fields, results and errors (Green Book 9.4 and 9.5)."""

from __future__ import annotations

from protocols.dlms.apdu.diagnostics import ACCESS_RESULTS

APDUS = {
    0x01: "initiate-request",
    0x08: "initiate-response",
    0x0E: "confirmed-service-error",
    0x0F: "data-notification",
    0x60: "AARQ",
    0x61: "AARE",
    0x62: "RLRQ",
    0x63: "RLRE",
    0xC0: "get-request",
    0xC1: "set-request",
    0xC2: "event-notification-request",
    0xC3: "action-request",
    0xC4: "get-response",
    0xC5: "set-response",
    0xC7: "action-response",
    0xD8: "exception-response",
    0xD9: "access-request",
    0xDA: "access-response",
    0xDB: "general-glo-ciphering",
    0xDC: "general-ded-ciphering",
    0xDD: "general-ciphering",
    0xDF: "general-signing",
    0xE0: "general-block-transfer",
}
FROM_CLIENT = (0x01, 0x60, 0x62, 0xC0, 0xC1, 0xC3)
"""Plain APDUs that clients send."""
FIELDS = {
    0x80: "acse requirements or reason",
    0x88: "acse requirements",
    0x89: "mechanism",
    0x8A: "acse requirements",
    0x8B: "mechanism",
    0xA1: "application context",
    0xA2: "result",
    0xA3: "diagnostic",
    0xA4: "system title of the meter",
    0xA5: "invocation of the meter",
    0xA6: "system title of the client",
    0xA7: "qualifier of the client",
    0xA8: "invocation of the client's process",
    0xA9: "user of the client",
    0xAA: "authentication value of the meter",
    0xAC: "authentication value of the client",
    0xBD: "implementation information",
    0xBE: "user information",
}
MECHANISMS = {
    0: "none",
    1: "LLS",
    2: "HLS 2",
    3: "HLS MD5",
    4: "HLS SHA-1",
    5: "HLS-GMAC",
    6: "HLS SHA-256",
    7: "HLS ECDSA",
}
CONTEXTS = {1: "LN", 2: "SN", 3: "LN ciphered", 4: "SN ciphered"}
RESULTS = {0: "accepted", 1: "rejected permanently", 2: "rejected transiently"}
RELEASE_REQUESTS = {0: "normal", 1: "urgent", 30: "user defined"}
RELEASE_ANSWERS = {0: "normal", 1: "not finished", 30: "user defined"}
ACCESS = {0: "success"} | ACCESS_RESULTS
CONFIRMED_SERVICES = {
    1: "initiate",
    2: "get status",
    3: "get name list",
    4: "get variable attribute",
    5: "read",
    6: "write",
    7: "get data set attribute",
}
FRMR_REASONS = {
    1: "control field not known",
    2: "information not permitted",
    4: "information too long",
    8: "receive number invalid",
}
CONFORMANCE = {
    1: "general-protection",
    2: "general-block-transfer",
    8: "attribute-0-set",
    9: "priority",
    10: "attribute-0-get",
    11: "get-blocks",
    12: "set-blocks",
    13: "action-blocks",
    14: "lists",
    16: "data-notification",
    17: "access",
    19: "get",
    20: "set",
    21: "selective-access",
    22: "event-notification",
    23: "action",
}
"""Services of LN referencing by bit, the highest first."""


def conformance(bits: int) -> str:
    """Name the services of a conformance block of 24 bits."""
    names = [CONFORMANCE.get(n, f"bit-{n}") for n in range(24) if bits >> (23 - n) & 1]
    return ", ".join(names) or "no service"
