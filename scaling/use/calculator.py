"""A trained run as a potential: in batches for this project's own tools, and as an ASE calculator for everybody's.

atoms.calc = TrainedCalculator("studies/NAME/RUN")
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from safetensors import SafetensorError, safe_open

from scaling.data.loading import Graph, join
from scaling.errors import ConfigError, DataError, RunError
from scaling.models import Graphs, Potential
from scaling.runs import BEST_WEIGHTS, RunDir
from scaling.structure import FloatArray
from scaling.training import Constants, to_graphs

#: Edges that go through the network at once; a structure is never cut.
MAX_EDGES = 40_000


class TrainedPotential:
    """The network of a run that is done, with the weights it was tested with, in float32.

    Called with structures it gives their energies (G,) eV, less the references of `constants`, and forces (N, 3)
    eV/angstrom, atoms one after another: a `scaling.use.relaxation.ForceField`.

    Attributes:
        run: its directory. config: of the run. constants: of its training structures.
    """

    def __init__(self, path: str | Path, *, device: str | None = None) -> None:
        """Read a run.

        Args:
            path: studies/NAME/RUN. device: as torch calls it; None: the GPU if there is one.
        Raises:
            RunError: if there is no such run, it is not done, or a file of it is damaged.
            ConfigError: if there is no such device.
        """
        self.run = RunDir(Path(path))
        if not self.run.config_path.exists():
            raise RunError(f"{path} is not a run; name the directory of one: studies/NAME/RUN")
        status = self.run.status()
        if status.state != "done":
            raise RunError(
                f"{path} is {status.state} at step {status.step} of {status.num_steps or '?'}; train it to its end "
                "first, by the command that began it"
            )
        self.config = self.run.config()
        self.constants = Constants.read(self.run, self.config)
        self.device = _device(device)
        self._potential = self.constants.build(self.config)
        _load(self._potential, self.run.checkpoints / BEST_WEIGHTS)
        self._potential.eval().to(self.device)
        self._element_of_z = np.full(256, -1)
        self._element_of_z[list(self.constants.elements)] = np.arange(len(self.constants.elements))

    def __call__(self, systems: Sequence[Atoms]) -> tuple[FloatArray, FloatArray]:
        energies, forces = [], []
        with torch.no_grad():
            for graphs in self._batches(systems):
                energy_G, forces_N3 = self._potential(graphs.to(self.device))
                energies.append(energy_G.double().cpu().numpy())
                forces.append(forces_N3.double().cpu().numpy())
        return np.concatenate(energies), np.concatenate(forces)

    def references_ev(self, systems: Sequence[Atoms], part: str = "") -> FloatArray:
        """(G,) what the energies leave out: the sum of reference energies of a structure's atoms.

        Args:
            part: of a mixed set, the name of the one whose level of theory is meant.
        Raises:
            RunError: if the part has to be named, or is none.
        """
        parts = self.constants.parts
        if part not in parts and (part or len(parts) > 1):
            raise RunError(
                f"part={part or None} must be one of {', '.join(parts)}, on which {self.run.path} was trained: their "
                "energies have zeros of their own"
            )
        reference = np.array(self.constants.reference_ev[parts.index(part) if part else 0])
        return np.array([reference[self._elements(atoms)].sum() for atoms in systems])

    def _batches(self, systems: Sequence[Atoms]) -> Iterator[Graphs]:
        waiting: list[Graph] = []
        num_edges = 0
        for atoms in systems:
            graph = Graph.of(
                self._elements(atoms), atoms.positions, atoms.cell, atoms.pbc, cutoff_ang=self.config.data.cutoff_ang
            )
            if waiting and num_edges + graph.num_edges > MAX_EDGES:
                yield to_graphs(join(waiting))
                waiting, num_edges = [], 0
            waiting.append(graph)
            num_edges += graph.num_edges
        if waiting:
            yield to_graphs(join(waiting))

    def _elements(self, atoms: Atoms) -> Any:
        elements = self._element_of_z[atoms.numbers]
        if (elements < 0).any():
            unknown = sorted(set(np.array(atoms.get_chemical_symbols())[elements < 0]))
            raise DataError(
                f"{self.run.path} was not trained on {', '.join(unknown)}; it knows the atomic numbers "
                f"{', '.join(map(str, self.constants.elements))}"
            )
        return elements


class TrainedCalculator(Calculator):
    """ASE's view of a trained run: total energies (eV, the data's own zero) and forces (eV/angstrom).

    Args:
        path: studies/NAME/RUN. part: of a run trained on several sets, the name of the one whose energies are meant.
        device: as torch calls it; None: the GPU if there is one.
    Raises:
        RunError: if there is no such run or part, or the run is not done.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def __init__(self, path: str | Path, *, part: str = "", device: str | None = None) -> None:
        super().__init__()
        self.potential = TrainedPotential(path, device=device)
        self.part = part
        self.potential.references_ev([], part)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill `results` with all of `implemented_properties`."""
        super().calculate(atoms, properties, system_changes)
        energies, forces = self.potential([self.atoms])
        energy = float(energies[0] + self.potential.references_ev([self.atoms], self.part)[0])
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}


def _device(name: str | None) -> torch.device:
    is_there = torch.cuda.is_available()
    if name is None:
        return torch.device("cuda" if is_there else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name} is none of torch's: cpu, cuda or cuda:1") from error
    if device.type == "cuda" and not is_there:
        raise ConfigError(f"device {name} is not here: torch sees no GPU; leave it out to take what there is")
    return device


def _load(potential: Potential, weights: Path) -> None:
    try:
        with safe_open(weights, "pt") as file, torch.no_grad():
            for name, parameter in potential.named_parameters():
                parameter.copy_(file.get_tensor(name))
    except (OSError, SafetensorError, RuntimeError) as error:
        remedy = f"restore it, or remove {weights.parents[1]} and train it again"
        raise RunError(f"{weights} cannot be used ({error}); {remedy}") from error
