"""Which keys a meter is met with while they are being changed: those in force, then those that it may have taken."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.dlms.client.association_opener import AssociationOpener
from protocols.dlms.client.exchange import Exchange
from protocols.dlms.client.line_lease import LineLease
from protocols.errors import (
    AssociationRefused,
    CounterNotBelieved,
    InvocationCounterRefused,
    LineClosed,
    MeterRefused,
    MeterSilent,
    SecurityFailure,
)
from protocols.session import ChangingSecrets, DlmsSettings, SecretSource

REFUSALS = (AssociationRefused, SecurityFailure, MeterRefused, MeterSilent, LineClosed)
"""How a meter may answer whoever has other keys than it; some say nothing at all, some hang up."""
NOT_THE_KEYS = (InvocationCounterRefused, CounterNotBelieved)


class KeyChoices:
    """The choices for one session; most meters have one, and then nothing here is ever done."""

    def __init__(self, meter: str | None, settings: DlmsSettings, secrets: SecretSource) -> None:
        self._meter = meter
        self._settings = settings
        self._changing = secrets if isinstance(secrets, ChangingSecrets) and meter is not None else None
        self.choices: Sequence[SecretSource] = (
            [secrets] if self._changing is None or meter is None else self._changing.choices(meter, settings)
        )

    async def open(
        self, lease: LineLease, openers: Sequence[AssociationOpener]
    ) -> tuple[AssociationOpener, Exchange]:
        """Associate with the first choice, after a refusal with others as far as they may be tried.

        Errors are the first one's.
        """
        refused: BaseException | None = None
        for choice, opener in zip(self.choices, openers, strict=True):
            if refused is not None and not self._may_try(choice):
                continue  # another way may
            try:
                if refused is not None:  # a late answer must not be taken for one to the next
                    await lease.renew()
                exchange = await opener.open(lease)
            except REFUSALS as error:
                if isinstance(error, NOT_THE_KEYS):
                    raise
                refused = refused or error
                continue
            if refused is not None and self._changing is not None and self._meter is not None:
                self._changing.proved(self._meter, self._settings, choice)
            return opener, exchange
        assert refused is not None
        raise refused

    def _may_try(self, choice: SecretSource) -> bool:
        if self._changing is None or self._meter is None:
            return False
        return self._changing.may_try(self._meter, self._settings, choice)
