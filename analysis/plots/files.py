"""A figure as a file."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from analysis.plots.style import save_bytes
from scaling.errors import ConfigError
from scaling.runs.files import write_atomic

ENDINGS = ("png", "svg", "pdf")


@dataclass(frozen=True)
class Picture:
    """A figure that was written to `path`; Jupyter shows it where it is the value of a cell."""

    path: Path
    preview: bytes

    def __repr__(self) -> str:
        return str(self.path)

    def _repr_png_(self) -> bytes:
        return self.preview


def save(figure: Figure, path: str | Path) -> Picture:
    """Write the figure, as the path's ending says, whole or not at all.

    Raises:
        ConfigError: if the ending is none of ENDINGS.
    """
    target = Path(path)
    kind = check_ending(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    contents = save_bytes(figure, kind, target.stem)
    write_atomic(target, contents)
    return Picture(target, contents if kind == "png" else save_bytes(figure, "png", target.stem))


def check_ending(path: Path) -> str:
    """The kind of picture that the file's ending asks for.

    Raises:
        ConfigError: if it is none of ENDINGS.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ENDINGS:
        raise ConfigError(f"{path}: ending {path.suffix or 'none'} must be one of .{', .'.join(ENDINGS)}")
    return kind
