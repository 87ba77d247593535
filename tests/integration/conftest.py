"""Reports whose figures are made but not painted, which is most of a report's time; with --thorough all are painted."""

import pytest
from matplotlib.figure import Figure

#: What stands for a painted figure.
STUBS = {"png": b"\x89PNG", "svg": b"<svg/>", "pdf": b"%PDF"}


@pytest.fixture
def unpainted(request, monkeypatch) -> None:
    """No figure is painted: for tests of what a report says."""
    _leave_out({"png", "svg", "pdf"}, request, monkeypatch)


@pytest.fixture
def painted_once(request, monkeypatch) -> None:
    """Figures are painted as SVG and not as PNG again: for tests of whether they can be painted."""
    _leave_out({"png"}, request, monkeypatch)


def _leave_out(kinds: set[str], request, monkeypatch) -> None:
    if request.config.getoption("--thorough"):
        return
    savefig = Figure.savefig

    def save(self, target, *, format, **options):
        if format in kinds:
            target.write(STUBS[format])
        else:
            savefig(self, target, format=format, **options)

    monkeypatch.setattr(Figure, "savefig", save)
