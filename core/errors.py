"""The error tree of regard.

Every error that a user can meet is a `RegardError`: one sentence that says what is wrong and,
where possible, a `remedy`. The command line and the HTTP service each map them to exit codes and
responses in one table; no other package prints or exits.

    RegardError
    ├── UsageError                  the arguments alone are wrong
    │   ├── UnanswerableQuery       a query that these models, or any, can't answer
    │   └── MalformedQuery          a query with a syntax error, and its position
    ├── CannotWork                  valid arguments, but the work can't be done
    │   ├── MissingDependency       a package or extra is not installed
    │   ├── ModelError              weights missing, damaged or in an unexpected layout
    │   ├── HomeError               the home's catalog can't be used
    │   │   └── HomeVersionError    it was created by another version of regard
    │   ├── EngineUnavailable       the vector engine can't be reached or used now
    │   ├── PipelineConflict        another pipeline is live in this home
    │   ├── LeaseHeld               another process is the writer of this home
    │   ├── ClusterUnavailable      the Ray cluster can't be reached, or was lost
    │   ├── RootUnavailable         a root is missing, unreadable or suddenly empty
    │   ├── StoreUnavailable        the bucket of originals does not answer
    │   ├── UnstorableValue         a value does not fit the catalog's database
    │   ├── NotFound                an id, collection or file does not exist
    │   ├── KeyReused               an idempotency key was used for a different request
    │   ├── KeyInUse                the first request with an idempotency key is still running
    │   ├── OriginalGone            an asset's file is missing or unreadable
    │   ├── OriginalChanged         an asset's file differs from the indexed one
    │   ├── OutsideRoots            a path lies outside the folders that may be read
    │   ├── Conflict                the resource's state does not allow the operation
    │   │   └── NameTaken           a name or external id is already in use
    │   └── IndexMismatch           a vector index on disk does not fit its catalog
    └── DecodeError                 one file is not a usable photograph; never stops a run
        └── UnknownFormat           its bytes are not of a supported format
"""

from __future__ import annotations


class RegardError(Exception):
    """Base of all errors meant for a user.

    `message` is one sentence without a trailing period; `remedy` is a command or action that
    solves the problem, or None.
    """

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        if self.remedy is None:
            return self.message
        return f"{self.message}; {self.remedy}"


class UsageError(RegardError):
    """The arguments alone are wrong: an empty query, an unknown profile."""


class UnanswerableQuery(UsageError):
    """A query is empty, needs a capability that the home's models lack, or selects no pixels."""


class MalformedQuery(UsageError):
    """A query has a syntax error, or a field in it has an invalid value.

    `position` and `length` locate the error in the query, in characters; both may lie at its end.
    """

    def __init__(
        self, message: str, *, position: int, length: int, remedy: str | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.position = position
        self.length = length


class CannotWork(RegardError):
    """The request is valid, but the state of the machine or the home does not allow it."""


class MissingDependency(CannotWork):
    """A package that an extra installs is missing."""


class ModelError(CannotWork):
    """Weights are missing, damaged, or not in the layout that the model expects."""


class HomeError(CannotWork):
    """The home directory or its database can't be opened or used."""


class HomeVersionError(HomeError):
    """The home was created by another version of regard with a different schema."""


class EngineUnavailable(CannotWork):
    """The vector engine is away, or refuses: searches fail until it is back, writes go on."""


class PipelineConflict(CannotWork):
    """The home's live pipeline is not the requested one."""


class LeaseHeld(CannotWork):
    """Another process holds the writer lease of this home."""


class ClusterUnavailable(CannotWork):
    """The Ray cluster can't be reached, or was lost during the work; a later run carries on."""


class RootUnavailable(CannotWork):
    """A root is missing, unreadable, or empty although the catalog has photographs under it."""


class StoreUnavailable(CannotWork):
    """A bucket does not answer, or refuses; its objects may well exist."""


class UnstorableValue(CannotWork):
    """The database refuses a value: too large a number or text, NUL, an unpaired surrogate."""


class NotFound(CannotWork):
    """The named object does not exist."""


class OriginalGone(CannotWork):
    """The file of an asset is missing or unreadable."""


class OriginalChanged(CannotWork):
    """The file of an asset differs from the indexed one in size, time or kind."""


class OutsideRoots(CannotWork):
    """A path leads out of the folders that may be read, through `..`, a symlink or directly."""


class Conflict(CannotWork):
    """The state of the named object does not allow the operation."""


class NameTaken(Conflict):
    """A name or external id is already in use."""


class KeyReused(CannotWork):
    """An idempotency key was used before with a different request."""


class KeyInUse(CannotWork):
    """The first request with an idempotency key is still running."""


class IndexMismatch(CannotWork):
    """A vector index on disk is damaged, or belongs to another catalog, pipeline or format."""


class DecodeError(RegardError):
    """One file is not a usable photograph: damaged, too large or in an unknown format."""


class UnknownFormat(DecodeError):
    """A file is empty or its bytes are not of a supported format."""


# The same call works later: another process ends, or a service answers again.
AWAITED = (LeaseHeld, StoreUnavailable, EngineUnavailable, ClusterUnavailable)
