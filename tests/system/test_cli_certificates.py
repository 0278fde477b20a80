"""The commands `certificates` as a user gives them, against simulated meters of suite 1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from protocols.session import Auth
from tests.support.cli import Cli
from tests.support.firmware_site import FirmwareSite, firmware_site

USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


class Authority:
    """A certification authority of a test, and one that nobody trusts."""

    def __init__(self, folder: Path, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        basic = x509.BasicConstraints(ca=True, path_length=0)
        self.file.write_bytes(self._made(self.name, self.key.public_key(), "key_cert_sign", basic))

    def signed(self, request: Path) -> bytes:
        found = x509.load_pem_x509_csr(request.read_bytes())
        basic = x509.BasicConstraints(ca=False, path_length=None)
        return self._made(found.subject, found.public_key(), "digital_signature", basic)

    def _made(self, subject: x509.Name, key: object, usage: str, basic: x509.BasicConstraints) -> bytes:
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(basic, critical=True)
            .add_extension(x509.KeyUsage(**{**USAGE, usage: True}), critical=True)
        )
        return made.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirmwareSite]:
    with firmware_site(tmp_path_factory.mktemp("certificates"), suite=1) as made:
        yield made


def test_a_meter_s_certificate_is_requested_imported_shown_and_removed(
    cli: Cli, site: FirmwareSite, tmp_path: Path
) -> None:
    meter = next(m for m in site.meters("GEN") if m.spec.dlms and m.spec.dlms.auth is Auth.HLS2)
    name, config = meter.meter, ("--config", site.config)
    sure = (*config, "--yes", "--meter-serial", meter.serial, "--json")
    ours, foreign = Authority(tmp_path, "utility"), Authority(tmp_path, "stranger")
    assert cli("certificates", "list", name, *config, "--json").json == []

    first, second = tmp_path / "first.csr", tmp_path / "second.csr"
    for file in (first, second):
        cli("certificates", "request", name, "--use", "agreement", "--out", file, *config)
    old, again = (x509.load_pem_x509_csr(file.read_bytes()).public_key() for file in (first, second))
    assert old == again
    made = tmp_path / "new.csr"
    said = cli("certificates", "request", name, "--use", "signing", "--new-key-pair", "--out", made, *sure)
    assert said.json["new_key_pair"] is True
    refused = cli.refuses("certificates", "request", name, "--use", "signing", "--out", made, *config, code=2)
    assert "is there already" in refused

    signed = tmp_path / "meter.pem"
    signed.write_bytes(foreign.signed(made))
    bring = ("certificates", "import", name, signed, "--use", "signing", "--anchor", ours.file)
    assert "no trust anchor vouches" in cli.refuses(*bring, *sure, code=4)
    signed.write_bytes(ours.signed(first))
    assert "another key than the meter's request shows" in cli.refuses(*bring, *sure, code=4)
    assert cli("certificates", "list", name, *config, "--json").json == []

    signed.write_bytes(ours.signed(made))
    taken = cli(*bring, *sure).json
    assert taken["outcome"] == "imported, and read back"
    (listed,) = cli("certificates", "list", name, *config, "--json").json
    assert (listed["entity"], listed["use"], listed["serial"]) == ("server", "signing", taken["serial"])
    assert listed["issuer"] == "CN=utility"
    out = tmp_path / "exported.pem"
    cli("certificates", "export", name, listed["serial"], "--out", out, *config)
    assert out.read_bytes() == signed.read_bytes()

    assert "lists 0 certificates" in cli.refuses("certificates", "remove", name, "AB", *sure, code=4)
    cli("certificates", "remove", name, listed["serial"], *sure)
    assert cli("certificates", "list", name, *config, "--json").json == []
    acts = [json.loads(line) for line in (site.data / "acts.jsonl").read_text().splitlines()]
    done = [line["after"] for line in acts if line["outcome"] == "done"]
    assert done == [
        "make a new key pair for signing",
        f"import certificate {taken['serial']} for signing",
        f"remove certificate {taken['serial']}",
    ]


def test_wrong_use_is_said(cli: Cli, site: FirmwareSite, tmp_path: Path) -> None:
    meter = site.meters("GEN")[0].meter
    config = ("--config", site.config)
    request = ("certificates", "request", meter, "--out", tmp_path / "a", "--use")
    assert "none of signing, agreement, tls" in cli.refuses(*request, "love", *config, code=2)
    assert "needs --meter-serial" in cli.refuses(
        *request, "signing", "--new-key-pair", "--yes", *config, code=2
    )
    assert "no serial number in hex" in cli.refuses("certificates", "remove", meter, "xyz", *config, code=2)
    (tmp_path / "none.pem").write_text("no certificate")
    bring = ("certificates", "import", meter, tmp_path / "none.pem", "--use", "signing", *config)
    assert "is no certificate" in cli.refuses(*bring, code=2)
