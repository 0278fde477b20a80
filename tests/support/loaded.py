"""Runs the tests beside a busy loop on each core, in random order: once all of them, thrice those that wait.

`python -m tests.support.loaded [arguments of pytest]`; ends with the first run that fails.
"""

from __future__ import annotations

import os
import subprocess
import sys

RUNS: tuple[tuple[str, ...], ...] = ((), ("-m", "waits"), ("-m", "waits"), ("-m", "waits"))


def main(arguments: list[str]) -> int:
    """Return the exit code of the first run that failed, else 0."""
    cores = os.cpu_count() or 1
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        for number, chosen in enumerate(RUNS, 1):
            print(f"run {number} of {len(RUNS)}, {cores} busy loops beside it", flush=True)
            done = subprocess.run([sys.executable, "-m", "pytest", *chosen, *arguments], check=False)
            if done.returncode != 0:
                return done.returncode
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
