"""The parts of the configuration about changing meters' keys: to whom they are sealed, and what else a meter holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from gateway.config.types import Name, Section
from protocols.session import Auth, DlmsSettings


class KeysSection(Section):
    """To whom new keys of meters are sealed before a meter gets them (docs/keys.md).

    `escrow_key_ref` names the utility's public escrow key, whose private half is kept offline: without it no key is
    changed. `store_key_ref` names central's public store key: with it central can give the keys to a new box, or to
    another gateway, without the offline key. `store_secret_ref`, at central only, names the private half of that one.
    `second_copy`, at central only: a file on another disk than the data, where all sealed keys stand a second time
    before a meter is given any. Without it they stand beside the first, in central's data folder.
    """

    escrow_key_ref: Name | None = None
    store_key_ref: Name | None = None
    store_secret_ref: Name | None = None
    second_copy: Path | None = None


class KeyAssociationSection(Section):
    """Another association of a meter, beside the one that it is read with: its client address and secrets.

    All else is as in [meters.dlms]. The one that the companion names (client 48 in IS 15959, 1 in IDIS) changes the
    keys of all.
    """

    client: Annotated[int, Field(ge=1, le=127)]
    auth: Auth
    ciphered: bool = True
    password_ref: Name | None = None
    encryption_key_ref: Name | None = None
    authentication_key_ref: Name | None = None

    @model_validator(mode="after")
    def _whole(self) -> KeyAssociationSection:
        if self.auth.needs_secret and self.password_ref is None:
            raise ValueError(f'auth = "{self.auth}" needs `password_ref`')
        if (self.ciphered or self.auth is Auth.HLS_GMAC) and None in (
            self.encryption_key_ref,
            self.authentication_key_ref,
        ):
            raise ValueError("ciphering needs `encryption_key_ref` and `authentication_key_ref`")
        return self

    def settings(self, read_with: DlmsSettings) -> DlmsSettings:
        """Return how to associate so."""
        return replace(
            read_with,
            client=self.client,
            auth=self.auth,
            ciphered=self.ciphered,
            password_ref=self.password_ref,
            encryption_key_ref=self.encryption_key_ref,
            authentication_key_ref=self.authentication_key_ref,
            counter_object=None if read_with.counter_object != "" else "",
        )


class MeterKeysSection(Section):
    """What changing a meter's keys needs beside [meters.dlms]: its master key, and its other associations.

    `master_key_ref` names the key that wraps new ones, `broadcast_key_ref` the global broadcast key. Where central
    gives them, neither is needed.
    """

    master_key_ref: Name | None = None
    broadcast_key_ref: Name | None = None
    associations: Annotated[tuple[KeyAssociationSection, ...], Field(max_length=8)] = ()

    @model_validator(mode="after")
    def _once(self) -> MeterKeysSection:
        clients = [one.client for one in self.associations]
        if len(set(clients)) < len(clients):
            raise ValueError("two `associations` of one client")
        return self
