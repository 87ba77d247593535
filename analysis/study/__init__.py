"""What a table as a whole says: results on demand, laws of several kinds side by side, other conventions, sentences."""

from analysis.study.contrast import LOSS, Contrast, contrasts, difference_interval, verdicts
from analysis.study.document import (
    conventions,
    document_without_law,
    interval_sentence,
    law_document,
    strict,
    write_document,
)
from analysis.study.findings import (
    COST,
    DECISIONS,
    LAW,
    NEXT,
    TRUST,
    TUNING,
    Reference,
    best_run_sentence,
    find_baseline,
    headline,
    verdict_sentences,
)
from analysis.study.groups import ASSUMPTIONS, Groups, group_runs
from analysis.study.learning_rate import LearningRates, find_learning_rates
from analysis.study.results import Results, SingleAxisFit, laws_of, problems_of
from analysis.study.variants import Variant, fit_variants

__all__ = [
    "ASSUMPTIONS",
    "COST",
    "DECISIONS",
    "LAW",
    "LOSS",
    "NEXT",
    "TRUST",
    "TUNING",
    "Contrast",
    "Groups",
    "LearningRates",
    "Reference",
    "Results",
    "SingleAxisFit",
    "Variant",
    "best_run_sentence",
    "contrasts",
    "conventions",
    "difference_interval",
    "document_without_law",
    "find_baseline",
    "find_learning_rates",
    "fit_variants",
    "group_runs",
    "headline",
    "interval_sentence",
    "law_document",
    "laws_of",
    "problems_of",
    "strict",
    "verdict_sentences",
    "verdicts",
    "write_document",
]
