"""The section [privacy]: how long each kind of personal data is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.config.types import Section

Days = Annotated[int, Field(ge=1, le=36_500)]


class PrivacySection(Section):
    """How long central keeps what it knows of people, in days; each day what is older goes, counted (docs/privacy.md).

    `messages_days`: what messages said, and the provider's ids. `removed_contacts_days`: mobiles that are no longer
    used, with their history. `unverified_contacts_days`: mobiles that nobody ever verified. The audit trail is a hash
    chain and holds opaque ids only: nothing is taken out of it.
    """

    messages_days: Days = 180
    removed_contacts_days: Days = 365
    unverified_contacts_days: Days = 1095
