"""A PostgreSQL of Debian's on a socket in a folder of its own; as an unprivileged user, without a port."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from tests.support.services import program
from tests.support.waiting import PATIENCE, wait_until

BIN = "/usr/lib/postgresql/15/bin"
PORT = 5432
"""Part of the socket's name; no TCP port is opened."""


class PostgreSQL:
    """One server with an empty folder; `database` makes a fresh database and returns its URL."""

    def __init__(self, *, fsync: bool = False) -> None:
        """Make the cluster's files; AssertionError where PostgreSQL is not there or the files cannot be made.

        With `fsync` what is committed is durable, which tests do not need.
        """
        self._bin = Path(program("postgres", "initdb", "postgresql-15", f"{BIN}/initdb")).resolve().parent
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        # The server refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(self._folder, self._user, self._user)
        self._count = itertools.count(1)
        self._server: subprocess.Popen[bytes] | None = None
        self._fsync = fsync
        of_cluster = ("-U", "gateway", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        self._run("initdb", "-D", f"{self._folder}/data", *of_cluster)

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / name), *arguments],
            user=self._user if os.geteuid() == 0 else None,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{name} failed: {done.stderr}"

    def start(self) -> PostgreSQL:
        """Start it and wait until it answers."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "fsync": "on" if self._fsync else "off",
            "port": PORT,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("wb") as log:
            self._server = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", f"{self._folder}/data", *options],
                user=self._user if os.geteuid() == 0 else None,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, lambda: (self._folder / "log").read_text())
        return self

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, (self._folder / "log").read_text()
        command = [str(self._bin / "pg_isready"), "-q", "-h", str(self._folder), "-p", str(PORT)]
        return subprocess.run(command, check=False).returncode == 0

    def database(self) -> str:
        """Return the URL of a fresh, empty database."""
        name = f"test{next(self._count)}"
        self._run("createdb", "-h", str(self._folder), "-U", "gateway", "-T", "template0", name)
        return f"postgresql://gateway@/{name}?unix_sock={self._folder}/.s.PGSQL.{PORT}"

    def copy(self, url: str) -> str:
        """Return the URL of a copy of a database, as a restored backup is one; nobody may be using it."""
        name, source = f"test{next(self._count)}", url.split("/")[3].partition("?")[0]
        self._run("createdb", "-h", str(self._folder), "-U", "gateway", "-T", source, name)
        return url.replace(f"/{source}?", f"/{name}?")

    def stop(self) -> None:
        """End the server and remove its files."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)  # at once: SIGTERM waits until every client has gone
            try:
                self._server.wait(PATIENCE)
            finally:
                self._server.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> PostgreSQL:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
