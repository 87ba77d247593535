"""The parametric forms that a scaling law can take, with derivatives, start values and names in the user's units."""

from analysis.forms.power_terms import Power
from analysis.forms.registry import FORMS, Form, find_form
from analysis.forms.sums import SumOfTerms
from analysis.forms.terms import Parameter

__all__ = [
    "FORMS",
    "Form",
    "Parameter",
    "Power",
    "SumOfTerms",
    "find_form",
]
