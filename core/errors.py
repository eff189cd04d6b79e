"""The error tree of regard.

Every error that a user can meet is a `RegardError`: one sentence that says what is wrong and, where
there is one, the `remedy`, a command or an action that mends it. The faces turn them into exit
codes and HTTP answers in one table each; nothing below a face prints or exits.

    RegardError
    ├── UsageError                  wrong from the arguments alone
    │   ├── UnanswerableQuery       a query that these models, or any, can't answer
    │   └── MalformedQuery          a query that breaks the language's rules, and where
    ├── CannotWork                  right arguments, but the work can't be done
    │   ├── MissingDependency       a package or extra is not installed
    │   ├── ModelError              weights missing, damaged or of another layout
    │   ├── HomeError               the home's catalog can't be used
    │   │   └── HomeVersionError    it was made by another version of regard
    │   ├── PipelineConflict        another pipeline is live in this home
    │   ├── LeaseHeld               another process is the writer of this home
    │   ├── RootUnavailable         a root is missing, unreadable or suddenly empty
    │   ├── NotFound                an id, a collection or a file that is not there
    │   ├── KeyReused               an idempotency key that came with another request before
    │   ├── KeyInUse                the first request under an idempotency key is not answered yet
    │   ├── OriginalGone            an asset's file is missing or can't be read
    │   ├── OriginalChanged         an asset's file is not the one that was indexed
    │   ├── OutsideRoots            a file or folder lies outside all that may be read
    │   ├── Conflict                the state of what is named does not allow it
    │   │   └── NameTaken           a name or an external id belongs to something else
    │   └── IndexMismatch           a vector index on disk does not fit its catalog
    └── DecodeError                 one file is no usable photograph; never stops a run
"""

from __future__ import annotations


class RegardError(Exception):
    """Base of all errors meant for a user.

    `message` is one sentence without a trailing period; `remedy` is the command or action that
    mends it, or None.
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
    """The request is wrong from its arguments alone: an empty query, an unknown profile."""


class UnanswerableQuery(UsageError):
    """A query is empty, asks for what the models of the home don't do, or for no part of its picture."""


class MalformedQuery(UsageError):
    """A query breaks the rules of the query language, or a field of it has no usable value.

    `position` and `length` are the place in the query, in characters; both may lie at its end.
    """

    def __init__(
        self, message: str, *, position: int, length: int, remedy: str | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.position = position
        self.length = length


class CannotWork(RegardError):
    """The request is well-formed, but the state of the machine or the home does not allow it."""


class MissingDependency(CannotWork):
    """A package that an extra would install is absent."""


class ModelError(CannotWork):
    """Weights are missing, damaged, or not of the layout that the model expects."""


class HomeError(CannotWork):
    """The home directory or its database can't be opened or used."""


class HomeVersionError(HomeError):
    """The home was made by another version of regard, whose schema this one does not know."""


class PipelineConflict(CannotWork):
    """The home's live pipeline is not the one that was asked for."""


class LeaseHeld(CannotWork):
    """Another process holds the writer's lease of this home."""


class RootUnavailable(CannotWork):
    """A root is missing, unreadable, or empty although the catalog knows photographs under it."""


class NotFound(CannotWork):
    """Something named by id, name or path does not exist."""


class OriginalGone(CannotWork):
    """The file of an asset is missing, or can't be read any more."""


class OriginalChanged(CannotWork):
    """The file of an asset is not the one that was indexed: its size, time or kind differs."""


class OutsideRoots(CannotWork):
    """A path leads out of the folders that may be read, by `..`, a symlink or from the start."""


class Conflict(CannotWork):
    """The state of what is named does not allow what was asked for."""


class NameTaken(Conflict):
    """A name, or an external id, belongs to something else already."""


class KeyReused(CannotWork):
    """An idempotency key came before, with another request."""


class KeyInUse(CannotWork):
    """The first request under an idempotency key is still being answered."""


class IndexMismatch(CannotWork):
    """A vector index on disk is damaged, or of another catalog, pipeline, space or format."""


class DecodeError(RegardError):
    """One file is no photograph that can be used: damaged, too large, of an unknown format."""
