"""The errors of the gateway: who must act. Errors of protocols and mapping keep their own trees.

GatewayError
├── ConfigError        the operator: the configuration file, a secret, a path
├── JournalError       the edge box: disk or file of the journal
│   └── JournalFull    the declared bound is reached and the policy refuses more
├── PeerError          the far side of a delivery: broker, InfluxDB, central
│   ├── PeerUnavailable  retry with back-off
│   ├── PeerRefusedLogin fix the credentials; retried slowly
│   │   └── PeerDeniesTopic  fix the access rules of one topic; all others go on
│   └── PeerRefusedData  the peer will never take this data: it is set aside with the reason
├── TurnMissed         a line was not free in time: try again, or wait longer
├── ContractError      a message breaks the contract: the sender; kept aside, counted
├── AccessDenied       whoever asks: log in, or ask somebody who may
└── UsageError         the person at the command line
"""

from __future__ import annotations


class GatewayError(Exception):
    """Root of every error of the running program."""

    exit_code = 1


class ConfigError(GatewayError):
    """The configuration is wrong; the message names file, line, field and what is allowed."""

    exit_code = 3


class JournalError(GatewayError):
    """The journal cannot be written or read."""

    exit_code = 5


class JournalFull(JournalError):
    """The journal reached its declared bound."""


class PeerError(GatewayError):
    """Another system failed us."""

    exit_code = 4


class PeerUnavailable(PeerError):
    """The peer cannot be reached; retried with back-off."""


class PeerRefusedLogin(PeerError):
    """The peer refused our credentials."""


class PeerDeniesTopic(PeerRefusedLogin):
    """The broker's access rules do not allow one topic; all others go on."""


class PeerRefusedData(PeerError):
    """The peer refuses this data for good."""


NOT_TAKEN = (PeerDeniesTopic, PeerRefusedData)
"""A single message was not taken; the connection and all other messages are as they were."""


class TurnMissed(GatewayError):
    """A line was not free in time for what somebody wanted of it; the message says what it was busy with."""

    exit_code = 4


class ContractError(GatewayError):
    """A message breaks the contract."""


class AccessDenied(GatewayError):
    """Nobody is logged in, or whoever is may not do this."""

    exit_code = 6


class UsageError(GatewayError):
    """A command was used wrongly."""

    exit_code = 2
