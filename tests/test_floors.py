"""The storeys of this house: which package may import which, and that no import runs in a circle.

Imports are read from the source, those inside functions and those for types alone included.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("sc_imagenet", "baselines", "benchmark")

# From the ground up; what stands in one line is one floor, whose packages may import one another.
FLOORS = (
    ("sc_imagenet.core",),
    ("sc_imagenet.geometry",),
    ("sc_imagenet.data", "sc_imagenet.sources", "sc_imagenet.toy"),
    ("sc_imagenet.backbones",),
    ("sc_imagenet.generation",),
    ("baselines",),
    ("benchmark.scoring",),
    ("benchmark.running",),
    ("benchmark.report",),
    ("benchmark.commands", "benchmark.cli", "benchmark.__main__"),
)
# What a person imports: lazy tables of names, which may lead to any floor and are imported by no file of ours.
PUBLIC = set(PACKAGES)

# Left over from before. Both lists must be exact, so that they only become shorter: delete what is mended.
KNOWN_UPWARD: set[tuple[str, str]] = set()
KNOWN_CIRCLES: set[frozenset[str]] = set()


@cache
def imports() -> dict[str, set[str]]:
    """What each file of the packages imports, by module name."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }
    return {name: _imported(path, set(files)) - {name} for name, path in files.items()}


def _imported(path: Path, known: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else str(node.module) for name in whole}
    return found & known


def floor(module: str) -> int:
    """The number of a module's floor, from 0 at the ground; above all for what a person imports."""
    if module in PUBLIC:
        return len(FLOORS)
    [number] = [
        number
        for number, packages in enumerate(FLOORS)
        if any(module == package or module.startswith(f"{package}.") for package in packages)
    ]
    return number


def circles() -> set[frozenset[str]]:
    """Sets of files that all reach one another by imports (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found = set()

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        path.append(module)
        for other in imports()[module]:
            if other not in order:
                visit(other)
            if other in path:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == order[module]:
            component = path[path.index(module) :]
            del path[path.index(module) :]
            if len(component) > 1:
                found.add(frozenset(component))

    for module in imports():
        if module not in order:
            visit(module)
    return found


def test_every_file_is_on_a_floor():
    assert len(imports()) > 100
    for module in imports():
        floor(module)


def test_no_file_imports_from_a_floor_above():
    upward = {(module, other) for module, found in imports().items() for other in found if floor(other) > floor(module)}
    assert upward == KNOWN_UPWARD


def test_no_import_runs_in_a_circle():
    assert circles() == KNOWN_CIRCLES


def test_a_circle_and_an_upward_import_would_be_found(monkeypatch):
    made = {"benchmark.scoring.a": {"benchmark.scoring.b"}, "benchmark.scoring.b": {"benchmark.scoring.c"}}
    made |= {"benchmark.scoring.c": {"benchmark.scoring.a", "benchmark.running.d"}, "benchmark.running.d": set()}
    monkeypatch.setitem(globals(), "imports", lambda: made)
    assert circles() == {frozenset({"benchmark.scoring.a", "benchmark.scoring.b", "benchmark.scoring.c"})}
    assert floor("benchmark.running.d") > floor("benchmark.scoring.c")
