"""The limits of the house: files, functions and folders that one can still overlook, and names that hide no module."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("analysis", "scaling", "experiments", "hydra_plugins")
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 60
MOST_FILES = 14
REGISTRIES = {"scaling/data/sources": 30, "experiments/bench": 30}
"""Folders of one file an entry."""


def files() -> list[Path]:
    return sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def lines_of_functions(source: str) -> dict[str, int]:
    """Lines of each function, decorators not counted."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[f"{node.name}:{node.lineno}"] = (node.end_lineno or node.lineno) - node.lineno + 1
    return found


def names_of(source: str, package: str) -> set[str]:
    """What a package's __init__ defines, imports or lists in __all__, but for its own modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module != package:
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
                found |= set(ast.literal_eval(node.value))
    return found


def imports_past_a_face(source: str, room: str) -> set[str]:
    """Modules of other rooms of analysis from which the source imports names, or which it imports by themselves."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {node.module} | {name for name in named if (ROOT / f"{name.replace('.', '/')}.py").exists()}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    parts = {name: name.split(".") for name in found}
    return {name for name, (top, *way) in parts.items() if top == "analysis" and len(way) > 1 and way[0] != room}


#: Modules of scaling that are used past their room's face, and why.
PAST_THE_FACE = {
    "scaling.data.neighbors": "its library brings torch, of which the face is free",
    "scaling.data.sources.emt": "its labels judge relaxations",
    "scaling.models.activations": "one number of bytes",
    "scaling.models.triplets.config": "free of torch, as the families' own",
    "scaling.models.triplets.layers": "brings torch",
    "scaling.models.config": "of scaling.config alone, which composes schemas without torch",
    "scaling.optim.config": "of scaling.config alone, which composes schemas without torch",
}


def rooms_of_scaling() -> set[str]:
    faces = [face for face in (ROOT / "scaling").rglob("__init__.py") if "__all__" in face.read_text()]
    return {".".join(face.parent.relative_to(ROOT).parts) for face in faces} - {"scaling"}


def imports_past_a_face_of_scaling(source: str, own: str) -> set[str]:
    """What the source, of package `own`, imports from inside other rooms of scaling although they export it."""
    rooms, found = rooms_of_scaling(), set()
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.ImportFrom) and node.module):
            continue
        room = node.module.rpartition(".")[0]
        is_inside = own == room or own.startswith(f"{room}.")
        if room in rooms and node.module not in rooms and not is_inside:
            found.add(node.module)
    return found - PAST_THE_FACE.keys()


def modules_of(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}


def test_no_file_is_longer_than_a_reader_can_hold():
    lines = {name_of(file): len(file.read_text().splitlines()) for file in files()}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}


def test_every_function_fits_on_a_screen():
    long = {
        f"{name_of(file)}:{name}": count
        for file in files()
        for name, count in lines_of_functions(file.read_text()).items()
        if count > MOST_LINES_OF_A_FUNCTION
    }
    assert not long


def test_long_function_is_seen():
    body = "\n".join("    x = 1" for _ in range(MOST_LINES_OF_A_FUNCTION))
    assert max(lines_of_functions(f"def one():\n{body}\n").values()) == MOST_LINES_OF_A_FUNCTION + 1


def test_no_folder_has_more_files_than_one_can_overlook():
    counts: dict[str, int] = {}
    for file in files():
        folder = name_of(file.parent)
        counts[folder] = counts.get(folder, 0) + 1
    assert not {folder: count for folder, count in counts.items() if count > REGISTRIES.get(folder, MOST_FILES)}


@pytest.mark.parametrize("face", [file for file in files() if file.name == "__init__.py"], ids=name_of)
def test_no_name_of_a_package_hides_one_of_its_modules(face):
    package = ".".join(face.parent.relative_to(ROOT).parts)
    assert not names_of(face.read_text(), package) & modules_of(face.parent)


@pytest.mark.parametrize(
    ("source", "hidden"),
    [
        ("from analysis.tables.load import load_runs", set()),
        ("from analysis.compute.frontier import frontier as tables", {"tables"}),
        ("def plots():\n    pass", {"plots"}),
        ('__all__ = ["fit", "texts"]', {"texts"}),
        ("from analysis import tables", set()),
    ],
)
def test_name_that_hides_a_module_is_seen(source, hidden):
    assert names_of(source, "analysis") & modules_of(ROOT / "analysis") == hidden


@pytest.mark.parametrize("face", sorted((ROOT / "analysis").glob("*/__init__.py")), ids=name_of)
def test_what_a_room_of_analysis_exports_is_there(face):
    room = importlib.import_module(f"analysis.{face.parent.name}")
    assert room.__all__
    assert all(hasattr(room, name) for name in room.__all__)


@pytest.mark.parametrize("file", [file for file in files() if name_of(file).startswith("analysis/")], ids=name_of)
def test_room_of_analysis_uses_what_others_export(file):
    room = file.relative_to(ROOT / "analysis").parts[0]
    assert not imports_past_a_face(file.read_text(), room)


@pytest.mark.parametrize(
    ("source", "past"),
    [
        ("from analysis.fitting import Law", set()),
        ("from analysis.forms.terms import Parameter", set()),
        ("from analysis.texts import size_text", set()),
        ("from analysis.fitting.law import Law", {"analysis.fitting.law"}),
        ("def one():\n    from analysis.plots.laws.curves import plot_curves", {"analysis.plots.laws.curves"}),
        ("from analysis.fitting import law", {"analysis.fitting.law"}),
        ("import analysis.tables.load", {"analysis.tables.load"}),
    ],
)
def test_import_past_the_face_of_a_room_is_seen(source, past):
    assert imports_past_a_face(source, "forms") == past


@pytest.mark.parametrize(
    "file", [file for file in files() if not name_of(file).startswith(("analysis/", "experiments/bench/"))], ids=name_of
)
def test_room_of_scaling_is_entered_by_its_face(file):
    own = ".".join(file.parent.relative_to(ROOT).parts)
    assert not imports_past_a_face_of_scaling(file.read_text(), own)


@pytest.mark.parametrize(
    ("source", "past"),
    [
        ("from scaling.runs import RunDir", set()),
        ("from scaling.data.neighbors import neighbor_list", set()),
        ("from scaling.training.loop import train", set()),
        ("from scaling.runs.store import RunDir", {"scaling.runs.store"}),
        ("def one():\n    from scaling.launch.pool import slots", {"scaling.launch.pool"}),
    ],
)
def test_import_past_the_face_of_a_room_of_scaling_is_seen(source, past):
    assert imports_past_a_face_of_scaling(source, "scaling.training") == past
