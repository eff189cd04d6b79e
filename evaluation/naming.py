"""How often captions name a thing, and how often the name is right by WordNet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from regard.evaluation.statistics import Mean, Share
from regard.evaluation.wordnet import Naming, WordNet, half_of


@dataclass(frozen=True, slots=True)
class JudgedName:
    """What a text names, beside what its references name.

    `naming` is None where WordNet knows what none of the references names. `specificity` is that
    of `WordNet.specificity`, in [0, 1]. `half` is that of the first reference's head noun.
    """

    is_named: bool
    naming: Naming | None
    specificity: float
    half: int


@dataclass(frozen=True, slots=True)
class NamingReport:
    """Names of things in captions, judged by WordNet."""

    names: tuple[JudgedName, ...]

    @classmethod
    def of(cls, texts: Iterable[tuple[str, bool, Sequence[str]]], wordnet: WordNet) -> NamingReport:
        """Judge texts, each with whether it names a thing, and its references."""
        return cls(
            tuple(
                JudgedName(
                    is_named,
                    wordnet.compare(text, references),
                    wordnet.specificity(text),
                    half_of(references[0]),
                )
                for text, is_named, references in texts
            )
        )

    @property
    def named(self) -> Share:
        """Share of texts that name a thing or kind."""
        return Share.of(name.is_named for name in self.names)

    @property
    def right(self) -> Share:
        """Share of the names that are right, among those whose reference WordNet knows."""
        return Share.of(name.naming is not Naming.OTHER for name in self._judged)

    @property
    def same(self) -> Share:
        """Share of those names that are the reference's own or a synonym, and not its kind."""
        return Share.of(name.naming is Naming.SAME for name in self._judged)

    @property
    def specificity(self) -> Mean:
        """Mean specificity of the names, in [0, 1]."""
        return Mean.of(name.specificity for name in self.names if name.is_named)

    @property
    def halves(self) -> tuple[NamingReport, ...]:
        """The names of things of either half of the head nouns (see `wordnet.half_of`)."""
        return tuple(
            NamingReport(tuple(name for name in self.names if name.half == half)) for half in (0, 1)
        )

    @property
    def _judged(self) -> list[JudgedName]:
        return [name for name in self.names if name.is_named and name.naming is not None]

    def to_json(self) -> dict[str, Any]:
        """`named`, `right_of_named` and `same_of_named` are shares, `specificity` is a mean;
        `halves` holds the first two for either half of the head nouns."""
        return {
            "halves": [
                {"named": half.named.to_json(), "right_of_named": half.right.to_json()}
                for half in self.halves
            ],
            "named": self.named.to_json(),
            "right_of_named": self.right.to_json(),
            "same_of_named": self.same.to_json(),
            "specificity": self.specificity.to_json(),
        }

    def rows(self, what: str) -> list[list[str]]:
        """The rows of a table for people; `what` has the names: "captions"."""
        return [
            [f"{what}: name a thing or kind", str(self.named)],
            ["  of those, right by WordNet", str(self.right)],
            ["  of those, the same or a synonym", str(self.same)],
            ["  specificity of the names", str(self.specificity)],
            ["  named, by half of the head nouns", ", ".join(str(h.named) for h in self.halves)],
            ["  of those, right", ", ".join(str(h.right) for h in self.halves)],
        ]
