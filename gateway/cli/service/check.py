"""The command `check`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import typer

from gateway.cli.exits import Exit
from gateway.cli.options import CONFIG_FILE, ConfigOption, JsonOption
from gateway.cli.output import print_fields, print_json, print_problem
from gateway.config import file as configuration
from gateway.config.influx import account_tag_problem
from gateway.config.meters import MeterSection
from gateway.config.mistakes import ConfigMistakes, Source
from gateway.config.modbus import broken_models
from gateway.edge.keys.ring import by_ref
from gateway.errors import ConfigError
from gateway.roles.key_ring import key_ring
from protocols.clock import SystemClock
from protocols.errors import MeterConfigError
from protocols.meters.secrets import FileSecrets
from protocols.open_files import raise_file_limit


def check(config: ConfigOption = CONFIG_FILE, as_json: JsonOption = False) -> None:
    """Check a configuration file and the secrets it names; every mistake is shown where it stands.

    Example: meter-gateway check --config edge.toml
    """
    try:
        loaded = configuration.load(config)
    except ConfigMistakes as error:
        if not as_json:
            raise
        print_json([asdict(mistake) for mistake in error.mistakes])
        raise typer.Exit(Exit.CONFIG) from error
    missing = _missing_secrets(loaded)
    result: dict[str, object] = {
        "file": str(config),
        "gateway": loaded.gateway.name,
        "roles": list(loaded.gateway.roles),
        "lines": len(loaded.lines),
        "meters": len(loaded.meters),
        "secrets_missing": missing if as_json else len(missing),
    }
    warnings: list[str] = []
    if loaded.time.trust == "host" or "edge" in loaded.gateway.roles:
        from gateway.roles.timekeeping import time_warnings

        warnings += time_warnings(loaded)
    if "edge" in loaded.gateway.roles:
        from gateway.edge.journal.view import entry_octets
        from gateway.roles.admission import files_needed, too_few_files
        from gateway.roles.journal import ENTRY_OCTETS, ENTRY_ROW, journal_needs
        from gateway.roles.mqtt_settings import login_warnings

        measured = entry_octets(loaded.edge_folder / "journal.db")
        needs = journal_needs(loaded, ENTRY_OCTETS if measured is None else measured + ENTRY_ROW)
        warnings += needs.warnings(loaded) + login_warnings(loaded)
        files = too_few_files(loaded, raise_file_limit(files_needed(loaded)))
        warnings += [files] if files is not None else []
        result |= {
            "captures_per_day": needs.captures_per_day,
            "journal_floor_bytes": needs.floor_bytes,
            "capture_list_bytes": needs.list_bytes,
        }
    warnings += broken_models(loaded.modbus.models)
    if as_json and warnings:
        result["warnings"] = warnings
    print_fields(result, as_json=as_json)
    if not as_json:
        for text in warnings:
            typer.echo(f"warning: {text}")
    source = Source(config, config.read_text(encoding="utf-8"))
    if loaded.influx is not None and (found := account_tag_problem(loaded.influx, len(loaded.meters))):
        print_problem(str(source.mistake(*found)))
        raise typer.Exit(Exit.CONFIG)
    if not {"central", "portal"}.isdisjoint(loaded.gateway.roles):
        from gateway.roles.telling import telling_problems

        if problems := telling_problems(loaded):
            for text in problems:
                print_problem(text)
            raise typer.Exit(Exit.CONFIG)
    # The role brings the web's libraries: it is looked at only where a configuration names it.
    if "portal" in loaded.gateway.roles and loaded.secrets.is_dir():
        from gateway.roles.portal import portal_problems

        missing += [str(source.mistake(*problem)) for problem in portal_problems(loaded)]
    # A configuration is often checked where it is written, and its secrets are on another machine.
    if missing and loaded.secrets.is_dir():
        for text in missing:
            print_problem(text)
        raise typer.Exit(Exit.CONFIG)
    if missing and not as_json:
        typer.echo(f"the secrets folder {loaded.secrets} is not on this machine, so secrets were not checked")


def _missing_secrets(config: configuration.Config) -> list[str]:
    """Return what is wrong with each secret that the configuration names."""
    known = FileSecrets(config.secrets)
    refs: list[str | None] = [
        config.mqtt.password_ref,
        config.mqtt.field_password_ref,
        *config.directory.verify_refs(),
        config.directory.signing_key_ref,
        config.web.operator_token_ref,
        config.web.session_secret_ref,
        *_sms_secrets(config),
        config.influx.token_ref if config.influx else None,
        config.keys.escrow_key_ref,
        config.keys.store_key_ref,
        config.keys.store_secret_ref,
        config.acts.image_key_ref,
    ]
    for meter in config.meters:
        refs += _first_keys(config, meter)
    missing: list[str] = []
    for ref in dict.fromkeys(r for r in refs if r is not None):
        try:
            known.secret(ref)
        except MeterConfigError as error:
            missing.append(str(error))
    return missing + _unfit_keys(config, known)


def _sms_secrets(config: configuration.Config) -> list[str]:
    http, reports = config.sms.http, config.sms.reports
    named = [] if http is None else [*http.secret_fields.values(), *http.secret_headers.values()]
    return named if reports is None else [*named, reports.secret_ref]


def _first_keys(config: configuration.Config, meter: MeterSection) -> list[str | None]:
    """Return the references of a meter's keys, but of those that the box keeps itself since they were changed."""
    ring = key_ring(config, SystemClock())
    refs: list[str | None] = []
    try:
        store = ring.store()
        for client, dlms in meter.associations().items():
            kept = {} if store is None else by_ref(dlms, store.held(meter.meter, client))
            named = (dlms.password_ref, dlms.encryption_key_ref, dlms.authentication_key_ref)
            refs += [ref for ref in named if ref not in kept]
        if meter.keys is not None:
            refs += [meter.keys.master_key_ref, meter.keys.broadcast_key_ref]
    finally:
        ring.close()
    return refs


def _unfit_keys(config: configuration.Config, known: FileSecrets) -> list[str]:
    """Return which of the directory's keys are there and are no such keys."""
    from gateway.contract.signing import private_key, public_key

    wanted: list[tuple[str, Callable[[bytes], object]]] = [
        (ref, public_key) for ref in config.directory.verify_refs()
    ]
    if config.directory.signing_key_ref is not None:
        wanted.append((config.directory.signing_key_ref, private_key))
    unfit: list[str] = []
    for ref, read in wanted:
        try:
            read(known.secret(ref))
        except MeterConfigError:
            continue  # told as missing
        except ConfigError as error:
            unfit.append(f"secret {ref}: {error}")
    return unfit
