"""Every error a user can meet, in one tree; each carries what to do next and its exit code.

    UnderstudyError          1  something failed
    ├── UsageError           2  the command or a value in it is wrong
    ├── SetupError           3  an extra package or a piece of set-up is missing
    ├── BudgetReached        4  the next call could pass the budget; work is saved
    ├── ProviderRefused      5  key, quota, address or model refused; not an API
    ├── PartlyDone           6  some rows failed, each with its reason
    ├── GateNotMet           7  the quality gate was not met
    ├── ProjectError         8  the folder is no project, damaged, or from a newer version
    │   └── ProjectBusy      8  another process is writing to it
    └── DiskError            9  disk full, read-only, or another I/O failure

Interruption is not an error of the program: Ctrl-C ends with 130, SIGTERM with 143.
"""

from __future__ import annotations


class UnderstudyError(Exception):
    """Base of all: ``what`` happened and where, and ``fix``, what to do about it."""

    exit_code = 1

    def __init__(self, what: str, fix: str = "") -> None:
        self.what = what.rstrip(". ")
        self.fix = fix
        super().__init__(what, fix)

    def __str__(self) -> str:
        return f"{self.what}. {self.fix}" if self.fix else f"{self.what}."


class UsageError(UnderstudyError):
    """The command, or a value given to it, is wrong."""

    exit_code = 2


class SetupError(UnderstudyError):
    """An extra package, a file or a setting that the verb needs is missing."""

    exit_code = 3


class BudgetReached(UnderstudyError):
    """The next call's worst case would pass the budget; everything so far is saved."""

    exit_code = 4


class ProviderRefused(UnderstudyError):
    """The endpoint said no (key, quota, model), cannot be reached, or is not an API."""

    exit_code = 5


class PartlyDone(UnderstudyError):
    """Some rows failed, each with its reason; the others are kept."""

    exit_code = 6


class GateNotMet(UnderstudyError):
    """The measured quality is below the gate that was asked for."""

    exit_code = 7


class ProjectError(UnderstudyError):
    """The folder is not a project, is damaged, or was written by a newer version."""

    exit_code = 8


class ProjectBusy(ProjectError):
    """Another process is writing to the project."""


class DiskError(UnderstudyError):
    """The disk is full or read-only, or another read or write failed."""

    exit_code = 9
