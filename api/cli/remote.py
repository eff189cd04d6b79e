"""Commands on a server instead of a home: how it is reached, what its refusals mean, and its status.

What a server refuses ends a command as the same trouble with a home would: with 2 for what is wrong from
the arguments alone, else with 3. The key comes from a file or the environment, never from the command
line, which every user of a machine can read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import click

from regard.api.cli.app import DONE, printable, write_json
from regard.api.cli.options import ChosenServer
from regard.api.client import Client, ServerProblem
from regard.api.http.schemas import AssetDocument, JobDocument
from regard.core.errors import CannotWork, NotFound, UsageError

KEY_VARIABLE = "REGARD_API_KEY"
WRONG_ARGUMENTS = frozenset({"validation", "unanswerable-query", "malformed-query"})
_JOBS_SHOWN = 5


@contextlib.contextmanager
def open_client(server: ChosenServer) -> Iterator[Client]:
    """A client; problems that it raises in the block become errors of the command line."""
    with Client(server.url, _key(server)) as client:
        try:
            yield client
        except ServerProblem as problem:
            raise _as_command_error(problem) from problem


def uri_of(client: Client, asset: AssetDocument) -> str:
    """A path as indexed; else the whole URL of the original, which the server gives without itself."""
    is_relative = asset.uri == asset.urls.original
    return f"{client.url}{asset.uri}" if is_relative else asset.uri


def show_status(server: ChosenServer, *, as_json: bool) -> int:
    """What a server holds, and its newest jobs."""
    with open_client(server) as client:
        info = client.info()
        collections = list(client.collections.iterate())
        jobs = client.jobs.list(limit=_JOBS_SHOWN).items
    if as_json:
        document = {
            "server": client.url,
            **info.model_dump(mode="json"),
            "collections": [collection.model_dump(mode="json") for collection in collections],
            "jobs": [job.model_dump(mode="json") for job in jobs],
        }
        write_json(document)
        return DONE
    click.echo(f"server   {client.url}, regard {info.version}, as {info.scope}")
    click.echo(f"profile  {info.profile}")
    for collection in collections:
        states = {
            "waiting": collection.pending,
            "failed": collection.failed,
            "in the trash": collection.trashed,
        }
        more = "".join(f", {count} {state}" for state, count in states.items() if count)
        click.echo(
            f"  collection {printable(collection.name)}: {collection.assets} photographs{more}"
        )
    counts = info.counts
    click.echo(
        f"  {counts.contents} contents, {counts.regions} regions, "
        f"{counts.captions} captions, {counts.embeddings} embeddings"
    )
    for job in jobs:
        click.echo(f"  job {job.id}: {_describe(job)}")
    return DONE


def _describe(job: JobDocument) -> str:
    total = "" if job.total is None else f" of {job.total}"
    failed = f", {job.failed} failed" if job.failed else ""
    message = "" if job.message is None else f": {printable(job.message)}"
    where = "" if job.collection is None else f" into {printable(job.collection.name)}"
    return f"{job.kind}{where}, {job.state}, {job.done}{total} done{failed}{message}"


def _key(server: ChosenServer) -> str | None:
    if server.key_file is None:
        return os.environ.get(KEY_VARIABLE, "").strip() or None
    try:
        key = server.key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
        raise NotFound(
            f"the key can't be read from {server.key_file}: {reason}",
            remedy="give --key-file a file that holds a key and nothing else",
        ) from error
    if not key:
        raise NotFound(f"the file {server.key_file} holds no key", remedy="write the key into it")
    return key


def _as_command_error(problem: ServerProblem) -> CannotWork | UsageError:
    if problem.name in WRONG_ARGUMENTS:
        return UsageError(problem.detail, remedy=problem.remedy)
    remedy = problem.remedy
    if problem.status == 401:
        remedy = f"give --key-file FILE, or set {KEY_VARIABLE}; regard keys create makes a key"
    elif problem.name == "scope-missing":
        remedy = remedy or "use a key with that scope; regard keys create --scope makes one"
    return CannotWork(problem.detail, remedy=remedy)
