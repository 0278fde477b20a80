"""A maker's consignment of keys: what is read, what is a mistake at which line, and how the file is opened."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import keywrap
from hypothesis import given
from hypothesis import strategies as st

from gateway.central.keys.consignment import MAX_DEPTH, read_consignment
from gateway.central.keys.consignment_cipher import is_cms, open_cms, open_salted, unwrapper
from gateway.errors import UsageError
from tests.support.keys import cms_recipient

EK, AK, MK = (
    "00112233445566778899AABBCCDDEEFF",
    "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF",
    "0F0E0D0C0B0A09080706050403020100",
)
CSV = f"""Meter No,Manufacturer,EK,AK,Master Key,LLS,HLS_Secret,note
11000001,genus,{EK},{AK},{MK},ABCD1234,ABCDEFGHIJKLMNOP,first
11000002,GEN,{AK},{EK},{MK},ABCD1234,ABCDEFGHIJKLMNOP,
"""
XML = f"""<?xml version="1.0"?>
<k:Consignment xmlns:k="urn:maker"><Order><Number>7</Number></Order>
 <Meter serial="11000001" maker="GEN"><GlobalEncryptionKey>{EK}</GlobalEncryptionKey>
   <k:AuthenticationKey> {AK} </k:AuthenticationKey></Meter>
 <Meter><MeterId>GEN:11000002</MeterId><Keys/><MasterKey>{MK}</MasterKey><client>48</client></Meter>
</k:Consignment>"""


def test_a_csv_gives_the_keys_of_each_association() -> None:
    found = read_consignment(CSV.encode())
    assert (found.mistakes, found.repeated) == ((), 0)
    first, second = found.meters
    assert (first.meter, first.line, second.meter, second.line) == ("GEN:11000001", 2, "GEN:11000002", 3)
    assert {slot: key.hex().upper() for slot, key in first.keys.items() if "secret" not in slot} == {
        **{f"{client}/encryption": EK for client in (32, 48, 80)},
        **{f"{client}/authentication": AK for client in (32, 48, 80)},
        "0/master": MK,
    }
    assert (first.keys["32/secret"], first.keys["48/secret"]) == (b"ABCD1234", b"ABCDEFGHIJKLMNOP")
    assert EK.lower() not in repr(found).lower()


def test_an_xml_gives_them_too() -> None:
    first, second = read_consignment(XML.encode()).meters
    assert (first.meter, sorted(first.keys)) == (
        "GEN:11000001",
        sorted(f"{c}/{k}" for c in (32, 48, 80) for k in ("authentication", "encryption")),
    )
    assert (second.meter, dict(second.keys)) == ("GEN:11000002", {"0/master": bytes.fromhex(MK)})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f",GEN,{EK},{AK}", "is no meter"),
        (f"7,GEN,{EK[:-2]},{AK}", "a key has 16"),
        (f"7,GEN,{EK}00,{AK}", "a key has 16"),
        (f"7,GEN,{'x' * 300},{AK}", "longer than 200"),
        (f"7,GEN,{'é' * 16},{AK}", "neither hex digits nor plain"),
        ("7,GEN,,", "no key"),
        (f"1,GEN,{AK},{EK}", "stands at line 2 with other keys"),
        (f"1,GEN,{AK},", "stands at line 2 with other keys"),  # fewer keys, one of them another
        (f"7,GEN,,{EK},{AK}", "5 cells; the head line has 4"),
        (f"7,GEN,{EK}", "3 cells; the head line has 4"),
        (f"ß,GEN,{EK},{AK}", "is no meter"),  # its capitals are SS
        (f"٣,GEN,{EK},{AK}", "is no meter"),
        (f"=7+1,GEN,{EK},{AK}", "is no meter"),
    ],
)
def test_mistakes_are_told_by_line_and_show_no_key(row: str, said: str) -> None:
    head = f"serial;maker;ek;ak\n1;GEN;{EK};{AK}\n".replace(";", ",")
    found = read_consignment(f"{head}\n{row}\n2,GEN,{EK},{AK}\n".encode())
    (mistake,) = found.mistakes
    assert mistake.line == 4
    assert said in mistake.problem
    for shown in (EK, AK):
        assert shown[:8] not in mistake.problem
    assert [one.meter for one in found.meters] == ["GEN:1", "GEN:2"]


@pytest.mark.parametrize("client", ["0", "128", "00010", "0001999999", "٤٨", "1" * 5000, "-1", "4 8"])
def test_a_client_is_an_address(client: str) -> None:
    (mistake,) = read_consignment(f"serial,maker,client,ek\n1,GEN,{client},{EK}\n".encode()).mistakes
    assert "no address" in mistake.problem


@pytest.mark.parametrize("password", ["1.23E+8", "1,23457E+15", "1E+10"])
def test_a_password_that_a_spreadsheet_rounded_is_none(password: str) -> None:
    (mistake,) = read_consignment(f'serial,maker,lls\n1,GEN,"{password}"\n'.encode()).mistakes
    assert "spreadsheet" in mistake.problem


def test_an_xml_meter_has_each_key_once() -> None:
    for text in (
        f"<m><EK>{EK}</EK><EK>{AK}</EK><MeterId>GEN:1</MeterId></m>",
        f'<m EK="{EK}" meter="GEN:1"><GUEK>{AK}</GUEK></m>',
        f'<m EK="{EK}" GUEK="{AK}" meter="GEN:1"><x/></m>',
    ):
        found = read_consignment(f"<a>{text}</a>".encode())
        assert [mistake.problem[:3] for mistake in found.mistakes] == ["two"]
        assert found.meters == ()


def test_a_meter_may_stand_in_several_lines_for_several_clients() -> None:
    lines = "".join(f"1,GEN,{client},{key}\n" for client, key in ((32, EK), (48, AK), (32, EK)))
    found = read_consignment(f"serial,maker,client,ek\n{lines}".encode())
    assert [sorted(one.keys) for one in found.meters] == [["32/encryption"], ["48/encryption"]]
    assert (found.repeated, found.mistakes) == (1, ())


def test_the_same_line_twice_is_no_mistake() -> None:
    found = read_consignment(f"serial,maker,ek\n1,GEN,{EK}\n1,GEN,{EK}\n".encode())
    assert (len(found.meters), found.repeated, found.mistakes) == (1, 1, ())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no meter"),
        (b"serial,maker\n1,GEN\n", "no column of keys"),
        (b"ek,EK\n1,2\n", "two columns"),
        (bytes(range(128, 256)), "enciphered still"),
        (b"<a", "is no XML"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "no DTD"),
        (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "no DTD"),
        (b"<a>" * (MAX_DEPTH + 1), "deeper than"),
        (b'<?xml version="1.0" encoding="x-nobody"?><a/>', "XML"),
    ],
)
def test_what_is_no_consignment_is_said(content: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_consignment(content)


@given(
    st.one_of(
        st.binary(max_size=400),
        st.tuples(st.integers(0, len(XML) - 1), st.binary(max_size=6)).map(
            lambda cut: XML.encode()[: cut[0]] + cut[1] + XML.encode()[cut[0] :]
        ),
        st.tuples(st.integers(0, len(CSV) - 1), st.binary(max_size=6)).map(
            lambda cut: CSV.encode()[: cut[0]] + cut[1] + CSV.encode()[cut[0] + 1 :]
        ),
    )
)
def test_no_octets_raise_anything_but_usage_errors(octets: bytes) -> None:
    with suppress(UsageError):
        read_consignment(octets)
    with suppress(UsageError):
        open_salted(octets, passphrase=b"p", rounds=1)
    with suppress(UsageError):
        open_cms(octets, certificate=octets, private_key=octets, passphrase=None)


# ---- how it comes


@pytest.fixture(scope="module")
def utility(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The utility's certificate and private key, as PEM files."""
    folder = tmp_path_factory.mktemp("utility")
    certificate, private = cms_recipient()
    (folder / "crt.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(private)
    return folder / "crt.pem", folder / "key.pem"


def openssl(*arguments: object, given: bytes) -> bytes:
    return subprocess.run(
        ["openssl", *map(str, arguments)], input=given, capture_output=True, check=True
    ).stdout


@pytest.mark.parametrize("form", ["DER", "PEM"])
def test_cms_as_openssl_writes_it(utility: tuple[Path, Path], form: str) -> None:
    certificate, key = utility
    made = openssl("cms", "-encrypt", "-binary", "-aes256", "-outform", form, certificate, given=CSV.encode())
    assert is_cms(made)
    shown, private = certificate.read_bytes(), key.read_bytes()
    opened = open_cms(made, certificate=shown, private_key=private, passphrase=None)
    assert opened == CSV.encode()
    for wrong in (made[:-30], b"\x30" + made[1:200]):
        with pytest.raises(UsageError):
            open_cms(wrong, certificate=shown, private_key=private, passphrase=None)


def test_a_file_of_openssl_enc() -> None:
    made = openssl(
        "enc", "-aes-256-cbc", "-pbkdf2", "-iter", "5000", "-pass", "pass:words", given=CSV.encode()
    )
    assert open_salted(made, passphrase=b"words", rounds=5000) == CSV.encode()
    for passphrase, rounds in ((b"words", 4999), (b"other", 5000)):
        with suppress(UsageError):  # without a tag one try in 256 ends in noise, which is no consignment
            read_consignment(open_salted(made, passphrase=passphrase, rounds=rounds))
            pytest.fail("opened with a wrong passphrase")


def test_keys_that_are_wrapped_one_by_one() -> None:
    transport = b"T" * 32
    wrapped = {name: keywrap.aes_key_wrap(transport, bytes.fromhex(name)).hex() for name in (EK, AK)}
    text = f"serial,maker,ek,ak\n1,GEN,{wrapped[EK]},{wrapped[AK]}\n2,GEN,{wrapped[EK]},{EK}\n"
    found = read_consignment(text.encode(), unwrap=unwrapper(transport))
    (one,) = found.meters
    assert one.keys["48/encryption"].hex().upper() == EK
    (mistake,) = found.mistakes
    assert (mistake.line, mistake.problem) == (3, "authentication: does not open under the transport key")
    with pytest.raises(UsageError, match="16, 24 or 32"):
        unwrapper(b"short")
