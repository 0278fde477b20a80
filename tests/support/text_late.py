"""A consumer that joins late, written from "Joining late" of docs/billing.md alone, on top of the text consumer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gateway.mqtt.connection import MqttConnection, MqttSettings, connect
from tests.support.text_consumer import TextConsumer

Json = dict[str, Any]
LIVE = ("+/readings/+", "+/events", "+/gaps", "attributions", "verdicts")
OWN = ("+/readings/+", "+/events", "attributions", "verdicts", "answer")
SILENCE = 1.0
"""Seconds without an answer after which it asks again."""


class LateConsumer:
    """Hears what goes on, and asks central for what was before."""

    def __init__(self, connection: MqttConnection, name: str, base: str) -> None:
        self.consumer = TextConsumer()
        self.pages = 0
        self.repeats = 0
        self.drop: Callable[[str, Json], bool] = lambda _topic, _message: False
        self.rest_at: int | None = None
        """Page after which it asks for no more until `goes_on`."""
        self.goes_on = asyncio.Event()
        self.hearing: asyncio.Task[None] | None = None
        self._connection = connection
        self._name = name
        self._base = base
        self._own = f"{base}/history/{name}/"
        self._heard: set[str] = set()
        self._answers: asyncio.Queue[Json] = asyncio.Queue()

    async def hear(self) -> None:
        """Take what comes, for ever."""
        async for message in self._connection.messages():
            content = json.loads(message.payload)
            if message.topic == f"{self._own}answer":
                self._answers.put_nowait(content["data"])
            elif not self.drop(message.topic, content):
                self._heard.add(content["id"])
                self.consumer.take(content)

    async def catch_up(self, **wanted: Any) -> None:
        """Ask for everything, page by page; then what was before counts as come."""
        journals = await self.ask("journals", what="journals")
        await self.ask("everything", what="readings", **wanted)
        for one in journals:
            self.consumer.came.setdefault(one["journal"], set()).update(range(1, one["seq"] + 1))

    async def ask(self, request: str, **wanted: Any) -> list[Json]:
        """Ask until there is no next page; return the journals that were told."""
        after: Json = {}
        journals: list[Json] = []
        while True:
            answer = await self.page({"consumer": self._name, "request": request, **wanted, **after})
            assert "refused" not in answer, answer["refused"]
            if not set(answer.get("messages", [])) <= self._heard:
                self.repeats += 1
                continue
            self.pages += 1
            journals += answer.get("journals", [])
            if "after" not in answer:
                return journals
            after = {"after": answer["after"]}
            if self.pages == self.rest_at:
                await self.goes_on.wait()

    async def page(self, wanted: Json) -> Json:
        """Ask until there is an answer; return it."""
        while not self._answers.empty():
            self._answers.get_nowait()
        while True:
            envelope = {
                "specversion": "1.0",
                "id": f"{self._name}/{wanted['request']}/{self.pages}/{self.repeats}",
                "source": f"/{self._name}",
                "type": "meter-gateway.history.request.v2",
                "time": "2026-11-24T07:00:00Z",
                "datacontenttype": "application/json",
                "data": wanted,
            }
            await self._connection.publish(f"{self._own}request", json.dumps(envelope).encode())
            try:
                async with asyncio.timeout(SILENCE):
                    while True:
                        answer = await self._answers.get()
                        if answer["request"] == wanted["request"]:
                            return answer
            except TimeoutError:
                self.repeats += 1
                assert self.hearing is None or not self.hearing.done(), "it hears no more"


@asynccontextmanager
async def late_consumer(port: int, name: str, root: str) -> AsyncIterator[LateConsumer]:
    """A late consumer that is connected under its own name and hears what goes on."""
    settings = MqttSettings(port=port, client_id=name, username=name, root=root, session_expiry=600)
    base = f"{root}/v2"
    async with connect(settings) as connection:
        made = LateConsumer(connection, name, base)
        hearing = asyncio.create_task(made.hear())
        made.hearing = hearing
        own = [f"history/{name}/{topic}" for topic in OWN]
        await connection.subscribe(*(f"{base}/{topic}" for topic in (*LIVE, *own)))
        try:
            yield made
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
