"""Imports run one way. Read from the syntax tree, so that imports inside functions count too."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "avion_media"

# part -> the parts it may import from (besides itself). What stands alone knows nobody.
ALLOWED: dict[str, set[str]] = {
    "domain": set(),
    "grpc": {"net", "wire"},
    "wire": set(),
    "telemetry": {"domain"},
    "concurrency": set(),
    "files": {"domain"},
    "credentials": set(),
    "net": set(),
    "resources": {"domain"},
    "responses": set(),
    "lifecycle": set(),
    "readiness": {"domain", "lifecycle", "telemetry"},
    "tree": set(),
    "early_stop": set(),
    "exits": set(),
    "kernel": set(),
    "watchdog": set(),
    "config": {"credentials", "domain", "net"},
    "capabilities": {"config", "domain"},
    "records": {"domain", "telemetry"},
    "redis": {"concurrency", "domain"},
    "queue": {"domain", "records", "redis", "telemetry"},
    "history": {"queue"},
    "replicas": {"records", "redis"},
    "state": {"domain", "records", "redis"},
    "store": {"concurrency", "domain", "config", "files", "net", "records", "telemetry"},
    "owners": {"concurrency", "domain", "records", "resources", "store"},
    "deletion": {"concurrency", "domain", "queue", "records", "redis", "resources", "state", "store", "telemetry"},
    "moderation": {
        "concurrency",
        "config",
        "domain",
        "files",
        "media",
        "owners",
        "queue",
        "records",
        "redis",
        "remote",
        "resources",
        "responses",
        "state",
        "store",
        "telemetry",
    },
    "remote": {"domain", "files", "records", "redis"},
    "media": {"concurrency", "domain", "config", "exits", "kernel", "files"},
    "http1": {"net", "telemetry"},
}
LOW = {*ALLOWED}
HIGH = {
    "api",
    "admin",
    "origin",
    "tasks",
    "nodes",
    "cli",
    "app",
    "service",
    "process",
    "runtime",
    "setup",
    "doctor",
    "inspection",
    "console",
    "__main__",
}
# Never imported by anybody below them.
ALLOWED |= {
    "tasks": LOW - {"grpc", "wire"},
    "runtime": LOW - {"grpc", "wire"},
    "admin": {"credentials", "http1", "net", "telemetry"},
    "origin": LOW - {"grpc", "wire", "media", "remote"},
    "api": LOW | {"runtime"},
    "setup": LOW - {"grpc", "wire"} | {"tasks"},
    "doctor": LOW - {"grpc", "wire"} | {"setup"},
    "inspection": LOW - {"grpc", "wire"} | {"setup", "tasks"},
    "console": LOW | {"admin", "api", "inspection", "runtime", "setup"},
    "nodes": LOW | {"admin", "api", "console", "origin", "tasks", "runtime", "setup"},
    "process": LOW | {"runtime"},
    "app": LOW | {"nodes", "runtime"},
    "service": LOW | {"app", "nodes", "process", "runtime"},
    "cli": LOW | (HIGH - {"__main__"}),
    "__main__": {"cli", "early_stop", "kernel"},
}


def part_of(module: str) -> str | None:
    """The first name below the package, or None for other packages."""
    names = module.split(".")
    return names[1] if names[0] == PACKAGE and len(names) > 1 else None


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (
                f"{node.module}.{alias.name}" if node.module == PACKAGE else node.module for alias in node.names
            )


def test_imports_run_one_way() -> None:
    wrong = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        relative = path.relative_to(ROOT / PACKAGE)
        part = relative.parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for module in imports(path):
            target = part_of(module)
            if target and target != part and target not in ALLOWED[part]:
                wrong.append(f"{relative} imports {module}")
    assert not wrong


def test_only_public_names_of_supervisors_are_used() -> None:
    """Inside, its own tests read what it imports."""
    for folder in (PACKAGE, "tests", "ops"):
        naming = (path for path in (ROOT / folder).rglob("*.py") if "supervisors." in path.read_text())
        for path in naming:
            for module in imports(path):
                assert not module.startswith("supervisors."), f"{path} imports {module}"


def test_media_has_no_import_circle() -> None:
    paths = sorted((ROOT / PACKAGE / "media").rglob("*.py"))
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    graph = {module: set(_imported(path, modules)) for module, path in modules.items()}
    assert graph["avion_media.media.pictures"] >= {"avion_media.media.bounds", "avion_media.media.formats"}
    TopologicalSorter(graph).prepare()  # a CycleError names the circle


def _imported(path: Path, modules: Container[str]) -> Iterator[str]:
    """Which of the modules a file imports: of ``from a import b`` it is ``a.b`` or else ``a``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in modules or node.module in modules:
                    yield full if full in modules else node.module
