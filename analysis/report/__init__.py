"""What a table of runs says: findings in sections, as text, as a page with figures, as data.

What draws figures is loaded when it is asked for, so that commands that print start without matplotlib.
"""

from typing import TYPE_CHECKING, Any

from analysis.report.comparison import comparison_findings
from analysis.report.decisions import decision_sections, decisions_text
from analysis.report.decisions_json import decisions_document
from analysis.report.findings import law_section, limits_section, study_findings
from analysis.report.parameters import estimates_section
from analysis.report.sections import Cell, Section, Sentence, Table, cautions_of, plain
from analysis.report.text import to_text
from analysis.report.trust import backtest_section

if TYPE_CHECKING:
    from analysis.report.pages import Report, write_comparison, write_report

__all__ = [
    "Cell",
    "Report",
    "Section",
    "Sentence",
    "Table",
    "backtest_section",
    "cautions_of",
    "comparison_findings",
    "decision_sections",
    "decisions_document",
    "decisions_text",
    "estimates_section",
    "law_section",
    "limits_section",
    "plain",
    "study_findings",
    "to_text",
    "write_comparison",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in ("Report", "write_comparison", "write_report"):
        from analysis.report import pages

        return getattr(pages, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
