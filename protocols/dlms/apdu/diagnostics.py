"""Names of what a meter answers instead of a value: results, diagnostics, exceptions and service errors."""

from __future__ import annotations

from collections.abc import Mapping

ACCESS_RESULTS: dict[int, str] = {
    1: "hardware fault",
    2: "temporary failure",
    3: "read-write denied",
    4: "object undefined",
    9: "object class inconsistent",
    11: "object unavailable",
    12: "type unmatched",
    13: "scope of access violated",
    14: "data block unavailable",
    15: "long get aborted",
    16: "no long get in progress",
    17: "long set aborted",
    18: "no long set in progress",
    19: "data block number invalid",
    250: "other reason",
}
"""Names of data-access-result; action-result uses the same numbers for the common cases (Green Book 9.5)."""

_ACTION_RESULTS: Mapping[int, str] = ACCESS_RESULTS | {
    15: "long action aborted",
    16: "no long action in progress",
}

USER_DIAGNOSTICS: Mapping[int, str] = {
    0: "no diagnostic",
    1: "no reason given",
    2: "application context not supported",
    3: "calling system title not recognised",
    4: "calling AP invocation identifier not recognised",
    5: "calling AE qualifier not recognised",
    6: "calling AE invocation identifier not recognised",
    7: "called AP title not recognised",
    8: "called AP invocation identifier not recognised",
    9: "called AE qualifier not recognised",
    10: "called AE invocation identifier not recognised",
    11: "authentication mechanism not recognised",
    12: "authentication mechanism required",
    13: "authentication failure",
    14: "authentication required",
}
"""acse-service-user diagnostics (Green Book 9.4.2, ISO 8650-1)."""
PROVIDER_DIAGNOSTICS: Mapping[int, str] = {
    0: "no diagnostic",
    1: "no reason given",
    2: "no common ACSE version",
}
"""acse-service-provider diagnostics."""

SERVICE_NOT_ALLOWED = 1
"""State error of an exception-response: the meter knows no association that allows the service."""
DECIPHERING_ERROR, INVOCATION_COUNTER_ERROR = 5, 6
"""Service errors of an exception-response."""
STATE_ERRORS: Mapping[int, str] = {1: "service not allowed", 2: "service unknown"}
SERVICE_ERRORS: Mapping[int, str] = {
    1: "operation not possible",
    2: "service not supported",
    3: "other reason",
    4: "PDU too long",
    5: "deciphering error",
    6: "invocation counter error",
}
"""state-error and service-error of exception-response (Green Book 9.5)."""

CONFIRMED_SERVICES: Mapping[int, str] = {
    1: "initiate",
    2: "get status",
    3: "get name list",
    4: "get variable attribute",
    5: "read",
    6: "write",
    7: "get data set attribute",
}
CONFIRMED_ERRORS: Mapping[int, tuple[str, tuple[str, ...]]] = {
    0: (
        "application reference",
        (
            "other",
            "time elapsed",
            "application unreachable",
            "application reference invalid",
            "application context unsupported",
            "provider communication error",
            "deciphering error",
        ),
    ),
    1: (
        "hardware resource",
        (
            "other",
            "memory unavailable",
            "processor unavailable",
            "mass storage unavailable",
            "other resource unavailable",
        ),
    ),
    2: (
        "VDE state",
        ("other", "no DLMS context", "loading data set", "status no change", "status inoperable"),
    ),
    3: ("service", ("other", "PDU size", "service unsupported")),
    4: (
        "definition",
        ("other", "object undefined", "object class inconsistent", "object attribute inconsistent"),
    ),
    5: (
        "access",
        (
            "other",
            "scope of access violated",
            "object access violated",
            "hardware fault",
            "object unavailable",
        ),
    ),
    6: (
        "initiate",
        (
            "other",
            "DLMS version too low",
            "incompatible conformance",
            "PDU size too short",
            "refused by the VDE handler",
        ),
    ),
    9: ("task", ("other", "no remote control", "TI stopped", "TI running", "TI unusable")),
}
"""ServiceError of confirmed-service-error (Green Book 9.5): kinds and their values in order."""


def result_name(code: int) -> str:
    """Return the name of a data-access-result; 0 is success."""
    return "success" if code == 0 else ACCESS_RESULTS.get(code, f"result {code}")


def action_result_name(code: int) -> str:
    """Return the name of an action-result; 0 is success."""
    return "success" if code == 0 else _ACTION_RESULTS.get(code, f"result {code}")


def association_diagnostic(source: int, diagnostic: int) -> str:
    """Return the name of an AARE's diagnostic; `source` 1 is the service user, 2 the provider."""
    known = {1: USER_DIAGNOSTICS, 2: PROVIDER_DIAGNOSTICS}.get(source, {})
    return known.get(diagnostic, f"diagnostic {diagnostic} of source {source}")


def exception_name(state: int, service: int) -> str:
    """Return an exception-response in words."""
    states = STATE_ERRORS.get(state, f"state error {state}")
    return f"{states}: {SERVICE_ERRORS.get(service, f'service error {service}')}"


def confirmed_error_name(service: int, kind: int, value: int) -> str:
    """Return a confirmed-service-error in words: its service, kind of error and value."""
    what = CONFIRMED_SERVICES.get(service, f"service {service}")
    name, values = CONFIRMED_ERRORS.get(kind, (f"error {kind}", ()))
    return f"{what} failed, {name}: {values[value] if value < len(values) else value}"
