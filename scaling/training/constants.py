"""What a trained network needs besides its weights: numbers that were fitted to the run's own training structures."""

from dataclasses import asdict, dataclass

from scaling.config import RunConfig
from scaling.errors import RunError
from scaling.models import Potential, build
from scaling.runs import RunDir, read_json, write_json
from scaling.training.task import Task


@dataclass(frozen=True)
class Constants:
    """constants.json of a run, so that its network can be used where its data are not.

    elements: atomic numbers Z, in the network's order. parts: names of the sets that were mixed, one where none were.
    reference_ev: of each part, the energy of an atom of each element, which the network leaves out. mean_degree: mean
    number of neighbours. scale_ev: typical force, eV/angstrom; typical energy per atom, eV, where there are no forces.
    """

    elements: tuple[int, ...]
    parts: tuple[str, ...]
    reference_ev: tuple[tuple[float, ...], ...]
    mean_degree: float
    scale_ev: float

    @classmethod
    def of(cls, task: Task) -> "Constants":
        """Those of a run that learns from this."""
        manifest, baseline = task.shards.manifest, task.baseline
        references = tuple(tuple(map(float, row)) for row in baseline.reference_ev)
        names = tuple(part.name for part in manifest.parts)
        field = "force" if baseline.force_mae_ev_per_ang is not None else "energy"
        scale = task.train_loss.scale(field)
        assert scale is not None  # training structures have energies or forces
        return cls(manifest.elements, names, references, baseline.mean_degree, scale)

    @classmethod
    def read(cls, run: RunDir, config: RunConfig) -> "Constants":
        """Those a run has written; fitted again to its data if it did not, as runs of earlier versions.

        Raises:
            RunError: if the file is damaged, or the data are no longer those of the run.
            DataError: if the data are needed and cannot be read.
        """
        try:
            return read_json(run.constants_path, _from_json, remedy="remove it: it is made again from the data")
        except FileNotFoundError:
            task = Task.of(config)
            require_own_data(run, config, task.shards.manifest.digest)
            return cls.of(task)

    def write(self, run: RunDir) -> None:
        """Leave constants.json."""
        write_json(run.constants_path, asdict(self))

    def build(self, config: RunConfig, *, checkpointing: int = 0) -> Potential:
        """The run's network, its weights not yet those of the run."""
        return build(
            config.model,
            num_elements=len(self.elements),
            cutoff_ang=config.data.cutoff_ang,
            mean_degree=self.mean_degree,
            scale_ev=self.scale_ev,
            checkpointing=checkpointing,
        )


def require_own_data(run: RunDir, config: RunConfig, digest: str) -> None:
    """Refuse data that a run was not begun on; a copy of its directory is the same run.

    Raises:
        RunError: naming both.
    """
    own = config.data.digest or (run.result().data_digest if run.result_path.exists() else digest)
    if own != digest:
        raise RunError(
            f"{config.data.path}, of digest {digest[:16]}, is not what {run.path} was trained on; put its data there "
            f"again, of digest {own[:16]}"
        )


def _from_json(found: dict) -> Constants:  # type: ignore[type-arg]
    rows = tuple(tuple(map(float, row)) for row in found.pop("reference_ev"))
    elements, parts = tuple(map(int, found.pop("elements"))), tuple(found.pop("parts"))
    return Constants(elements=elements, parts=parts, reference_ev=rows, **found)
