"""The layout that ARCHITECTURE.md draws: no circles between folders, and two stages that can be read in one sitting."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

NETWORKS = "anchored anchored_networks motion network references rungs transform"
ENCODES = "data fill ladder random_maps samples step_samples store"


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports, at its top or inside a function, for types alone too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def arrows(package: Path) -> dict[str, set[str]]:
    """Folders, and modules at the top, by those that they import from."""
    own = {path.stem for path in package.iterdir() if path.is_dir() or path.suffix == ".py"}
    found: dict[str, set[str]] = defaultdict(set)
    for path in package.rglob("*.py"):
        here = path.relative_to(package).parts[0].removesuffix(".py")
        for module in imports_of(path):
            root, _, rest = module.partition(".")
            there = rest.partition(".")[0]
            if root == package.name and there in own and there != here and here != "__init__":
                found[here].add(there)
    return found


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """A way that comes back to where it began; empty if there is none."""

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        for after in sorted(graph.get(node, ())):
            if found := walk(after, [*way, node]):
                return found
        done.add(node)
        return []

    done: set[str] = set()
    return next((found for node in sorted(graph) if (found := walk(node, []))), [])


def test_no_folder_imports_in_a_circle():
    assert not cycle(arrows(ROOT / "dvcc"))


def test_a_circle_would_be_found(tmp_path):
    package = tmp_path / "p"
    for folder, text in {"a": "from p.b import x", "b": "def f():\n    from p import c", "c": "import p.a.m", "d": ""}.items():
        (package / folder).mkdir(parents=True)
        (package / folder / "m.py").write_text(text)
    assert cycle(arrows(package)) == ["a", "b", "c", "a"]
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
