"""A real Mosquitto as we ship it (deploy/mosquitto.conf and .acl), on a loopback port chosen by the OS, for tests."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support import services
from tests.support.paths import DEPLOY
from tests.support.waiting import PATIENCE, wait_until

SHIPPED_ROOT = "kesco"
ROOTS = (SHIPPED_ROOT, "kanpur", "meters", "test")
PLACES = {"listener", "cafile", "certfile", "keyfile", "tls_version", "password_file", "acl_file"}
"""Settings of the shipped file that name places of the machine, with those that need them."""


def login(client_id: str) -> str:
    """Return the user of the shipped rules as whom a test's client logs in: edges and billing by their own name.

    Anybody else is central, who may say everything.
    """
    return client_id if client_id == "billing" or client_id.startswith("edge-") else "central"


def free_port() -> int:
    """Ask the OS for a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Certificates:
    """A test authority with a server's and a client's certificate."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


@dataclass
class Mosquitto:
    """The shipped broker, which can be killed and started again on the same port.

    Of the shipped files only listener, paths, users and the access rules' root are replaced: the rules are written
    for each of `roots`, and a user name is believed without a password unless `passwords` are given. Its folder
    must be empty and its own. `certificates` switches TLS on; `require_client_certificate` takes the name from
    the certificate. `extra` lines come in place of the shipped ones of the same name.
    """

    folder: Path
    persistence: bool = True
    passwords: dict[str, str] = field(default_factory=dict)
    certificates: Certificates | None = None
    require_client_certificate: bool = False
    extra: tuple[str, ...] = ()
    roots: tuple[str, ...] = ROOTS
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> Mosquitto:
        """Start and wait until it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(self._lines()) + "\n")
        program = services.program("mosquitto", "mosquitto", "mosquitto", "/usr/sbin/mosquitto")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
        wait_until(lambda: self._listens() or not self.running, "mosquitto listens")
        if not self.running:
            raise RuntimeError("mosquitto ended: " + (self.folder / "log").read_text()[-2000:])
        return self

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def hang(self) -> None:
        """Keep its connections and answer nothing, until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Go on after `hang`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Mosquitto:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _end(self, how: int) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(how)
            process.wait(PATIENCE)

    def _lines(self) -> list[str]:
        ours = [f"listener {self.port} 127.0.0.1", f"persistence_location {self.folder}/"]
        ours.append(f"persistence {str(self.persistence).lower()}")
        if os.geteuid() == 0:
            ours.append("user root")
        if self.passwords:
            ours.append(f"password_file {self._password_file()}")
        elif not self.require_client_certificate:
            ours.append(
                "allow_anonymous true"
            )  # with rules and no passwords: whoever gives a name is believed
        if self.certificates is not None:
            certs = self.certificates
            ours += [f"cafile {certs.ca}", f"certfile {certs.server_cert}", f"keyfile {certs.server_key}"]
            if self.require_client_certificate:
                ours += ["require_certificate true", "use_identity_as_username true"]
        ours += self.extra
        if not any(line.startswith("acl_file ") for line in self.extra):
            ours.append(f"acl_file {self._access_rules()}")
        replaced = {line.split()[0] for line in ours} | PLACES
        shipped = _settings((DEPLOY / "mosquitto.conf").read_text(encoding="utf-8"))
        kept = [line for line in shipped if line.split()[0] not in replaced]
        return sorted([*kept, *ours], key=lambda line: not line.startswith("per_listener_settings "))

    def _access_rules(self) -> Path:
        """Write the shipped rules, each under every root in place of the shipped one."""
        path = self.folder / "acl"
        rules = _settings((DEPLOY / "mosquitto.acl").read_text(encoding="utf-8"))
        # A user's own line has no root and stays one line: twice the same rule is no other rule.
        made = [rule.replace(f" {SHIPPED_ROOT}/", f" {root}/") for rule in rules for root in self.roots]
        path.write_text("\n".join(made) + "\n", encoding="utf-8")
        path.chmod(0o600)
        return path

    def _password_file(self) -> Path:
        path = self.folder / "passwords"
        if not path.exists():
            path.touch(mode=0o600)
            for name, word in self.passwords.items():
                subprocess.run(["mosquitto_passwd", "-b", str(path), name, word], check=True)
        return path


def _settings(text: str) -> list[str]:
    """Return the lines of a shipped file that say something."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def make_certificates(folder: Path, *, client_name: str = "edge-1") -> Certificates:
    """Make an authority and certificates for 127.0.0.1 (also called portal.example) and for one client."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    ca = _certificate(ca_name, ca_name, ca_key.public_key(), ca_key, authority=True)
    paths = {"ca": folder / "ca.pem"}
    paths["ca"].write_bytes(ca.public_bytes(Encoding.PEM))
    for role, common in (("server", "127.0.0.1"), ("client", client_name)):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        cert = _certificate(name, ca_name, key.public_key(), ca_key, authority=False)
        paths[f"{role}_cert"], paths[f"{role}_key"] = folder / f"{role}.pem", folder / f"{role}.key"
        paths[f"{role}_cert"].write_bytes(cert.public_bytes(Encoding.PEM))
        octets = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        paths[f"{role}_key"].write_bytes(octets)
        paths[f"{role}_key"].chmod(0o600)
    return Certificates(**paths)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
    signer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(signer_id, critical=False)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("portal.example")]
            ),
            critical=False,
        )
        .sign(signer, hashes.SHA256())
    )
