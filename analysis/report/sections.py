"""What a report says, before it is set: sections of sentences and tables, for a terminal and a page alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Mark = Literal["", "law", "law none", "yes", "no", "caution"]


@dataclass(frozen=True)
class Sentence:
    """A sentence or two; `mark` says what it is: a law, a claim that holds or does not, a caution."""

    text: str
    mark: Mark = ""


@dataclass(frozen=True)
class Cell:
    """A number in a table: how it is written, and what its column is sorted by."""

    text: str
    number: float


@dataclass(frozen=True)
class Table:
    """Rows of text or `Cell`s below a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]

    def without_empty_end(self) -> "Table":
        """The same without its last column where no row has anything in that."""
        if any(row[-1] for row in self.rows):
            return self
        return Table(self.header[:-1], [row[:-1] for row in self.rows])


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it: sentences, the figures of a group, tables, terms, and sections of its own.

    Attributes:
        figures: the group of `analysis.plots.FIGURES` that a page shows here.
        terms: words and what they mean.
        link: where a page's heading leads.
    """

    title: str
    sentences: Sequence[Sentence] = ()
    tables: Sequence[Table] = ()
    parts: Sequence["Section"] = ()
    figures: str = ""
    terms: Mapping[str, str] = field(default_factory=dict)
    link: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands under the heading; figures are not counted."""
        return not (self.sentences or self.tables or self.parts or self.terms)


def plain(*texts: str) -> list[Sentence]:
    """Sentences without a mark."""
    return [Sentence(text) for text in texts]


def cautions_of(texts: Iterable[str]) -> list[Sentence]:
    """Sentences that are cautions."""
    return [Sentence(text, "caution") for text in texts]


def all_sentences(sections: Iterable[Section]) -> list[Sentence]:
    """The sentences of the sections and of all their parts."""
    found: list[Sentence] = []
    for section in sections:
        found += [*section.sentences, *all_sentences(section.parts)]
    return found


def number_cell(value: Any, style: str) -> str | Cell:
    """A number as a cell; text stays text, a missing number is a dash."""
    if isinstance(value, str):
        return value
    number = float(value) if value is not None else float("nan")
    return Cell(format(number, style), number) if np.isfinite(number) else Cell("–", 0.0)
