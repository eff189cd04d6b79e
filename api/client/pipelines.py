"""Pipelines: the models that the home keeps, and changing them."""

from __future__ import annotations

from collections.abc import Sequence

from regard.api.client.connection import Call, Connection
from regard.api.schemas import JobDocument, PipelineList, RollbackDocument


class Pipelines:
    """`/v1/pipelines`; all calls but `list` need the scope admin."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> PipelineList:
        """All pipelines, the live one first."""
        return self._connection.get(PipelineList, "/v1/pipelines", [])

    def reindex(self, profile: str | None = None) -> JobDocument:
        """Analyse all photographs with a profile and make it live; None is the home's own, as
        installed.

        Raises ServerProblem `conflict` when it is live already, or another change is under way.
        """
        call = Call("POST", "/v1/pipelines", json={"profile": profile})
        return self._connection.read(JobDocument, call)

    def roll_back(self, *, at_once: bool = False) -> RollbackDocument:
        """Restore the previous pipeline; raises ServerProblem `conflict` when none is kept."""
        call = Call("POST", "/v1/pipelines/rollback", json={"at_once": at_once})
        return self._connection.read(RollbackDocument, call)

    def prune(self, pipelines: Sequence[str] = (), *, unfinished: bool = False) -> JobDocument:
        """Delete pipelines by the beginnings of their fingerprints, or all that are kept.

        Raises ServerProblem `conflict` for the live one.
        """
        document = {"pipelines": list(pipelines), "unfinished": unfinished}
        return self._connection.read(
            JobDocument, Call("POST", "/v1/pipelines/prune", json=document)
        )
