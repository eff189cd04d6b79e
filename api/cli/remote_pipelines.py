"""The models of a server's home: how `regard reindex` and its companions change them there."""

from __future__ import annotations

from collections.abc import Sequence

import click

from regard.api.cli.app import DONE, DONE_WITH_FAILURES, INTERRUPTED, printable, write_json
from regard.api.cli.commands.pipelines import show_pipelines
from regard.api.cli.options import ChosenServer
from regard.api.cli.progress import progress_bar, stop_request
from regard.api.cli.remote import open_client
from regard.api.client import Client
from regard.api.client.jobs import ENDED
from regard.api.http.schemas import JobDocument
from regard.core.errors import CannotWork
from regard.storage.pipelines.stored import SHORT_FINGERPRINT

_LOOK_SECONDS = 0.2


def reindex_on_server(server: ChosenServer, profile: str | None, *, as_json: bool) -> int:
    """Have a server change its models, and wait for it; Ctrl-C leaves the server at it."""
    with open_client(server) as client:
        job = client.pipelines.reindex(profile)
        job = _follow(client, job, "reindexing")
    return _tell(job, as_json=as_json, done=f"the server has the models of {profile or 'today'}")


def roll_back_on_server(server: ChosenServer, *, at_once: bool, as_json: bool) -> int:
    """Have a server go back; where that takes a job, wait for it."""
    with open_client(server) as client:
        found = client.pipelines.roll_back(at_once=at_once)
        if not found.live:
            click.echo(f"regard: {found.missing} photographs are analysed first", err=True)
            job = _follow(client, found.jobs[0], "catching up")
            return _tell(job, as_json=as_json, done=f"{found.profile} is live again")
    if as_json:
        write_json(found.model_dump(mode="json", exclude={"jobs"}))
    else:
        click.echo(f"{printable(found.profile)} is live again")
    if found.missing:
        click.echo(f"regard: {found.missing} photographs are being analysed anew", err=True)
        return DONE_WITH_FAILURES
    return DONE


def prune_on_server(
    server: ChosenServer, fingerprints: Sequence[str], *, unfinished: bool, as_json: bool
) -> int:
    """Have a server delete what former models made, and wait for it."""
    with open_client(server) as client:
        job = client.pipelines.prune(fingerprints, unfinished=unfinished)
        job = _follow(client, job, "deleting")
    removed = 0 if job.report is None else job.report["removed"]
    return _tell(job, as_json=as_json, done=f"{removed} deleted")


def list_on_server(server: ChosenServer, *, as_json: bool) -> int:
    """The models that a server's home keeps."""
    with open_client(server) as client:
        found = client.pipelines.list()
    items = [one.model_dump(mode="json") for one in found.items]
    if as_json:
        write_json({"pipelines": items, "serving": found.serving})
        return DONE
    show_pipelines(items)
    if found.items and found.serving != found.items[0].fingerprint:
        click.echo(f"  the server still answers from {found.serving[:SHORT_FINGERPRINT]}")
    return DONE


def _follow(client: Client, job: JobDocument, description: str) -> JobDocument:
    """The job when it has ended, or as it is at Ctrl-C."""
    seen = 0
    with stop_request() as stop, progress_bar(description) as progress:
        while job.state not in ENDED and not stop.wait(_LOOK_SECONDS):
            job = client.jobs.get(job.id)
            if progress is not None and job.total is not None:
                progress.expect(job.total)
                for _ in range(job.done - seen):
                    progress.advance()
                seen = max(seen, job.done)
    return job


def _tell(job: JobDocument, *, as_json: bool, done: str) -> int:
    """Say what became of a job; raises CannotWork when it failed."""
    if job.state in {"failed", "cancelled"}:
        raise CannotWork(
            job.message or f"the job {job.id} was cancelled",
            remedy="mend that, and run the command again",
        )
    if as_json:
        write_json(job.model_dump(mode="json"))
    if job.state not in ENDED:
        click.echo(f"regard: interrupted; the server goes on with job {job.id}", err=True)
        return INTERRUPTED
    if not as_json:
        click.echo(printable(done))
    if job.message is not None:
        click.echo(f"regard: {printable(job.message)}", err=True)
    return DONE_WITH_FAILURES if job.failed else DONE
