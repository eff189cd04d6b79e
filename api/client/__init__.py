"""A typed client of the service for Python; docs/http.md tells what each call does.

    with Client("http://127.0.0.1:8420") as client:
        answer = client.assets.upload("harbour.jpg", collection="holiday")
        client.jobs.wait(answer.job.id)
        for hit in client.iterate_hits("a red boat", filters=Filters(tag=["dawn"])):
            print(hit.asset.file_name, hit.score)

Answers are the documents of `regard.api.http.schemas`. What the server refuses is a `ServerProblem`; that
it can't be reached, or is something else, a `CannotWork`. Requests that do no harm twice are tried again
when the connection fails: reads, and those that go under an Idempotency-Key, as all uploads do.
Of regard, only `core`'s errors and the documents are imported.
"""

from regard.api.client.assets import KEEP
from regard.api.client.client import Client
from regard.api.client.filters import Filters
from regard.api.client.forms import Source
from regard.api.client.problems import ServerProblem, WrongField
from regard.api.client.searching import SearchTerm

__all__ = ["KEEP", "Client", "Filters", "SearchTerm", "ServerProblem", "Source", "WrongField"]
