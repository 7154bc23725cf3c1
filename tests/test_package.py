"""The promises of the package as a whole: its layers, its names, its import, and the page that maps it to the paper."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
import typing
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import kmixup

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "kmixup"

# From the ground up: a file imports only what stands above it. A folder stands for its files, which may import each
# other as long as no circle arises.
FLOORS = (
    *("lam", "_native", "native", "config", "structure", "cost", "assignment", "rectangles", "matching", "streams"),
    *("roles", "targets", "interpolation", "losses", "stats", "plan", "cutmix", "compiled", "samples"),
    *("arguments", "labels"),
    *(
        "mixup",
        "manifold",
        "coupling",
        "estimate",
        "style",
        "measure",
        "calibration",
        "geometry",
        "diagnosis",
        "diagnostics",
        "tuning",
        "theory",
    ),
    *("adapters", "experiments", "cli", "__main__"),
)
HEAVY = {"matplotlib", "torchvision", "sklearn", "pandas", "pydantic", "rich", "typer", "optuna", "ray", "joblib"}


def module(path: Path) -> str:
    return ".".join(("kmixup", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def floor(name: str) -> int:
    return FLOORS.index(name.split(".")[1])


def imports(path: Path) -> list[tuple[str, bool]]:
    """Absolute imports of a file, each with whether it runs on import."""
    tree = ast.parse(path.read_text())

    def deferred(node: ast.AST) -> bool:
        return isinstance(node, ast.FunctionDef) or (
            isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        )

    later = {inner for node in ast.walk(tree) if deferred(node) for inner in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node not in later) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.append((node.module or "", node not in later))
    return found


FILES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py" or path.parent != SOURCE)
MODULES = {module(path) for path in FILES}


def own_imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, wherever it does."""
    tree, found = ast.parse(path.read_text()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & MODULES) or {node.module}
    return found & MODULES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_only_what_stands_above_it(path):
    here = module(path)
    for there in own_imports(path):
        assert floor(there) <= floor(here), f"{here} -> {there}"


def test_no_files_import_each_other_in_a_circle():
    floors = [path for path in FILES if floor(module(path)) < floor("kmixup.cli")]
    graph = {module(path): own_imports(path) - {module(path)} for path in floors}
    order = TopologicalSorter(graph)
    order.prepare()


@pytest.mark.parametrize(
    "path", [path for path in FILES if floor(module(path)) < floor("kmixup.adapters")], ids=lambda p: p.name
)
def test_the_library_needs_only_torch_numpy_and_scipy(path):
    for name, at_import in imports(path):
        assert not (at_import and name.split(".")[0] in HEAVY), f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_tells_two_stories(path):
    assert len(path.read_text().splitlines()) <= 350


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_of_ours_are_imported_at_the_top(path):
    """But in commands, which import their family when they are called; and the core, which need not be there."""
    later = {name for name, at_import in imports(path) if name.startswith("kmixup") and not at_import}
    assert floor(module(path)) >= floor("kmixup.cli") or later <= {"kmixup._native"}


def test_all_lists_exactly_the_public_names():
    assert sorted(kmixup.__all__) == kmixup.__all__
    public = {name for name in vars(kmixup) if not name.startswith("_")}
    modules = {p.stem for p in SOURCE.glob("*.py")} | {p.name for p in SOURCE.iterdir() if p.is_dir()}
    assert public - modules == set(kmixup.__all__)


ALIASES = {"LamPer": "lam_per", "Metric": "metric", "Pairing": "pairing", "Solver": "solver"}


@pytest.mark.parametrize("name", sorted(set(kmixup.__all__) - ALIASES.keys()))
def test_every_public_name_is_documented(name):
    assert len(getattr(kmixup, name).__doc__ or "") > 40


@pytest.mark.parametrize("name", ALIASES)
def test_an_alias_annotates_the_argument_that_takes_it(name):
    assert typing.get_type_hints(kmixup.KMixup.__init__)[ALIASES[name]] == getattr(kmixup, name)


def test_importing_kmixup_imports_no_framework():
    code = "import sys, kmixup; print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torchvision", "sklearn", "matplotlib", "pandas", "lightning", "transformers", "timm"} & set(loaded)


def test_importing_kmixup_takes_little_longer_than_importing_torch():
    code = "import time, torch; t = time.process_time(); import kmixup; print(time.process_time() - t)"
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(runs) < 0.3


# --- PAPER.md ---------------------------------------------------------------------------------------------------------


def rows() -> list[list[str]]:
    table = (ROOT / "PAPER.md").read_text().split("## Statements")[1].split("## Deviations")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def tags() -> dict[str, str]:
    """Every ``Paper:`` paragraph of a docstring, with the symbol it belongs to."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                for tag in re.findall(r"^Paper: (.+?)(?:\n\n|\Z)", ast.get_docstring(node) or "", re.M | re.S):
                    found[" ".join(tag.split()).rstrip(".")] = f"{path.name}:{getattr(node, 'name', '')}"
    return found


def test_every_paper_tag_has_a_row():
    statements = [re.compile(rf"{re.escape(row[0])}(?!\d|[A-Za-z]\w)") for row in rows()]
    assert not {tag: where for tag, where in tags().items() if not any(said.match(tag) for said in statements)}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_every_row_names_things_that_exist(row):
    paper, code, test, status = row
    assert paper
    assert status
    for symbol in re.findall(r"`(kmixup[\w.]*)`", code):
        module, found = "kmixup", kmixup
        for part in symbol.split(".")[1:]:
            module = f"{module}.{part}"
            if not hasattr(found, part):
                importlib.import_module(module)
            found = getattr(found, part)
    for path in re.findall(r"`((?:src|tests|results|docs)/[\w./*-]+)`", code + test):
        assert list(ROOT.glob(path)), f"{path} does not exist"


@pytest.mark.slow
def test_the_wheel_holds_the_code_the_pages_the_recipes_and_the_type_marker(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        path.relative_to(SOURCE.parent).as_posix()
        for path in SOURCE.rglob("*")
        if path.suffix in {".css", ".html", ".js", ".py", ".toml"}
    }
    assert expected | {"kmixup/py.typed"} <= names
    assert list(tmp_path.glob("*.tar.gz"))


def test_the_workflow_tests_every_python_that_is_claimed_and_the_oldest_with_the_lowest_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = [label.rpartition(" ")[2] for label in project["classifiers"] if re.search(r":: 3\.\d+$", label)]
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert f"python: {claimed}".replace("'", '"') in workflow
    assert project["requires-python"] == f">={claimed[0]}"
    oldest = workflow.partition("  oldest:")[2].partition("  wheels:")[0]
    assert f'python-version: "{claimed[0]}"' in oldest
    assert "--resolution lowest-direct" in oldest
    unbounded = [
        need for extra in project["optional-dependencies"].values() for need in extra if not re.search("[>[]", need)
    ]
    assert not unbounded
