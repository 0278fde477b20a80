"""Faults of an image target: what a meter does with blocks, verification and activation that it should not."""

from __future__ import annotations

from collections.abc import Callable

from protocols.dlms.data.types import Data, Tag, array, enum, octets, structure
from protocols.dlms.objects.image import ImageStatus
from protocols.dlms.server.model import OTHER_REASON, AccessDenied
from protocols.simulator.cosem.image import TEMPORARY_FAILURE, ImageTarget
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.script import FaultPlayer

_BLOCK_SIZE, _STATUS, _INFO = 2, 6, 7
OTHER_NAME = b"ANOTHER"


class FaultyImage:
    """Stands before an image target; `player` says what goes wrong."""

    def __init__(self, image: ImageTarget, player: FaultPlayer) -> None:
        self._image = image
        self._player = player
        self._polls = 0
        self._late = 0
        self._finish: Callable[[], object] | None = None

    def get(self, attribute: int, read: Callable[[], Data]) -> Data:
        """Return an attribute as the faults have it."""
        if attribute == _BLOCK_SIZE and (fault := self._player.fires(FaultKind.IMAGE_BLOCK_SIZE)):
            self._image.change_block_size(fault.amount)
        if attribute == _STATUS and self._finish is not None:
            if self._polls:
                self._polls -= 1
                return enum(ImageStatus.VERIFICATION_INITIATED)
            finish, self._finish = self._finish, None
            finish()
        value = read()
        if attribute == _INFO and self._player.standing(FaultKind.IMAGE_WRONG_NAME):
            return array(*(_renamed(one) for one in value.items))
        return value

    def version(self) -> None:
        """Activate late, or come back on the old version, where that is asked for."""
        if self._late:
            self._late -= 1
            if not self._late:
                self._image.activate_now()
        if self._image.activations and self._player.fires(FaultKind.IMAGE_ROLLS_BACK):
            self._image.roll_back()

    def run(self, method: int, run: Callable[[], Data | None]) -> Data | None:
        """Run a method as the faults have it."""
        match method:
            case 2:
                return self._take(run)
            case 3:
                return self._verify(run)
            case 4 if self._player.fires(FaultKind.IMAGE_ACTIVATION_FAILS):
                self._image.fail(ImageStatus.ACTIVATION_FAILED)
                return None
            case 4 if self._player.fires(FaultKind.IMAGE_NEVER_ACTIVATES):
                return None
            case 4 if fault := self._player.fires(FaultKind.IMAGE_ACTIVATES_LATE):
                self._late = fault.amount
                return None
        return run()

    def _take(self, run: Callable[[], Data | None]) -> Data | None:
        if self._player.fires(FaultKind.IMAGE_FORGETS):
            self._image.forget()
            raise AccessDenied(OTHER_REASON)
        if self._player.fires(FaultKind.IMAGE_BLOCK_REFUSED):
            raise AccessDenied(OTHER_REASON)
        return None if self._player.fires(FaultKind.IMAGE_BLOCK_LOST) else run()

    def _verify(self, run: Callable[[], Data | None]) -> Data | None:
        if self._player.fires(FaultKind.IMAGE_NOT_VERIFIED):
            self._image.fail(ImageStatus.VERIFICATION_FAILED)
            raise AccessDenied(OTHER_REASON)
        if fault := self._player.fires(FaultKind.IMAGE_VERIFY_BUSY):
            self._polls, self._finish = fault.amount, run
            raise AccessDenied(TEMPORARY_FAILURE)
        done = run()
        if self._player.fires(FaultKind.IMAGE_ACTIVATES_ITSELF):
            self._image.activate_now()
        return done


def _renamed(one: Data) -> Data:
    size, _, signature = one.items
    return structure(size, octets(OTHER_NAME), Data(Tag.OCTET_STRING, signature.value))
