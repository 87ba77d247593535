"""What a trained run is good for: as a calculator, in relaxations, and judged by the metrics of OC20."""

from scaling.use.calculator import TrainedCalculator, TrainedPotential
from scaling.use.evaluation import FMAX, IS2RS, MAX_STEPS, S2EF, Estimate, atoms_of, is2rs, require_same_labels, s2ef
from scaling.use.oracle import ORACLES, oracle_of
from scaling.use.relaxation import ForceField, Relaxation, by_calculator, relax

__all__ = [
    "FMAX",
    "IS2RS",
    "MAX_STEPS",
    "ORACLES",
    "S2EF",
    "Estimate",
    "ForceField",
    "Relaxation",
    "TrainedCalculator",
    "TrainedPotential",
    "atoms_of",
    "by_calculator",
    "is2rs",
    "oracle_of",
    "relax",
    "require_same_labels",
    "s2ef",
]
