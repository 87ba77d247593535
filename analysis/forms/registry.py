"""The registry of the forms a scaling law can take.

A further form is one entry of `FORMS`: a `SumOfTerms`, or any class with the attributes and methods of `Form`.
"""

from typing import Protocol

from analysis.arrays import FloatArray
from analysis.forms.joint_terms import EffectiveData, PowerOfSum
from analysis.forms.m4 import M4
from analysis.forms.power_terms import BrokenPower, Power, SaturatingPower
from analysis.forms.sums import SumOfTerms
from analysis.forms.terms import Parameter
from scaling.errors import ConfigError


class Form(Protocol):
    """What the fitter asks of a form. Legend of shapes: R replicates, S starts, P parameters, A axes, M runs.

    Forms see every axis as a centred logarithm (log N minus its mean over the runs) and the loss divided by its
    geometric mean, so that starts, bounds and step sizes mean the same for any table; `public` turns the result back
    into the user's units. Axes in `uncentred` are not centred.
    """

    @property
    def name(self) -> str:
        """The name it is found by."""

    @property
    def formula(self) -> str:
        """The law as a reader would write it, e.g. `E + A / N^alpha`."""

    @property
    def source(self) -> str:
        """Paper and equation."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes in the order in which `evaluate` wants their rows, e.g. ("N", "D"); keys of `tables.AXES`."""

    @property
    def uncentred(self) -> tuple[str, ...]:
        """Axes whose logarithms are not centred, since the form is not a power of them."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the order of theta's columns."""

    def along(self, axis: str) -> "Form":
        """The same form on another axis; raises ConfigError where the form has more than one."""

    def evaluate(self, theta: FloatArray, logs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Loss (R, M) and its derivatives (R, P, M) for theta (R, P) at centred logs (A, M)."""

    def starts(self, logs: FloatArray, loss: FloatArray, weights: FloatArray) -> FloatArray:
        """Start values (S, P) for scaled loss (M,) with weights (M,), best first."""

    def public(self, theta: FloatArray, centre: FloatArray, scale: float) -> FloatArray:
        """Parameters (R, P) in the user's units, for log-axis means `centre` (A,) and loss scale."""


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        SumOfTerms(
            name="power",
            terms=(Power("A", "N", "alpha"),),
            floor=None,
            source="Hestness et al. 2017, arXiv:1712.00409, eq. 1 without its constant",
        ),
        SumOfTerms(
            name="power_floor",
            terms=(Power("A", "N", "alpha"),),
            floor="E",
            source="Hestness et al. 2017, arXiv:1712.00409, eq. 1",
        ),
        SumOfTerms(
            name="compute",
            terms=(Power("K", "C", "kappa"),),
            floor="E",
            source="L(C) of Kaplan et al. 2020, arXiv:2001.08361, eq. 1.3, with a floor as Henighan et al. 2020, "
            "arXiv:2010.14701, eq. 1.1",
        ),
        SumOfTerms(
            name="m3",
            terms=(SaturatingPower("A", "N", "g", "alpha"),),
            floor=None,
            source="M3 of Alabdulmohsin et al. 2022, arXiv:2209.06640",
        ),
        M4(
            name="m4",
            axis="N",
            source="M4 of Alabdulmohsin et al. 2022, arXiv:2209.06640",
        ),
        SumOfTerms(
            name="bnsl1",
            terms=(BrokenPower("A", "N", breaks=1),),
            floor="E",
            source="Caballero et al. 2023, arXiv:2210.14891, eq. 1, one break",
        ),
        SumOfTerms(
            name="bnsl2",
            terms=(BrokenPower("A", "N", breaks=2),),
            floor="E",
            source="Caballero et al. 2023, arXiv:2210.14891, eq. 1, two breaks",
        ),
        SumOfTerms(
            name="chinchilla",
            terms=(Power("A", "N", "alpha"), Power("B", "D", "beta")),
            floor="E",
            source="Hoffmann et al. 2022, arXiv:2203.15556, eq. 2",
        ),
        SumOfTerms(
            name="shared_exponent",
            terms=(Power("A", "N", "alpha"), Power("B", "D", "alpha")),
            floor="E",
            source="chinchilla with one exponent for both axes; the case in which N* and D* grow alike",
        ),
        SumOfTerms(
            name="kaplan",
            terms=(PowerOfSum(fixed_data_power=True),),
            floor=None,
            source="Kaplan et al. 2020, arXiv:2001.08361, eq. 1.5",
        ),
        SumOfTerms(
            name="gamma",
            terms=(PowerOfSum(fixed_data_power=False),),
            floor="E",
            source="contains chinchilla (gamma = 1) and kaplan (E = 0 and beta = 1)",
        ),
        SumOfTerms(
            name="data_constrained",
            terms=(Power("A", "N", "alpha"), EffectiveData("B", "beta", "R")),
            floor="E",
            source="Muennighoff et al. 2023, arXiv:2305.16264, sec. 3, with repeated data alone",
        ),
        SumOfTerms(
            name="width_depth_data",
            terms=(Power("A_w", "width", "a"), Power("A_d", "depth", "b"), Power("B", "D", "beta")),
            floor="E",
            source="McLeish et al. 2025 (Gemstones), arXiv:2502.06857; without a term in N, with which it degenerates",
        ),
    )
}


def find_form(name: str, axis: str | None = None) -> Form:
    """The form called `name`, a one-axis form moved to `axis` if given.

    Raises:
        ConfigError: if the name is unknown, or an axis is given for a form that has two.
    """
    if name not in FORMS:
        raise ConfigError(f"form={name} is not supported; choose one of {', '.join(FORMS)}")
    return FORMS[name] if axis is None else FORMS[name].along(axis)
