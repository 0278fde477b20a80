"""Client certificates: seen where TLS is spoken here, or told by a trusted proxy and by nobody else."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.central.office.actors import StaffRole
from tests.support.central.office import BOX
from tests.support.mosquitto import Certificates, make_certificates
from tests.support.web.staffed import Staffed, staffed

PATH = "/v1/directory/change-sets"


def digest(path: Path) -> str:
    found = x509.load_pem_x509_certificate(path.read_bytes())
    return hashlib.sha256(found.public_bytes(Encoding.DER)).hexdigest()


def register(here: Staffed, certs: Certificates) -> None:
    now = datetime.now(UTC)
    with here.office() as office:
        office.machines.add_certificate(
            "mdm",
            digest(certs.client_cert),
            [StaffRole.CLERK],
            expires=now + timedelta(days=9),
            by=BOX,
            at=now,
        )


async def test_a_certificate_of_our_authority_that_is_registered_is_let_in(
    tmp_path: Path, seeded_files: Path
) -> None:
    certs = make_certificates(tmp_path / "certs")
    web = (
        f'public_url = "https://127.0.0.1"\nsession_secret_ref = "portal-session"\ncert_file = "{certs.server_cert}"\n'
        f'key_file = "{certs.server_key}"\nclient_ca_file = "{certs.ca}"'
    )
    async with staffed(tmp_path, seeded_files, web) as here:
        base = here.base.replace("http://", "https://")
        trusted = ssl.create_default_context(cafile=str(certs.ca))
        async with httpx.AsyncClient(base_url=base, verify=trusted, headers={"Host": "127.0.0.1"}) as nobody:
            assert (await nobody.get(PATH)).status_code == 401
            assert (await nobody.get("/staff/login")).status_code == 200  # a browser has none
        trusted.load_cert_chain(certs.client_cert, certs.client_key)
        async with httpx.AsyncClient(base_url=base, verify=trusted, headers={"Host": "127.0.0.1"}) as mdm:
            assert (await mdm.get(PATH)).status_code == 401  # ours, and registered nowhere
            register(here, certs)
            assert (await mdm.get(PATH)).status_code == 200
            with here.office() as office:
                office.machines.revoke("mdm", by=BOX, at=datetime.now(UTC))
            assert (await mdm.get(PATH)).status_code == 401


async def test_a_trusted_proxy_tells_the_certificate_that_it_saw(tmp_path: Path, seeded_files: Path) -> None:
    certs = make_certificates(tmp_path / "certs")
    web = (
        'public_url = "https://portal.example"\nsession_secret_ref = "portal-session"\n'
        'trusted_proxies = ["127.0.0.1"]\nclient_certificate_header = "X-Client-Certificate"'
    )
    async with staffed(tmp_path, seeded_files, web) as here:
        register(here, certs)
        pem = quote(certs.client_cert.read_text())
        headers = {"Host": "portal.example", "X-Forwarded-For": "10.1.1.1", "X-Forwarded-Proto": "https"}
        async with httpx.AsyncClient(base_url=here.base, headers=headers) as http:
            for told, status in (
                (pem, 200),
                (digest(certs.client_cert), 200),
                (quote(certs.server_cert.read_text()), 401),
                ("", 401),
                ("-----BEGIN", 401),
                ("0" * 15_000, 401),
            ):
                got = await http.get(PATH, headers={"X-Client-Certificate": told})
                assert got.status_code == status, told[:40]
        with here.office() as office:
            assert office.machines.all()[0].last_used is not None


async def test_nobody_elses_word_about_a_certificate_counts(tmp_path: Path, seeded_files: Path) -> None:
    certs = make_certificates(tmp_path / "certs")
    web = (
        'public_url = "https://portal.example"\nsession_secret_ref = "portal-session"\n'
        'trusted_proxies = ["10.9.9.9"]\nclient_certificate_header = "X-Client-Certificate"'
    )
    async with staffed(tmp_path, seeded_files, web) as here:
        register(here, certs)
        headers = {"X-Client-Certificate": digest(certs.client_cert), "Host": "portal.example"}
        async with httpx.AsyncClient(base_url=here.base, headers=headers) as http:
            assert (await http.get(PATH)).status_code == 401
