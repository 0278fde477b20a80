"""The [mqtt] section as the MQTT connection takes it, and the broker's password."""

from __future__ import annotations

from secrets import token_hex

from gateway.config.file import Config, MqttSection
from gateway.contract.field import field_gateway
from gateway.contract.topics import topic_level
from gateway.mqtt.connection import MqttSettings, TlsSettings
from protocols.meters.secrets import FileSecrets


def mqtt_settings(section: MqttSection, client_id: str) -> MqttSettings:
    """Return what the connection of the client `client_id` takes from the [mqtt] section."""
    tls = None
    if section.ca_file or section.cert_file or section.tls:
        tls = TlsSettings(ca_file=section.ca_file, cert_file=section.cert_file, key_file=section.key_file)
    return MqttSettings(
        host=section.host,
        port=section.port,
        brokers=tuple(_place(broker) for broker in section.brokers),
        username=section.username,
        password_ref=section.password_ref,
        tls=tls,
        client_id=client_id,
        root=section.root,
        version=section.version,
        window=section.window,
    )


def one_time_id(config: Config, purpose: str) -> str:
    """Return a client id that no other command has: a broker ends the connection that had the same one before."""
    return f"{config.gateway.name}-{purpose}-{token_hex(4)}"


def _place(broker: str) -> tuple[str, int]:
    host, _, port = broker.rpartition(":")
    return host.strip("[]"), int(port)


def login_warnings(config: Config) -> list[str]:
    """Return where the login is not the name that the broker's access rules go by."""
    level, user = topic_level(config.gateway.name), config.mqtt.username
    if "." not in config.gateway.name or user in (None, level):
        return []
    return [
        f"topics write this gateway's name as {level}, since some brokers take no `.` in them: access rules that go"
        f' by the login want [mqtt] username = "{level}", not "{user}"'
    ]


def password(config: Config) -> bytes | None:
    """Return the broker's password; MeterConfigError when its file is missing or not private."""
    return _secret(config, config.mqtt.password_ref)


def field_login(config: Config) -> tuple[str | None, bytes | None]:
    """Return user name and password of field work: access rules bind a login to the gateway of its name."""
    section = config.mqtt
    user = None if section.username is None else field_gateway(section.username)
    return user, _secret(config, section.field_password_ref or section.password_ref)


def _secret(config: Config, ref: str | None) -> bytes | None:
    return FileSecrets(config.secrets).secret(ref) if ref else None
