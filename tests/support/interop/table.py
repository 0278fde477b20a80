"""The combinations that are tried with foreign peers, and `docs/interop.md` made of them.

`python -m tests.support.interop.table` writes it; a test fails when it is not what is in the tree. A cell says "tested"
only where `limit` gives no reason against it, and each test of a case must bring a result for all such cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from protocols.session import Auth, Protection

PLAIN = "plain"


class Peer(StrEnum):
    """Who is at the other end."""

    GURUX_CLIENT = "gurux-client"
    GURUX_METER = "gurux-meter"
    COSEM_CLIENT = "cosem-client"


class Service(StrEnum):
    """What a case is tried with: a column each. The values name the steps of the peers' scripts."""

    ASSOCIATE = "associate"
    GET = "get"
    RANGE = "blocks_by_range"
    ENTRIES = "entries"
    LIST = "get_list"
    SET = "set"
    SET_LIST = "set_list"
    SET_BLOCKS = "set_blocks"
    ACTION = "action"
    ACTION_BLOCKS = "action_blocks"
    RELEASE = "release"
    CIPHERING = "ciphering"
    WRONG_KEY = "wrong_key"


HEADINGS = {
    Service.ASSOCIATE: "associate",
    Service.GET: "GET",
    Service.RANGE: "range, in blocks",
    Service.ENTRIES: "entries",
    Service.LIST: "GET list",
    Service.SET: "SET (clock)",
    Service.SET_LIST: "SET list",
    Service.SET_BLOCKS: "SET in blocks",
    Service.ACTION: "ACTION (relay)",
    Service.ACTION_BLOCKS: "ACTION in blocks",
    Service.RELEASE: "release",
    Service.CIPHERING: "ciphering, tags",
    Service.WRONG_KEY: "wrong key",
}

GURUX_AUTH = {
    Auth.NONE: "NONE",
    Auth.LLS: "LOW",
    Auth.HLS2: "HIGH",
    Auth.HLS_MD5: "HIGH_MD5",
    Auth.HLS_SHA1: "HIGH_SHA1",
    Auth.HLS_GMAC: "HIGH_GMAC",
    Auth.HLS_SHA256: "HIGH_SHA256",
    Auth.HLS_ECDSA: "HIGH_ECDSA",
}
"""Names of the mechanisms in the peers' scripts."""


@dataclass(frozen=True, slots=True)
class Case:
    """One combination. `form` is how APDUs are ciphered after the association: glo, ded or general."""

    peer: Peer
    framing: str
    auth: Auth
    protection: str
    form: str = "glo"
    general_blocks: bool = False
    address_octets: int = 2
    suite: int = 0

    def __str__(self) -> str:
        parts = [self.framing, self.auth.value, self.protection]
        parts += [] if self.form == "glo" else [self.form]
        parts += ["gbt"] if self.general_blocks else []
        parts += [] if self.address_octets == 2 else [f"address-{self.address_octets}"]
        parts += [f"suite-{self.suite}"] if self.suite else []
        return "-".join(parts)

    @property
    def ciphered(self) -> bool:
        """Say whether the association is ciphered."""
        return self.protection != PLAIN

    @property
    def uses_authentication_key(self) -> bool:
        """HLS-GMAC uses the authentication key even where the rest is plain."""
        return self.auth is Auth.HLS_GMAC or "authenticated" in self.protection

    @property
    def services(self) -> list[Service]:
        """What must be tested."""
        return [service for service in Service if limit(self, service) is None]


def _base(peer: Peer) -> Iterator[Case]:
    for framing in ("wrapper", "hdlc"):
        for auth in (one for one in Auth if one is not Auth.HLS_ECDSA):
            for protection in (PLAIN, *Protection):
                yield Case(peer, framing, auth, str(protection))


def _forms(peer: Peer) -> Iterator[Case]:
    strong = str(Protection.AUTHENTICATED_ENCRYPTED)
    for framing in ("wrapper", "hdlc"):
        for form in ("ded", "general-glo", "general-ded"):
            yield Case(peer, framing, Auth.HLS_GMAC, strong, form)
        yield Case(peer, framing, Auth.NONE, PLAIN, general_blocks=True)
        yield Case(peer, framing, Auth.HLS_GMAC, strong, general_blocks=True)
    for octets in (1, 4):
        yield Case(peer, "hdlc", Auth.HLS_GMAC, strong, address_octets=octets)


def _suites(peer: Peer) -> Iterator[Case]:
    strong = str(Protection.AUTHENTICATED_ENCRYPTED)
    for framing in ("wrapper", "hdlc"):
        for suite in (1, 2):
            for form in ("glo", "ded", "general-glo"):
                yield Case(peer, framing, Auth.HLS_GMAC, strong, form, suite=suite)
            yield Case(peer, framing, Auth.HLS_GMAC, str(Protection.AUTHENTICATED), suite=suite)
            yield Case(peer, framing, Auth.HLS2, strong, suite=suite)
            yield Case(peer, framing, Auth.HLS_ECDSA, strong, suite=suite)


def _cosem() -> Iterator[Case]:
    for framing in ("wrapper", "hdlc"):
        for auth in (Auth.NONE, Auth.LLS, Auth.HLS2, Auth.HLS_GMAC):
            if auth is not Auth.HLS_GMAC:  # it ciphers all once it has keys
                yield Case(Peer.COSEM_CLIENT, framing, auth, PLAIN)
            yield Case(
                Peer.COSEM_CLIENT, framing, auth, str(Protection.AUTHENTICATED_ENCRYPTED), "general-glo"
            )


CASES = {
    Peer.GURUX_CLIENT: [*_base(Peer.GURUX_CLIENT), *_forms(Peer.GURUX_CLIENT), *_suites(Peer.GURUX_CLIENT)],
    Peer.GURUX_METER: [*_base(Peer.GURUX_METER), *_forms(Peer.GURUX_METER), *_suites(Peer.GURUX_METER)],
    Peer.COSEM_CLIENT: list(_cosem()),
}

SHORT_NAMES = [
    Case(Peer.GURUX_CLIENT, framing, auth, PLAIN)
    for framing in ("wrapper", "hdlc")
    for auth in (Auth.NONE, Auth.LLS)
]
"""What is read by short names, which has a table of its own."""
BEHIND_A_GATEWAY = [
    Case(Peer.GURUX_CLIENT, "wrapper", Auth.NONE, PLAIN),
    Case(Peer.GURUX_CLIENT, "wrapper", Auth.LLS, PLAIN),
]
"""How meters behind our gateway are read by the prefix."""
ACCESS = [
    Case(Peer.GURUX_CLIENT, framing, auth, protection)
    for framing in ("wrapper", "hdlc")
    for auth, protection in ((Auth.NONE, PLAIN), (Auth.HLS_GMAC, str(Protection.AUTHENTICATED_ENCRYPTED)))
]
"""How attributes are read by the access service."""

_COSEM_LACKS = {Service.ENTRIES, Service.SET_LIST, Service.SET_BLOCKS, Service.ACTION_BLOCKS}


def limit(case: Case, service: Service) -> str | None:
    """Say why a service is not tried in a case; None where it is."""
    if case.auth is Auth.HLS_ECDSA and case.suite == 2:
        return "its own fails"
    if case.peer is Peer.COSEM_CLIENT and service in _COSEM_LACKS:
        return "it has none"
    if case.peer is Peer.GURUX_CLIENT:
        if service is Service.SET_LIST:
            return "its own fails"
        if service is Service.ACTION_BLOCKS and case.general_blocks:
            return "it loses count"
    if service is Service.CIPHERING and not case.ciphered:
        return "plain"
    if service is Service.WRONG_KEY and not case.uses_authentication_key:
        return "no tags"
    return None


# the document

_HEAD = """<!-- Generated by `python -m tests.support.interop.table` from the tests; do not edit. -->

# Interoperability

Our DLMS stack against two others, each in a process of its own, over TCP sockets on loopback. Each line is a
combination that `tests/interop` tries; "tested" means that a test fails when it stops working, other words are the
reason why there is no test. In the columns:

- *GET*: a serial, a register and the clock, one by one. *range, in blocks*: rows of block load between two times, in
  several blocks. *entries*: rows by their number. *GET list*: the first three in one request.
- *SET (clock)* and *ACTION (relay)* change the meter, which is looked at afterwards. *SET list*: two values in one
  request. *in blocks*: a value that needs several blocks to the meter, and for ACTION back as well.
- *release*: RLRQ and RLRE, where there is ciphering once with a ciphered Initiate inside. Our meter then serves nothing
  any more.
- *ciphering, tags*: gurux-dlms checks no authentication tags where it also deciphers. All recorded APDUs of both
  sides are therefore opened once more by `tests/support/interop/wire.py` (`cryptography` alone, nothing of our stack):
  tags are right, the security control is the agreed one, invocation counters rise, nothing that should be ciphered is
  plain. That our stack checks the tags of the others shows in *wrong key*.
- *wrong key*: our meter refuses a client that has another authentication key; our client refuses a meter that
  understands it, but answers under another authentication key.

Suite 0 is meant where no suite is named. In HLS-ECDSA both sides know each other's public key beforehand.

"glo" is ciphering with the global key in the form of each service, "ded" with a dedicated key, "general" in the
general form.
"""

_SECTIONS = {
    Peer.GURUX_CLIENT: """
## gurux-dlms 1.0.203, its client, with our meter

What was found in it, and is mended or avoided in `tests/support/interop/peer/gurux_client.py`:

- It cannot acknowledge a block of general block transfer: it asks its settings for a number that they do not have.
  The number is supplied.
- From the third block of a long request in general block transfer it acknowledges block 65,535, which our meter
  refuses, since no such block was sent. Requests are tried with two blocks, answers on the wrapper with a window of
  three.
- After a long request in general block transfer it expects the answer to acknowledge nothing, and passes over a long
  answer's blocks that acknowledge what it sent ("it loses count").
- Its SET of a list (`writeList`) asks its arguments for a type that they do not have ("its own fails").
- Passes 3 and 4 of HLS are ciphered with the global key where a dedicated one was agreed. Ours does the same.
- Under suite 2 it signs nothing: it takes each key for one of P-256, or for none ("its own fails"). What is signed on
  P-384 is tried with published vectors, and with `cryptography`, alone.
- Its general-ciphering does not run (it calls what its classes do not have).

Key transfer (`tests/interop/test_gurux_keys.py`): keys that it wrapped are taken by our meter, all or none.
""",
    Peer.GURUX_METER: """
## Our client with a meter made of gurux-dlms 1.0.203

Its server class does not run as shipped. `tests/support/interop/peer/gurux_server.py` uses its frames, AARQ parser,
ciphering, HLS functions, objects, codec, and its handlers of GET with their splitting into blocks; the dispatcher,
AARE, release, SET and ACTION are the test's. Our client is the real one: `open_session` on a TCP line reads identity,
profile, clock and relay, sets and switches; `Exchange` adds entries, columns, lists and long values, and ends
with a release that carries a ciphered Initiate. In the lines with general block transfer long answers come by it;
long requests go in the blocks of their service, which our client prefers where the meter has them.

Key rotation (`tests/interop/test_gurux_keys.py`): global keys and master key are changed twice, sent, proved by an
association, and in force. Its own unwrap fails (an index is no integer), so that its keys are opened by `cryptography`.
""",
    Peer.COSEM_CLIENT: """
## dlms-cosem 25.1.0, its client, with our meter

It lives in `.venv-peers` (`deploy/setup.sh peers`, which `deploy/setup.sh test` includes), since its pins clash with
ours. It knows no HLS with MD5, SHA-1 or SHA-256, no dedicated key, no protection but both together, general
ciphering only, and no HLS-GMAC without ciphering. Found in it:

- Its HDLC takes a closing flag after an octet 7E for the beginning of another frame and waits for ever. The script
  reads frames by their length.
- In HLS 2 it sends the secret itself as its challenge.
- In HLS-GMAC its proof and the APDU around that use the same invocation counter, so one nonce twice. Our meter
  refuses that, which a test shows; the other tests let its counter rise between the two.
""",
}


_BY_SHORT_NAMES = """
## gurux-dlms 1.0.203, its client, with our meter, by short names

The list of names, three values one by one and in one request, rows by entry. Blocks of a long answer it cannot join (it
calls what its classes do not have), on HDLC it asks for them with a tag of 00, and it makes no ciphered requests. Its
server by short names does not run, so our client is tried with our own meter and with octets of the Green Book.

| framing | authentication | protection | associate | names | READ | entries | READ list | range, in blocks |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


_BEHIND = """
## gurux-dlms 1.0.203, its client, with two meters behind our gateway

Each by the prefix E6 and E7 with a network and an address of several octets, on one wPort. Ciphered requests it sends
without the prefix; a served gateway it does not have.

| framing | authentication | protection | associate | GET | GET list |
| --- | --- | --- | --- | --- | --- |
"""


_ACCESS = """
## gurux-dlms 1.0.203, its client, with our meter, by the access service

Three values and one that there is not, in one access-request; ciphered in the general form. Its server has no access
service, so our client is tried with our own meter and with the Green Book's request.

| framing | authentication | protection | associate | ACCESS |
| --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class PushCase:
    """One push that gurux-dlms writes and we take."""

    framing: str
    ciphered: bool = False
    blocks: bool = False

    def __str__(self) -> str:
        return f"{self.framing}{' ciphered' * self.ciphered}{' in blocks' * self.blocks}"


PUSHES = (
    PushCase("wrapper"),
    PushCase("wrapper", ciphered=True),
    PushCase("wrapper", blocks=True),
    PushCase("wrapper", ciphered=True, blocks=True),
    PushCase("hdlc"),
    PushCase("hdlc", ciphered=True),
    PushCase("hdlc", blocks=True),
)
_PUSHES = """
## Pushes of gurux-dlms

Its push client writes a self-described push (object list, serial, registers with scaler and unit); our receiver takes
it by the companion `spodes`, with the values and scales that were pushed.

| framing | protection | general block transfer | object list | values, scales | header time |
|---|---|---|---|---|---|
"""


def _push_row(case: PushCase) -> str:
    protection = "authenticated-encrypted, general-glo" if case.ciphered else PLAIN
    cells = [case.framing, protection, "tested" if case.blocks else "—", *["tested"] * 3]
    return "| " + " | ".join(cells) + " |\n"


IMAGES = ("wrapper", "hdlc")
"""Framings over which gurux-dlms brings a firmware image into our meter."""
IMAGE_METERS = [
    Case(Peer.GURUX_METER, framing, auth, protection, suite=suite)
    for framing in IMAGES
    for auth, protection, suite in (
        (Auth.LLS, PLAIN, 0),
        (Auth.HLS_GMAC, str(Protection.AUTHENTICATED_ENCRYPTED), 0),
        (Auth.HLS_GMAC, str(Protection.AUTHENTICATED_ENCRYPTED), 2),
    )
]
"""How our client brings an image into a meter of gurux-dlms."""
_IMAGES = """
## Firmware images with gurux-dlms

Its client brings an image into our simulated meter: enabled, initiated, sent in blocks, verified, activated; it reads
each attribute of class 18 on the way. What its object encodes is read by our client, and what our client sends is read
by it.

| framing | its client, our meter | its object, our client: attributes 2 to 7 | our client, its parser: methods 1 to 4 |
|---|---|---|---|
"""


_IMAGE_METERS = """
Our upgrade brings an image into a meter made of gurux-dlms, in two visits, the second from the first missing block on.
Its `invoke` does not run in 1.0.203 (it takes an integer for an object of Java): the test's runs in its place, on
gurux's object, whose values are gurux's.

| framing | authentication | protection | sent, resumed | verified, named | activated, version read |
|---|---|---|---|---|---|
"""


CERTIFICATES = [
    Case(Peer.GURUX_CLIENT, framing, Auth.HLS_GMAC, str(Protection.AUTHENTICATED_ENCRYPTED), suite=1)
    for framing in IMAGES
]
"""How a client of gurux-dlms works on the certificates of our meter."""
_CERTIFICATES = """
## Certificates with gurux-dlms

Its client lets our meter make a key pair, takes its certificate request (and reads it), imports the certificate, reads
the list, and exports it by its serial number. It cannot remove one (it takes octets for text) nor read one (it
writes into octets that cannot be written), knows P-256 alone, and has no such methods as a meter.

| framing | authentication | protection | key pair, request | import, list | export |
|---|---|---|---|---|---|
"""


LISTED = (
    ("idis", "client 1, hls-gmac", "authenticated-encrypted, glo"),
    ("spodes", "client 32, lls", "plain"),
)
_LISTED = """
## Public object lists of IDIS and SPODES

A meter made of gurux-dlms with the objects of a public list is read by the companion of that name: load, daily and
billing profiles by range, the present (of SPODES by its profile and scaler profile), and every event log.

| companion | association | protection | wrapper | hdlc |
|---|---|---|---|---|
"""


def document() -> str:
    """Give `docs/interop.md`."""
    tables = "".join(text + "\n" + _table(CASES[peer]) for peer, text in _SECTIONS.items())
    return (
        _HEAD
        + tables
        + _BY_SHORT_NAMES
        + "".join(map(_short_row, SHORT_NAMES))
        + _BEHIND
        + _rows(BEHIND_A_GATEWAY, 3)
        + _ACCESS
        + _rows(ACCESS, 2)
        + _PUSHES
        + "".join(map(_push_row, PUSHES))
        + _IMAGES
        + "".join(f"| {framing} | tested | tested | tested |\n" for framing in IMAGES)
        + _IMAGE_METERS
        + "".join("| " + " | ".join([*_row(case)[:3], *["tested"] * 3]) + " |\n" for case in IMAGE_METERS)
        + _CERTIFICATES
        + "".join("| " + " | ".join([*_row(case)[:3], *["tested"] * 3]) + " |\n" for case in CERTIFICATES)
        + _LISTED
        + "".join("| " + " | ".join([*row, "tested", "tested"]) + " |\n" for row in LISTED)
    )


def _rows(cases: list[Case], tested: int) -> str:
    rows = ([case.framing, case.auth.value, case.protection, *["tested"] * tested] for case in cases)
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _short_row(case: Case) -> str:
    cells = [case.framing, case.auth.value, case.protection, *["tested"] * 5, "its own fails"]
    return "| " + " | ".join(cells) + " |\n"


def _table(cases: list[Case]) -> str:
    head = ["framing", "authentication", "protection", *(HEADINGS[service] for service in Service)]
    lines = [head, ["---"] * len(head), *map(_row, cases)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _row(case: Case) -> list[str]:
    framing = case.framing
    if case.address_octets != 2:
        framing += f", address of {case.address_octets} octet{'s'[: case.address_octets - 1]}"
    if case.general_blocks:
        framing += ", general block transfer"
    protection = f"{case.protection}, {case.form}" if case.ciphered else case.protection
    protection += f", suite {case.suite}" if case.suite else ""
    cells = [limit(case, service) or "tested" for service in Service]
    return [framing, case.auth.value, protection, *cells]


if __name__ == "__main__":
    Path("docs/interop.md").write_text(document(), encoding="utf-8")
