"""Sections as text for a terminal."""

from collections.abc import Iterable

from analysis.report.sections import Cell, Section, Sentence, Table

MARKS = {"yes": "✓ ", "no": "✗ ", "caution": "Caution. "}


def to_text(sections: Iterable[Section]) -> str:
    """Headings, indented sentences and tables; an empty line between sections, none for sections without words."""
    return "\n\n".join("\n".join(_lines(section, "#")) for section in sections if not section.is_empty)


def _lines(section: Section, level: str) -> list[str]:
    lines = [f"{level} {section.title}"] if section.title else []
    lines += [f"  {_words(sentence)}" for sentence in section.sentences]
    for place, table in enumerate(section.tables):
        lines += [*([""] if place else []), *_table_lines(table)]
    lines += [f"  {name}: {meaning}" for name, meaning in section.terms.items()]
    for part in section.parts:
        lines += ["", *_lines(part, f"{level}#")]
    return lines


def _words(sentence: Sentence) -> str:
    return MARKS.get(sentence.mark, "") + sentence.text


def _table_lines(table: Table) -> list[str]:
    """Columns side by side: numbers to the right, words to the left."""
    if not table.rows:
        return []
    rows = [[cell.text if isinstance(cell, Cell) else cell for cell in row] for row in table.rows]
    columns = list(zip(*[list(table.header), *rows], strict=True))
    widths = [max(map(len, column)) for column in columns]
    to_right = [all(_is_number(text) for text in column[1:]) for column in columns]
    return [
        "  "
        + "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, to_right, strict=True)
        ).rstrip()
        for row in ([*table.header], *rows)
    ]


def _is_number(text: str) -> bool:
    return not text or text[0] in "0123456789+-–."
