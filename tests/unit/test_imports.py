"""Imports run one way. Read from the syntax tree, so that imports inside functions count too."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "avion_media"
# Each folder imports only from itself and from what stands to the right of it.
FLOORS = (
    *("__main__", "cli", "service", "app", "config", "nodes", "servers", "workers", "operations", "process"),
    *("items", "media", "backends", "common"),
)


def parts(path: Path) -> set[str]:
    """The floors that a file imports from."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {f"{each.module}.{each.names[0].name}" for each in nodes if isinstance(each, ast.ImportFrom)}
    names |= {alias.name for each in nodes if isinstance(each, ast.Import) for alias in each.names}
    return {name.split(".")[1] for name in names if name.startswith("avion_media.")}


def test_imports_run_one_way() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        floor = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if floor != "__init__":
            above = FLOORS[: FLOORS.index(floor)]
            wrong += [f"{path.relative_to(PACKAGE)} imports {each}" for each in sorted(parts(path).intersection(above))]
    assert not wrong, "\n".join(wrong)
