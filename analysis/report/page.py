"""What a page is made of; the template sets it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Remark:
    """A sentence on the page; `mark` says how it is set."""

    text: str
    mark: Literal["", "law", "law none", "yes", "no", "caution"] = ""


@dataclass(frozen=True)
class PageTable:
    """A table on the page; a cell is text, or (text, number to sort by). Remarks stand below it, its title may link."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    remarks: Sequence[Remark] = ()
    link: str = ""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it: remarks, then the figures of a group of `FIGURES`, then tables, then terms.

    A section with nothing under it is not shown.
    """

    title: str
    remarks: Sequence[Remark] = ()
    group: str = ""
    tables: Sequence[PageTable] = ()
    terms: dict[str, str] = field(default_factory=dict)


def number_cell(value: Any, style: str) -> Any:
    """A number as (text, number); text stays text, a missing number is a dash."""
    if isinstance(value, str):
        return value
    number = float(value) if value is not None else float("nan")
    return (format(number, style), number) if np.isfinite(number) else ("–", 0.0)


def without_empty_column(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[list[str], list[list[Any]]]:
    """Header and rows, less the last column where no row has anything in it."""
    keep = len(header) if any(row[-1] for row in rows) else len(header) - 1
    return list(header[:keep]), [list(row[:keep]) for row in rows]
