"""Where the broker is and who we are there."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import ConfigError

WINDOW = 20
"""Most messages in flight: the receive maximum of Mosquitto; more is slower on every broker measured."""

MqttVersion = Literal["5", "3.1.1"]


class TlsSettings(BaseModel):
    """TLS to the broker; without `ca_file` the system's authorities are trusted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class MqttSettings(BaseModel):
    """Where the broker is and who we are there. The password is given apart, as octets, when connecting.

    `brokers`: host and port of every broker of a cluster, in place of `host` and `port`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    brokers: tuple[tuple[str, int], ...] = ()
    username: str | None = None
    password_ref: str | None = None
    tls: TlsSettings | None = None
    client_id: str = Field(min_length=1, max_length=128)
    root: str = "meters"
    # A broker that hangs is noticed after two of these: within a minute.
    keepalive: int = Field(default=20, ge=5, le=3600)
    version: Literal["auto", "5", "3.1.1"] = "auto"
    session_expiry: int = Field(default=0, ge=0)
    timeout: float = Field(default=10.0, gt=0)
    window: int = Field(default=WINDOW, ge=1, le=1000)

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Host and port of every broker that may be connected to."""
        return self.brokers or ((self.host, self.port),)

    @property
    def where(self) -> str:
        """The brokers, as messages name them."""
        return " or ".join(f"{host}:{port}" for host, port in self.places)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when we vanish."""

    topic: str
    payload: bytes


class _TlsSocket(ssl.SSLSocket):
    """Paho forgets the socket of a handshake that fails: it would stay open until it is collected."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return the context for a connection; ConfigError when the files cannot be used."""
    try:
        context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the TLS files for the broker cannot be used: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _TlsSocket
    return context
