"""The layout that ARCHITECTURE.md draws: no circles between folders, and two stages that can be read in one sitting."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

NETWORKS = "anchored anchored_networks motion network references rungs transform"
ENCODES = "data fill ladder predicted random_maps samples step_samples store"


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports, at its top or inside a function, for types alone too."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
    return modules


def arrows(package: Path) -> dict[str, set[str]]:
    """Folders, and modules at the top, by those that they import from."""
    ours = {path.stem for path in package.iterdir() if path.is_dir() or path.suffix == ".py"}
    graph: dict[str, set[str]] = defaultdict(set)
    for path in package.rglob("*.py"):
        here = path.relative_to(package).parts[0].removesuffix(".py")
        for module in imports_of(path):
            root, _, rest = module.partition(".")
            there = rest.partition(".")[0]
            if root == package.name and there in ours and there != here and here != "__init__":
                graph[here].add(there)
    return graph


def file_arrows(package: Path) -> dict[str, set[str]]:
    """Modules by those that they import, at their top or inside a function; what is imported for types alone is left out."""
    paths = {".".join(path.relative_to(package.parent).with_suffix("").parts): path for path in package.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    graph = {}
    for module, path in modules.items():
        imported = set()
        waiting: list[ast.AST] = [ast.parse(path.read_text())]
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.ImportFrom) and node.module:
                full = [f"{node.module}.{name.name}" for name in node.names]
                imported |= {name if name in modules else node.module for name in full}
            elif isinstance(node, ast.Import):
                imported |= {name.name for name in node.names}
            if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
                waiting += ast.iter_child_nodes(node)
        graph[module] = {name for name in imported if name in modules} - {module}
    return graph


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """A way that comes back to where it began; empty if there is none."""

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        for after in sorted(graph.get(node, ())):
            if circle := walk(after, [*way, node]):
                return circle
        done.add(node)
        return []

    done: set[str] = set()
    return next((circle for node in sorted(graph) if (circle := walk(node, []))), [])


def test_no_folder_imports_in_a_circle():
    assert not cycle(arrows(ROOT / "dvcc"))


def test_no_file_imports_in_a_circle():
    assert not cycle(file_arrows(ROOT / "dvcc"))


def loaded_with(module: str, package: Path = ROOT / "dvcc") -> set[str]:
    """Roots of all that is imported with a module of the package: what stands at the top of files, types apart."""
    roots, waiting, seen = set(), [module], set()
    while waiting:
        name = waiting.pop()
        path = package.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not path.is_file():
            continue
        seen.add(name)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{part.name}" for part in node.names)]
            else:
                names = [part.name for part in node.names] if isinstance(node, ast.Import) else []
            waiting += [module_name for module_name in names if module_name.startswith(f"{package.name}.")]
            roots |= {other.partition(".")[0] for other in names}
    return roots


@pytest.mark.parametrize("stage", ["compare.measure", "benchmark.run", "control.run"])
def test_measuring_imports_nothing_of_training(stage):
    """They take seconds and 300 MB, in each process that judges."""
    roots = loaded_with(f"dvcc.evaluation.{stage}")
    assert "torch" in roots and not roots & {"lightning", "torchvision", "torchmetrics", "kornia"}


@pytest.mark.parametrize("module", ["evaluation.compare.encoding", "cli.encode", "encoding.file"])
def test_a_process_that_only_encodes_imports_no_torch_and_onnxruntime_for_a_network_alone(module):
    roots = loaded_with(f"dvcc.{module}")
    assert "av" in roots and not roots & {"torch", "onnxruntime"}


def test_settings_end_where_a_stage_begins():
    """Below the file that has `run(config)`, trainings and evaluations are handed values and objects."""
    importing = set()
    for path in (ROOT / "dvcc").rglob("*.py"):
        if any(module.startswith("dvcc.config") for module in imports_of(path)):
            importing.add(path.relative_to(ROOT / "dvcc").as_posix())
    trainings = {"surrogate/training.py", "control/training.py", "pretraining/flow.py", "pretraining/student.py"}
    evaluations = {f"evaluation/{stage}/run.py" for stage in ("benchmark", "control", "surrogate")}
    evaluations |= {"evaluation/control/calibrate.py"}
    command_line = {"cli/stages.py", "cli/completion.py"}
    assert {path for path in importing if not path.startswith("config/")} == trainings | evaluations | command_line


def test_a_circle_would_be_found(tmp_path):
    package = tmp_path / "p"
    for folder, text in {"a": "from p.b import x", "b": "def f():\n    from p import c", "c": "import p.a.m", "d": ""}.items():
        (package / folder).mkdir(parents=True)
        (package / folder / "m.py").write_text(text)
    assert cycle(arrows(package)) == ["a", "b", "c", "a"]
    assert cycle(file_arrows(package)) == []
    (package / "a" / "m.py").write_text("def f():\n    from p.c import m")
    assert cycle(file_arrows(package)) == ["p.a.m", "p.c.m", "p.a.m"]
    (package / "c" / "m.py").write_text("import p.d.m")
    assert cycle(arrows(package)) == []


@pytest.mark.parametrize("folder, aside", [("surrogate", NETWORKS + " " + ENCODES), ("control", "network")])
def test_a_stage_is_read_in_one_sitting(folder, aside):
    files = [path for path in (ROOT / "dvcc" / folder).glob("*.py") if path.stem not in aside.split()]
    assert sum(len(path.read_text().splitlines()) for path in files) <= 900
    readme = (ROOT / "dvcc" / folder / "README.md").read_text()
    assert len(readme.splitlines()) <= 60
    for path in (ROOT / "dvcc" / folder).glob("[!_]*.py"):
        assert f"`{path.name}`" in readme, f"{folder}/README.md does not say what {path.name} is"


def test_the_core_needs_neither_experiments_nor_examples():
    for path in (ROOT / "dvcc").rglob("*.py"):
        assert not any(module.split(".")[0] in ("experiments", "examples") for module in imports_of(path)), path
