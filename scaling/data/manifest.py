"""What a prepared directory holds: the one JSON file that stands for it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from scaling.errors import DataError
from scaling.runs import write_json
from scaling.structure import OPTIONAL

MANIFEST = "manifest.json"
GROUPS = "groups.jsonl"
COPIES = "copies.jsonl"
REJECTED = "rejected.jsonl"
FORMAT = 4
#: The format before: every structure has an energy and forces.
FORMER_FORMAT = 3


@dataclass(frozen=True)
class ShardFile:
    """One HDF5 file of the directory."""

    file: str
    num_structures: int
    num_atoms: int
    sha256: str
    bytes: int


@dataclass(frozen=True)
class SourceFile:
    """One file that was read, by name (not path: the same file elsewhere is the same source)."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class NotRead:
    """What lies beside the files that were read, of one kind (a suffix, `hidden folder`), and the first by name."""

    kind: str
    count: int
    example: str


@dataclass(frozen=True)
class Source:
    """Where the structures came from: a registered source, its configuration, the files it read and those it did not.

    Manifests from before `not_read` was kept do not have it.
    """

    name: str
    config: Mapping[str, Any]
    files: tuple[SourceFile, ...]
    not_read: tuple[NotRead, ...] = ()


@dataclass(frozen=True)
class Part:
    """A set that was mixed in: the digest of its own, and the weight of its structures in the training loss."""

    name: str
    weight: float
    digest: str


@dataclass(frozen=True)
class Rejected:
    """A record that was left out, and why; `reason` is one of few words, `detail` says what was found."""

    record: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Consistency:
    """Over pairs of neighbouring structures: the slope of dE against what the labels say, and how far signs agree.

    The labels say -dx . (F + F') / 2 where atoms have moved, V (stress + stress') / 2 : strain where the cell has;
    there dE is what is left of it after the work of forces on atoms that have moved beside the strain.

    agreement: share of pairs of equal sign less that of opposite sign. num_pairs may be 0 (no neighbours in the data);
    slope and agreement are then null.
    """

    num_pairs: int
    slope: float | None
    agreement: float | None


@dataclass(frozen=True)
class CutGroup:
    """A group, by its stored id, that is too large for a split and cut into blocks of consecutive structures.

    length, gap: of a block, and between training and judged structures, in structures as they are stored.
    correlation: what is left of it between structures `gap` apart, from 0 (like any two of the group) to 1 (equal);
        null where it was not measured.
    """

    group: int
    length: int
    gap: int
    correlation: float | None


@dataclass(frozen=True)
class Blocks:
    """How groups are cut: their blocks are split like groups. groups: by ascending id. num_blocks: of all of them."""

    groups: tuple[CutGroup, ...]
    num_blocks: int


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation and extremes of one quantity, its unit in the name of the field that holds it."""

    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True)
class ElementStatistics:
    """Of one element: in how many structures and atoms it occurs, and the size of its forces (None: it has none)."""

    num_structures: int
    num_atoms: int
    force_rms_ev_per_ang: float | None


@dataclass(frozen=True)
class Statistics:
    """Spread of the labels: total energy per atom, force norms, forces by chemical symbol, and pressure, which is minus
    a third of the stress's trace. None where no structure has the label."""

    energy_ev_per_atom: Spread | None
    force_norm_ev_per_ang: Spread | None
    force_component_rms_ev_per_ang: float | None
    elements: Mapping[str, ElementStatistics]
    pressure_gpa: Spread | None = None


@dataclass(frozen=True)
class Manifest:
    """Counts, units, origin and checksums of a prepared directory.

    index: the file that holds a row for every structure. groups: the file of the groups' names.
    parts: what was mixed; one where nothing was.
    elements: atomic numbers Z that occur, ascending. holdouts: names by their stored index; 0 is "" (split freely).
    digest: names the content (arrays in order, cutoff, holdout names), whatever the sharding, machine or time.
    num_duplicates: structures dropped because a copy of them, of equal geometry and labels, was kept.
    labels: how many structures have each of `scaling.structure.OPTIONAL`. num_states: different pairs of charge and
    spin, of which networks see nothing.
    copies: the file that lists what was dropped, and of what it is a copy; None if nothing was.
    stress_consistency: of energies and stress, as `consistency` is of energies and forces.
    num_rejected: records left out, by reason. rejected: the first of them of each reason; all are in the file
        `rejected.jsonl`, which is there if there are any.
    blocks: how groups are cut that a split could not do with whole; null where none is.
    notes: of how many structures the reader has each thing to say, e.g. that a key that is set is not there.
    """

    digest: str
    num_structures: int
    num_atoms: int
    num_edges: int
    num_groups: int
    elements: tuple[int, ...]
    units: Mapping[str, str]
    cutoff_ang: float
    holdouts: tuple[str, ...]
    shards: tuple[ShardFile, ...]
    index: ShardFile
    groups: ShardFile
    parts: tuple[Part, ...]
    source: Source
    validation: Mapping[str, float]
    num_rejected: Mapping[str, int]
    rejected: tuple[Rejected, ...]
    num_duplicates: int
    consistency: Consistency
    statistics: Statistics
    created_by: str
    labels: Mapping[str, int]
    num_states: int = 1
    copies: ShardFile | None = None
    stress_consistency: Consistency = Consistency(0, None, None)
    format: int = FORMAT
    blocks: Blocks | None = None
    notes: Mapping[str, int] = field(default_factory=dict)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json in one step.

    Raises:
        OSError: if the directory cannot be written.
    """
    write_json(directory / MANIFEST, asdict(manifest))


def read_manifest(directory: Path) -> Manifest:
    """Read manifest.json of a prepared directory.

    Raises:
        DataError: if there is no such directory or file, or its content is not a manifest of this format.
    """
    path = directory / MANIFEST
    if not directory.is_dir():
        raise DataError(f"{directory} is not a directory; prepare it with `python -m experiments.prepare`")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(
            f"{directory} holds no {MANIFEST}, so it is not a prepared data set (or its preparation was interrupted); "
            f"run `python -m experiments.prepare source=NAME out={directory}`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON ({error}); prepare the data again") from error
    found = raw.get("format") if isinstance(raw, dict) else None
    if found not in (FORMAT, FORMER_FORMAT):
        raise DataError(
            f"{path} has format {found!r}; this version reads formats {FORMER_FORMAT} and {FORMAT}; "
            "prepare the data again"
        )
    try:
        return _from_dict(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not a whole manifest ({error!r}); prepare the data again") from error


def group_id(name: str) -> int:
    """The stored id of a group's key: its 64-bit hash, so that every source and version gives the same."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


def group_names(directory: str | Path) -> dict[int, str]:
    """Read the names of the groups of a prepared directory by their stored id, for reports.

    Raises:
        DataError: if the table is missing or damaged.
    """
    path = Path(directory) / GROUPS
    names: dict[int, str] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                group, name = json.loads(line)
                names[int(group)] = str(name)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the data again") from error
    return names


def _blocks(raw: Mapping[str, Any] | None) -> Blocks | None:
    return Blocks(tuple(CutGroup(**entry) for entry in raw["groups"]), raw["num_blocks"]) if raw else None


def _from_dict(raw: dict[str, Any]) -> Manifest:
    """The inverse of `asdict`."""
    if unknown := raw.keys() - {field.name for field in fields(Manifest)}:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    source, statistics = raw["source"], raw["statistics"]
    if raw["format"] == FORMER_FORMAT:
        raw = {"labels": dict.fromkeys(OPTIONAL, 0) | dict.fromkeys(("energy", "forces"), raw["num_structures"]), **raw}
    elements = {symbol: ElementStatistics(**entry) for symbol, entry in statistics["elements"].items()}
    spreads = {name: entry for name, entry in statistics.items() if name != "elements"}
    spreads |= {name: Spread(**entry) for name, entry in spreads.items() if isinstance(entry, dict)}
    nested = {
        "elements": tuple(int(z) for z in raw["elements"]),
        "holdouts": tuple(raw["holdouts"]),
        "shards": tuple(ShardFile(**entry) for entry in raw["shards"]),
        "index": ShardFile(**raw["index"]),
        "groups": ShardFile(**raw["groups"]),
        "parts": tuple(Part(**entry) for entry in raw["parts"]),
        "consistency": Consistency(**raw["consistency"]),
        "rejected": tuple(Rejected(**entry) for entry in raw["rejected"]),
        "blocks": _blocks(raw.get("blocks")),
        "source": Source(
            source["name"],
            source["config"],
            tuple(SourceFile(**entry) for entry in source["files"]),
            tuple(NotRead(**entry) for entry in source.get("not_read", ())),
        ),
        "statistics": Statistics(**{**spreads, "elements": elements}),
    }
    if raw.get("copies") is not None:
        nested["copies"] = ShardFile(**raw["copies"])
    if "stress_consistency" in raw:
        nested["stress_consistency"] = Consistency(**raw["stress_consistency"])
    return Manifest(**{**raw, **nested})
