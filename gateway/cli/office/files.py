"""Central's files, by the options that every office command has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.config import file as configuration
from gateway.errors import UsageError
from gateway.roles.central_files import CentralFiles, central_files, central_files_of

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data folder of the gateway that has the central role.")
]
ConfigChoice = Annotated[Path | None, typer.Option("--config", "-c", help="Or: its configuration.")]
FileArgument = Annotated[Path, typer.Argument(help="CSV file, UTF-8.")]


def find_files(data: Path | None, config: Path | None) -> CentralFiles:
    """Return central's files; UsageError when neither option leads to them."""
    if data is not None:
        return central_files(data)
    if config is not None:
        loaded = configuration.load(config)
        return central_files_of(loaded)
    raise UsageError("say where central keeps its data: --data FOLDER or --config FILE")
