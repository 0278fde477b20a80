"""Runs `meter-gateway` commands in forked processes of a program that has loaded the code once: fast and true."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any

from gateway.cli.commands import every_command
from gateway.cli.main import main

LONGEST = 90


def _run(job: dict[str, Any]) -> None:
    """Be the command: own process, own files for output, own folder; ends with its exit code."""
    for descriptor, path in ((1, job["out"]), (2, job["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    os.dup2(_saying(job["stdin"]), 0)
    os.environ.update(job["env"])
    os.chdir(job["folder"])
    sys.argv = ["meter-gateway", *job["arguments"]]
    signal.alarm(LONGEST)
    code = 1
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        if sys.exc_info()[1] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _saying(text: str) -> int:
    """Return what can be read as a file that says this, the null device for nothing."""
    if not text:
        return os.open(os.devnull, os.O_RDONLY)
    read, write = os.pipe()
    os.write(write, text.encode())
    os.close(write)
    return read


every_command()  # imports them all, once for all forks
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        _run(job)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
