"""The edge's side of the directory: asking central for its part, and taking what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from gateway.backoff import Backoff
from gateway.contract.envelope import MAX_DIRECTORY_MESSAGE, parse, wrap
from gateway.contract.messages import DirectoryRequest, Signed
from gateway.contract.messages.texts import gateway_source
from gateway.contract.topics import Topics
from gateway.edge.stamping.stored_part import DirectoryHole, HeldPart, StoredPart
from gateway.errors import ContractError, GatewayError
from gateway.mqtt.connection import MqttConnection
from mapping.errors import MappingError
from protocols.session import Clock

ASK_FIRST, ASK_MOST = 30.0, 600.0
"""Seconds after which an unanswered request is repeated, growing to the longest."""
ASK_ANYWAY = 3_600.0
"""Seconds after which is asked all the same: nothing tells of a part that a broker's node lost as it fell."""
ASK_CALM = 5.0
"""Least seconds between a request and the next that a bad answer causes."""


class PartRequests:
    """Keeps this gateway's part of the directory up to date.

    `apply` takes what the edge knows with a verified part; when it raises MappingError or GatewayError the part is
    not stored, and a snapshot is asked for.
    """

    def __init__(
        self,
        gateway: str,
        *,
        root: str,
        stored: StoredPart,
        apply: Callable[[HeldPart], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._gateway = gateway
        self._topics = Topics(root)
        self._stored = stored
        self._apply = apply
        self._clock = clock
        self._ask_now = asyncio.Event()
        self._want_snapshot = False
        self._from_nothing = False
        self._asked_at = -ASK_CALM
        self._answered = False

    @property
    def version(self) -> int:
        """The version that is applied and stored; 0 before the first."""
        return self._stored.held.version

    def begin_anew(self) -> None:
        """Ask as a box that has nothing until `begun`: central then tells all that it knows of this gateway."""
        self._from_nothing = True
        self._ask_now.set()

    def begun(self) -> None:
        """Ask no more as a box that has nothing: all that central knows has come."""
        self._from_nothing = False

    async def load(self) -> None:
        """Apply what is stored, so that the edge stamps before it reaches central.

        A stored part that can no longer be applied (another version of the program wrote it) raises
        MappingError or GatewayError; a snapshot is then asked for, and nothing else is taken.
        """
        held = await asyncio.to_thread(self._stored.load)
        if held is None:
            return
        try:
            await self._apply(held)
        except (MappingError, GatewayError):
            self._stored.expect_snapshot()
            self._want_snapshot = True
            raise

    async def take(self, payload: bytes) -> None:
        """Verify a chunk of a part, apply and store a part that is whole; ContractError says why it was not taken."""
        jws = parse(payload, Signed, limit=MAX_DIRECTORY_MESSAGE).data.jws
        try:
            checked = await asyncio.to_thread(self._stored.check, jws)
        except DirectoryHole:
            self._ask_again(snapshot=self._stored.full)
            raise
        except MappingError as error:
            self._ask_again(snapshot=True)
            raise ContractError(f"$.rows: the directory part does not fit ours: {error}") from error
        if checked is None:
            return
        try:
            # Applied before it is stored: what cannot be applied must not come back at the next start. A
            # crash between the two leaves an older part on the disk, and central is asked anyway.
            await self._apply(checked.held)
            await asyncio.to_thread(self._stored.store, checked)
        except (MappingError, GatewayError, OSError) as error:
            self._ask_again(snapshot=True)
            raise ContractError(f"$.rows: the directory part cannot be applied: {error}") from error
        self._answered = True

    async def ask(self, connection: MqttConnection) -> None:
        """Ask when the connection opens, after a part that could not be taken, and while nobody answers.

        Goes on until the connection ends, which raises PeerError.
        """
        self._answered = False
        backoff = Backoff(ASK_FIRST, ASK_MOST)
        while True:
            self._ask_now.clear()
            whole = self._want_snapshot or self._from_nothing or self._stored.full
            held = HeldPart() if whole else self._stored.held
            self._want_snapshot = False
            request = DirectoryRequest(gateway=self._gateway, have_version=held.version, number=held.number)
            self._asked_at = monotonic()
            payload = wrap(
                request,
                id=f"{self._gateway}/directory/{int(self._asked_at * 1000)}/{held.number}",
                source=gateway_source(self._gateway),
                time=self._clock.now(),
            )
            await connection.offer(self._topics.directory_request(self._gateway), payload)
            await self._until_due(backoff)

    async def _until_due(self, backoff: Backoff) -> None:
        while True:
            try:
                async with asyncio.timeout(backoff.next()):
                    await self._ask_now.wait()
            except TimeoutError:
                lately = monotonic() - self._asked_at < ASK_ANYWAY
                if self._answered and lately and not self._from_nothing:
                    continue  # nothing to ask for until something is wrong
            return

    def _ask_again(self, *, snapshot: bool) -> None:
        """Ask at once unless we asked a moment ago; then the timer does, lest two sides drive each other."""
        self._answered = False
        self._want_snapshot = self._want_snapshot or snapshot
        if monotonic() - self._asked_at > ASK_CALM:
            self._ask_now.set()
