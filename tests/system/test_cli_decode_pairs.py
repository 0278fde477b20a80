"""`decode` with a key file of suite 1: agreed keys, signatures and proofs."""

from __future__ import annotations

from pathlib import Path

from protocols.dlms.security import curves
from tests.support.cli import Cli
from tests.support.dlms.bench import AGREERS, AK, EK, GENERAL_POLICIES, SIGNERS, Joined, SmallMeter


def test_a_key_file_of_suite_1_opens_agreed_keys_and_checks_signatures(cli: Cli, tmp_path: Path) -> None:
    policy, settings = GENERAL_POLICIES["suite-1-agreed-signed"]
    both = Joined(SmallMeter({48: policy}), settings)
    both.associate()
    both.get(1, "0-0:96.1.0*255")
    wire = b"".join(part for pair in zip(both.to_server, both.to_client, strict=True) for part in pair)
    trace, keys = tmp_path / "wire.bin", tmp_path / "keys.toml"
    trace.write_bytes(wire)
    private = {
        "signing_key": SIGNERS[1, "client"],
        "agreement_key": AGREERS[1, "client"],
    }
    public = {"meter_signing": SIGNERS[1, "meter"], "meter_agreement": AGREERS[1, "meter"]}
    lines = [f'encryption_key = "{EK.hex()}"', f'authentication_key = "{AK.hex()}"']
    lines += [
        f'{name} = "hex:{key.private_numbers().private_value.to_bytes(32, "big").hex()}"'
        for name, key in private.items()
    ]
    lines += [
        f'{name} = "hex:{curves.public_octets(key.public_key()).hex()}"' for name, key in public.items()
    ]
    keys.write_text("\n".join(lines))
    keys.chmod(0o600)
    said = cli("decode", trace, "--key-file", keys).out
    assert "signature of the ephemeral key: right" in said
    assert "signature: right" in said
    assert "wrong" not in said
    for key in private.values():
        assert key.private_numbers().private_value.to_bytes(32, "big").hex() not in said.lower()
