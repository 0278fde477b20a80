"""Logs: structlog, set up once for the whole process.

A logger has the name of its package (`gateway.edge.polling`), an event in snake_case says what happened
(`capture_journaled`), and the same keys mean the same everywhere: gateway, line, meter, profile, account, error.
"""

from __future__ import annotations

import logging
import sys

import structlog

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _NamedLogger(structlog.PrintLogger):
    """Prints to standard error; has the name that `add_logger_name` looks for."""

    def __init__(self, name: str = "gateway") -> None:
        super().__init__(file=sys.stderr)
        self.name = name


def setup_logging(level: str) -> None:
    """Log what is at least of `level` to standard error: coloured lines on a terminal, JSON lines elsewhere.

    `level` is debug, info, warning or error. What libraries log is shown from warnings on.
    """
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.stdlib.add_logger_name,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=_NamedLogger,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)
