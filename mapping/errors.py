"""The errors of mapping: who must act.

MappingError
├── NumberRefused     the person or file that gave the number: correct it
├── FileRefused       the file as a whole cannot be trusted: nothing of it was applied
├── ChangeRefused     one change contradicts the directory: correct the change
└── DirectoryFault    the store is damaged or of another version: the operator
"""

from __future__ import annotations


class MappingError(Exception):
    """Root of every error that leaves this package."""


class NumberRefused(MappingError, ValueError):
    """A number does not parse. `code` is stable (`LENGTH_9`); `suggestion` may be None.

    `position` is that of the character that is wrong, from 1, None where it is the whole.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        given: str,
        suggestion: str | None = None,
        position: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.given = given
        self.suggestion = suggestion
        self.position = position


class FileRefused(MappingError):
    """A whole file is refused; `code` is stable, the message says where and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ChangeRefused(MappingError):
    """One change contradicts the directory."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class DirectoryFault(MappingError):
    """The directory store is damaged or was written by another version."""
