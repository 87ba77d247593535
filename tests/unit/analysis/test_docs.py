"""docs/analysis.md says what the code does."""

from pathlib import Path

from analysis.forms.registry import FORMS
from analysis.plots import FIGURES

PAGE = (Path(__file__).parents[3] / "docs" / "analysis.md").read_text()


def forms_table():
    lines = ["| form | L = | parameters | source |", "|---|---|---|---|"]
    for form in FORMS.values():
        names = ", ".join(f"`{parameter.name}`" for parameter in form.parameters)
        lines.append(f"| `{form.name}` | `{form.formula}` | {names} | {form.source} |")
    return "\n".join(lines)


def test_table_of_forms_is_that_of_the_registry():
    assert forms_table() in PAGE, f"put this table into docs/analysis.md:\n\n{forms_table()}"


def test_every_figure_is_described():
    missing = [name for name in FIGURES if f"| `{name}` |" not in PAGE]
    assert not missing, f"docs/analysis.md lacks figures: {missing}"
