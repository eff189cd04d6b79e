"""Clients that search a server on and on, and what they were told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from regard.api.client import Client
from regard.api.schemas import SearchAnswer

Ask = Callable[[Client], SearchAnswer]


@dataclass(frozen=True)
class Told:
    """One answer: when it was asked for and came, in seconds, and what it said of each hit."""

    asked: float
    came: float
    question: int
    hits: tuple[tuple[str, str | None, str | None], ...]
    spaces: frozenset[str]

    @classmethod
    def of(cls, asked: float, question: int, answer: SearchAnswer) -> Told:
        hits = tuple(
            (hit.asset.id, hit.asset.caption, None if hit.region is None else hit.region.id)
            for hit in answer.hits
        )
        # The keyword index lies in no space.
        spaces = {match.space for hit in answer.hits for match in hit.channels if match.space}
        return cls(asked, time.monotonic(), question, hits, frozenset(spaces))


@dataclass
class Searchers:
    """`with Searchers(url, asks) as searchers:` each client asks all in turn until the block
    ends."""

    url: str
    asks: Sequence[Ask]
    count: int = 4
    # Seconds between an answer and the next question.
    pause: float = 0.0
    told: list[list[Told]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    def __enter__(self) -> Searchers:
        self._stop = threading.Event()
        self.told = [[] for _ in range(self.count)]
        self._threads = [threading.Thread(target=self._search, args=(told,)) for told in self.told]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def answers(self) -> list[Told]:
        """Of all clients, in the order in which they came."""
        return sorted((told for client in self.told for told in client), key=lambda one: one.came)

    def until(self, condition: Callable[[Told], bool], seconds: float = 60.0) -> float:
        """Wait until each client was told something like that; how long it took, in seconds."""
        started = time.monotonic()
        while not all(client and condition(client[-1]) for client in self.told):
            assert not self.failures, self.failures[0]
            assert time.monotonic() < started + seconds, [client[-1] for client in self.told]
            time.sleep(0.01)
        return time.monotonic() - started

    def _search(self, told: list[Told]) -> None:
        with Client(self.url) as client:
            while not self._stop.is_set():
                for question, ask in enumerate(self.asks):
                    time.sleep(self.pause)
                    asked = time.monotonic()
                    try:
                        told.append(Told.of(asked, question, ask(client)))
                    except Exception as error:  # noqa: BLE001 - whatever it is, it is one
                        self.failures.append(error)


def answers_as_wholes(searchers: Searchers, wholes: Sequence[Sequence[Told]]) -> None:
    """Each answer is one of those that a home at rest gives, and no client is led back to a former
    one.

    `wholes` holds what a server at rest says to each question, in the order of its pipelines.
    """
    assert not searchers.failures, searchers.failures[0]
    for told in searchers.told:
        seen = []
        for answer in told:
            assert answer.hits
            whole = [
                number
                for number, of_home in enumerate(wholes)
                if of_home[answer.question].hits == answer.hits
                and of_home[answer.question].spaces == answer.spaces
            ]
            assert len(whole) == 1, answer
            seen += whole
        assert seen == sorted(seen)
        assert set(seen) == set(range(len(wholes)))
