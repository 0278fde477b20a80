"""Starts real VictoriaMetrics and InfluxDB 1.6 on loopback, and a proxy that gives 1.6 the v2 write path."""

from __future__ import annotations

import http.client
import json
import shlex
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support import services
from tests.support.paths import DEPLOY
from tests.support.waiting import PATIENCE, wait_until


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def get(url: str, **query: str) -> str:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=5) as answer:
        return str(answer.read(), "utf-8")


def _wait_answering(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def answers() -> bool:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            return False
        return True

    wait_until(lambda: answers() or process.poll() is not None, f"{url} answers")
    if process.poll() is not None:
        raise RuntimeError(f"{url} does not answer:\n{log.read_text()[-2000:]}")


@dataclass
class Server:
    """A server that can be stopped and started again on the same port and data."""

    command: list[str]
    url: str
    alive: str
    log: Path
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(self.command, stdout=out, stderr=subprocess.STDOUT)
        _wait_answering(self.url + self.alive, self._process, self.log)
        return self

    def stop(self) -> None:
        """End it in good order, so that what it has taken is kept."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def victoria_server(folder: Path) -> Server:
    """A VictoriaMetrics as we ship it."""
    port = free_port()
    shipped = (DEPLOY / "victoria-metrics.default").read_text(encoding="utf-8")
    (text,) = (line for line in shipped.splitlines() if line.startswith("ARGS="))
    flags = dict(flag.split("=", 1) for flag in shlex.split(text.removeprefix("ARGS="))[0].split())
    flags |= {
        "-httpListenAddr": f"127.0.0.1:{port}",
        "-storageDataPath": str(folder / "vm"),
        "-memory.allowedPercent": "10",
    }
    command = [
        services.program("influx", "victoria-metrics", "victoria-metrics"),
        *(f"{name}={value}" for name, value in flags.items()),
    ]
    return Server(command, f"http://127.0.0.1:{port}", "/health", folder / "vm.log")


@contextmanager
def victoria_metrics(folder: Path) -> Iterator[str]:
    """A running VictoriaMetrics; gives its URL."""
    with victoria_server(folder) as server:
        yield server.url


def influx_server(folder: Path) -> Server:
    """An InfluxDB 1.6 as we ship it."""
    port, rpc = free_port(), free_port()
    config = folder / "influxdb.conf"
    text = (DEPLOY / "influxdb.conf").read_text(encoding="utf-8")
    text = text.replace("/var/lib/influxdb", str(folder)).replace("127.0.0.1:8088", f"127.0.0.1:{rpc}")
    config.write_text(text.replace("127.0.0.1:8086", f"127.0.0.1:{port}"), encoding="utf-8")
    command = [services.program("influx", "influxd", "influxdb"), "run", "-config", str(config)]
    return Server(command, f"http://127.0.0.1:{port}", "/ping", folder / "influxdb.log")


def create_database(url: str, database: str) -> None:
    query = urllib.parse.urlencode({"q": f"CREATE DATABASE {database}"})
    urllib.request.urlopen(urllib.request.Request(f"{url}/query?{query}", method="POST"), timeout=5).close()


@contextmanager
def influxdb1(folder: Path, database: str) -> Iterator[str]:
    """A running InfluxDB 1.6 with one database; gives its URL."""
    with influx_server(folder) as server:
        create_database(server.url, database)
        yield server.url


class _Forward(BaseHTTPRequestHandler):
    """POST /api/v2/write → /write; everything else goes through unchanged."""

    upstream: str
    writes: list[int]

    def do_POST(self) -> None:
        self._pass("POST")

    def do_GET(self) -> None:
        self._pass("GET")

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def _pass(self, method: str) -> None:
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        path = parts.path
        if path == "/api/v2/write":
            path, query = "/write", {"db": query["bucket"], "precision": query.get("precision", "ns")}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {k: v for k, v in self.headers.items() if k.lower() in ("content-encoding", "content-type")}
        host = urllib.parse.urlsplit(self.upstream).netloc
        connection = http.client.HTTPConnection(host, timeout=10)
        try:
            connection.request(method, f"{path}?{urllib.parse.urlencode(query)}", body=body, headers=headers)
            answer = connection.getresponse()
            data = answer.read()
        except OSError:
            self.send_error(502)
            return
        finally:
            connection.close()
        if path == "/write":
            self.writes.append(answer.status)
        self.send_response(answer.status)
        for name in ("Content-Type", "X-Influxdb-Error"):
            if value := answer.getheader(name):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def v2_path(upstream: str) -> Iterator[tuple[str, list[int]]]:
    """The forwarding proxy; gives its URL and the statuses of the writes it passed."""
    writes: list[int] = []
    handler = type("Forward", (_Forward,), {"upstream": upstream, "writes": writes})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", writes
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def influxql(url: str, database: str, query: str) -> list[dict[str, Any]]:
    answer = json.loads(get(url + "/query", db=database, q=query, epoch="ns"))
    return list(answer["results"][0].get("series", []))


def export(url: str, match: str) -> list[dict[str, Any]]:
    get(url + "/internal/force_flush")
    return [json.loads(line) for line in get(url + "/api/v1/export", **{"match[]": match}).splitlines()]
