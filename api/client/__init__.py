"""A typed Python client of the HTTP service; docs/http.md describes each call.

    with Client("http://127.0.0.1:8420") as client:
        answer = client.assets.upload("harbour.jpg", collection="holiday")
        client.jobs.wait(answer.job.id)
        for hit in client.iterate_hits("a red boat", filters=Filters(tag=["dawn"])):
            print(hit.asset.file_name, hit.score)

Answers are the documents of `regard.api.schemas`. A refused request raises ServerProblem; a
server that cannot be reached, or is not regard, raises CannotWork. When the connection fails,
requests that are safe to repeat are sent again: reads, and those with an Idempotency-Key, as all
uploads have.
"""

from regard.api.client.assets import KEEP
from regard.api.client.client import Client
from regard.api.client.filters import Filters
from regard.api.client.forms import Source
from regard.api.client.problems import ServerProblem, WrongField
from regard.api.client.searching import SearchTerm

__all__ = ["KEEP", "Client", "Filters", "SearchTerm", "ServerProblem", "Source", "WrongField"]
