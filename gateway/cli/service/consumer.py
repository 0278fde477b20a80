"""The smallest example of what billing must do: take deliveries, apply the consumer's rule, print the account."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from time import monotonic

from gateway.cli.service.history import AGAIN, HistoryWalk
from gateway.contract.batches import parse_sound
from gateway.contract.consumer_rule import ConsumerState
from gateway.contract.envelope import parse, parse_change, wrap
from gateway.contract.messages import (
    Ack,
    AllocationChanged,
    AttributionChanged,
    Batch,
    Capture,
    CaptureValue,
    HistoryAnswer,
    NamingChanged,
    Status,
    TimeVerdict,
    rfc3339,
)
from gateway.contract.replay import ReplayPlanner
from gateway.contract.topics import TopicKind, Topics
from gateway.errors import NOT_TAKEN, ContractError
from gateway.mqtt.client import MqttMessage
from gateway.mqtt.connection import MqttConnection, MqttSettings, connect
from gateway.seqset import SeqSet

PACE = 0.5
"""Seconds between looks at what to acknowledge and what to ask for again."""
MAX_CAPTURES = 200_000
"""Captures in memory; a real consumer keeps them in tables. Beyond, the example begins anew."""
_TOPICS = (
    TopicKind.READINGS,
    TopicKind.EVENTS,
    TopicKind.GAPS,
    TopicKind.STATUS,
    TopicKind.ATTRIBUTIONS,
    TopicKind.VERDICTS,
)

Out = Callable[[str], None]


class Consumer:
    """Applies deliveries to a ConsumerState and prints each in one line by `out`; does no I/O of its own."""

    def __init__(self, out: Out, name: str) -> None:
        self.state = ConsumerState()
        self.gateways: dict[str, str] = {}
        self.acked: dict[str, int] = {}
        self.planner = ReplayPlanner(consumer=name)
        self._newest: dict[str, str] = {}
        self._meters_of: dict[str, set[str]] = {}
        self._out = out
        self._name = name

    def take(self, topics: Topics, topic: str, payload: bytes) -> None:
        """Take one message; one that breaks the contract is printed and passed over, so that it never blocks."""
        try:
            kind = topics.parse(topic).kind
            if kind is TopicKind.ATTRIBUTIONS:
                self._take_change(parse_change(payload).data)
            elif kind is TopicKind.VERDICTS:
                self._take_verdict(parse(payload, TimeVerdict).data)
            elif kind is TopicKind.STATUS:
                self._take_status(parse(payload, Status).data)
            else:
                parsed, refused = parse_sound(payload)
                for one in refused:  # a hole in the numbers, which is asked for again
                    self._out(f"refused   {topic}: entry {one.seq}: {one.detail}")
                self._take_batch(parsed.data)
        except ContractError as error:
            self._out(f"refused   {topic}: {error}")

    def _take_batch(self, batch: Batch) -> None:
        if batch.journal not in self.gateways:
            # A listener begins here; what was delivered before it came is not its hole.
            seqs = self.state.journals.setdefault(batch.journal, SeqSet())
            seqs.gone_below(batch.first_seq)
        self.gateways[batch.journal] = batch.gateway
        # Before the rule is applied: afterwards a revision looks like any reading.
        kinds = {capture.seq: self._kind_of(capture) for capture in batch.captures}
        self.state.apply(batch)
        for capture in batch.captures:
            kind = kinds[capture.seq]
            if capture.capture_id not in self.state.captures:
                self._out(f"not its   {batch.gateway}: {capture.capture_id}")
                continue
            self._newest[capture.meter] = capture.capture_id
            shown = capture if kind == "conflict" else self.state.dated(capture.capture_id)
            self._out(f"{kind:<9} {self._line(shown)}")
        for gap in batch.gaps:
            span = f"{rfc3339(gap.after)} .. {rfc3339(gap.until)}"
            self._out(f"gap       {gap.meter} {gap.profile} {span} {gap.state}: {gap.reason}")
        if len(self.state.captures) > MAX_CAPTURES:
            self.state = ConsumerState(journals=self.state.journals)
            self._newest.clear()
            self._out(f"forgot    more than {MAX_CAPTURES} captures: the example begins anew")

    def _kind_of(self, capture: Capture) -> str:
        known = self.state.captures.get(capture.capture_id)
        if known is None:
            return "reading"
        rank, held = (capture.epoch, capture.value_rev), (known.epoch, known.value_rev)
        if rank > held:
            return "revision"
        return "conflict" if rank == held and capture.values != known.values else "repeat"

    def _take_change(self, change: AttributionChanged | NamingChanged | AllocationChanged) -> None:
        self.state.apply_change(change)
        if isinstance(change, AllocationChanged):
            until = "open" if change.until is None else rfc3339(change.until)
            self._out(f"read by   {change.meter} {rfc3339(change.since)} .. {until}: {change.gateway}")
            return
        if isinstance(change, NamingChanged):
            names = f"{change.old or '-'} -> {change.new or '-'}"
            self._out(f"naming    {change.account_id}: {change.kind} {names}")
            self._print_owners(self._meters_of.get(change.account_id, ()))
            return
        old, new = (" + ".join(a.account_id for a in side) or "nobody" for side in (change.old, change.new))
        since = "ever" if change.since is None else rfc3339(change.since)
        until = "open" if change.until is None else rfc3339(change.until)
        self._out(f"belongs   {change.meter} {since} .. {until}: {old} -> {new}")
        self._print_owners((change.meter,))

    def _take_verdict(self, verdict: TimeVerdict) -> None:
        self.state.apply_verdict(verdict)
        shift = "" if verdict.shift is None else f" by {verdict.shift} s"
        numbers = f"{verdict.first_seq}..{verdict.last_seq} of journal {verdict.journal}"
        self._out(f"judged    {verdict.meter} {numbers}: {verdict.trust}{shift}")
        self._print_owners((verdict.meter,))

    def _print_owners(self, meters: Iterable[str]) -> None:
        """Print the newest reading of each meter, which stands under another name now, though it is not sent again."""
        for meter in sorted(meters):
            if self._newest.get(meter) in self.state.captures:
                self._out(f"now       {self._line(self.state.dated(self._newest[meter]))}")

    def _take_status(self, status: Status) -> None:
        word = "online" if status.online else "offline"
        self._out(
            f"status    {status.gateway} {word}, journal at {status.last_seq}, backlog {status.backlog}"
        )

    def _line(self, capture: Capture) -> str:
        resolved = self.state.attribution(capture.capture_id)
        for account in resolved.accounts:
            self._meters_of.setdefault(account.account_id, set()).add(capture.meter)
        owners = [f"{a.account_number or a.account_id} ({a.role})" for a in resolved.accounts]
        whose = " + ".join(owners) or f"no account ({resolved.reason})"
        values = ", ".join(f"{v.name} {_text(v)}" for v in capture.values[:3])
        more = ", …" if len(capture.values) > 3 else ""
        return f"{whose}  {capture.meter} {capture.profile} {rfc3339(capture.at)}  {values}{more}"

    def acks(self) -> list[Ack]:
        """Return the acknowledgements that are due: everything up to and with `seq` is taken."""
        due = []
        for journal, seqs in self.state.journals.items():
            if seqs.contiguous > self.acked.get(journal, 0):
                self.acked[journal] = seqs.contiguous
                due.append(Ack(journal=journal, seq=seqs.contiguous, consumer=self._name))
        return due

    def note_holes(self, now: float) -> None:
        """Tell the planner of replays what is missing now."""
        for journal, seqs in self.state.journals.items():
            self.planner.note(journal, seqs.contiguous, tuple(seqs.holes()), now)


async def listen(
    settings: MqttSettings,
    root: str,
    out: Out,
    *,
    ack: bool = False,
    walk: HistoryWalk | None = None,
    password: bytes | None = None,
) -> None:
    """Print deliveries until cancelled; `ack` acknowledges them to the edges as billing would.

    With a `walk` what was before is asked of central, too: PeerRefusedData when it refuses. A real consumer stores
    durably before it acknowledges; this one only prints. PeerError when the broker cannot be reached or ends the
    connection.
    """
    topics = Topics(root)
    consumer = Consumer(out, settings.username or settings.client_id)  # the access rules go by the login
    async with connect(settings, password=password) as connection:
        await connection.subscribe(*(topics.filter(kind) for kind in _TOPICS))
        out(f"listening {topics.base} on {connection.broker}")
        tasks = [asyncio.create_task(_answer(connection, topics, consumer, ack))]
        asking = asyncio.Event()
        if walk is not None:
            own = topics.history(walk.request.consumer)
            kinds = (TopicKind.READINGS, TopicKind.EVENTS, TopicKind.ATTRIBUTIONS, TopicKind.VERDICTS)
            await connection.subscribe(
                *(own.filter(kind) for kind in kinds), topics.history_answer(walk.request.consumer)
            )
            tasks.append(asyncio.create_task(_ask(connection, topics, walk, asking, out)))
        try:
            async for message in connection.messages():
                if walk is not None and message.topic.startswith(f"{own.base}/"):
                    _take_history(consumer, own, walk, message, out)
                    asking.set()
                else:
                    consumer.take(topics, message.topic, message.payload)
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)


def _take_history(consumer: Consumer, own: Topics, walk: HistoryWalk, message: MqttMessage, out: Out) -> None:
    """Take a message of those that central sends to this consumer alone."""
    if own.parse(message.topic).kind is not TopicKind.HISTORY_ANSWER:
        consumer.take(own, message.topic, message.payload)
        walk.heard(json.loads(message.payload)["id"])
        return
    was_done = walk.done
    for one in walk.answered(parse(message.payload, HistoryAnswer).data):
        consumer.gateways[one.journal] = one.gateway
        consumer.state.journals.setdefault(one.journal, SeqSet()).gone_below(one.seq + 1)
    if walk.done and not was_done:
        out(f"caught up {walk.pages} pages, {len(consumer.state.captures)} captures")


async def _ask(
    connection: MqttConnection, topics: Topics, walk: HistoryWalk, asking: asyncio.Event, out: Out
) -> None:
    """Ask for each page until it has come, then for the next."""
    sent = None
    while not walk.done:
        if walk.request != sent or not asking.is_set():  # the next page, or nothing was heard for long
            sent, now = walk.request, datetime.now(UTC)
            identity = f"{sent.consumer}/{sent.request}/{walk.pages}"
            payload = wrap(sent, id=identity, source=f"/consumers/{sent.consumer}", time=now)
            try:
                await connection.publish(topics.history_request(sent.consumer), payload)
            except NOT_TAKEN as error:
                out(f"refused   the broker does not let {sent.consumer} ask for what was before: {error}")
                return
        asking.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN):
                await asking.wait()


async def _answer(connection: MqttConnection, topics: Topics, consumer: Consumer, ack: bool) -> None:
    source = f"/consumers/{consumer.planner.consumer}"
    while True:
        await asyncio.sleep(PACE)
        now = datetime.now(UTC)
        for taken in consumer.acks() if ack else ():
            identity = f"{taken.consumer}/{taken.journal}/{taken.seq}"
            payload = wrap(taken, id=identity, source=source, time=now)
            await connection.publish(topics.acks(consumer.gateways[taken.journal], taken.consumer), payload)
        consumer.note_holes(monotonic())
        for wanted in consumer.planner.due(monotonic()):
            identity = f"{wanted.consumer}/{wanted.journal}/{wanted.first}-{wanted.last}"
            payload = wrap(wanted, id=identity, source=source, time=now)
            await connection.publish(
                topics.replay(consumer.gateways[wanted.journal], wanted.consumer), payload
            )


def _text(value: CaptureValue) -> str:
    if value.missing is not None:
        return f"missing ({value.missing})"
    text = value.value or value.text or value.bits or ""
    if value.instant is not None:
        text = rfc3339(value.instant)
    return f"{text} {value.unit}" if value.unit else text
