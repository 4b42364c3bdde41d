"""The documentation: links lead somewhere, and commands, settings, metrics and manifests that it names exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

from avion_media.cli import group
from avion_media.common.settings import PREFIX
from avion_media.common.telemetry.instruments import INSTRUMENTS
from avion_media.config import Config
from supervisors import EventKind
from tests.ops.manifests import OVERLAYS, ROOT, build
from tests.unit.test_imports import FLOORS

EXAMPLES = [ROOT / "examples/README.md", *ROOT.glob("examples/*/README.md")]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *EXAMPLES])
OPERATIONS = sorted([*(ROOT / "docs/runbooks").glob("*.md"), *(ROOT / "docs/how-to").glob("*.md")])
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"```.*?```", re.DOTALL)
_NAMED = re.compile(r"\b(deployment|cronjob|job|configmap)s?[/ ](avion-media[a-z-]*)")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs (and nearly all others) makes them."""
    headings = re.findall(r"^#+ (.+?)\s*$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[\s-]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        assert not anchor or anchor in _anchors(path), link


@pytest.mark.parametrize("name", ["architecture.md", "queues.md", "security.md"])
def test_pages_that_explain_are_short(name: str) -> None:
    text = re.sub(r"<!-- test: [^>]+ -->", "", (ROOT / "docs" / name).read_text())  # nobody reads those
    assert len(text.split()) <= 1500


def test_every_page_has_its_place_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"[\w/-]+\.md", str(yaml.safe_load(text)["nav"])))
    there = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert there - named == set()


def _command_lines(page: Path) -> Iterator[list[str]]:
    """What the page has one type: lines of its blocks, and code within a sentence, from ``avion-media`` on."""
    text = page.read_text()
    lines = [line for block in _FENCE.findall(text) for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))
    for line in lines:
        found = re.search(r"(?:^|(?<!--namespace)\s|/)(avion-media [a-z][^|#;…>]*)", line)
        if found and not line.lstrip().startswith(("#", "avion-media:", "name:", "image:")):
            yield shlex.split(found[1].rstrip("\\ "), posix=False)[1:]


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs/getting-started.md", *OPERATIONS], ids=_name)
def test_commands_exist_with_their_options(page: Path) -> None:
    for words in _command_lines(page):
        command: click.Command = group
        context = click.Context(group)
        while words and isinstance(command, click.Group) and re.fullmatch(r"[a-z]+(\\?\|[a-z]+)*", words[0]):
            found = command.get_command(context, words[0].split("|")[0].rstrip("\\"))
            if found is None and command is group and words[0] in {"serve", "running", "media"}:
                break
            assert found is not None, words
            command, words = found, words[1:]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--json"}
        options = {word.split("=")[0].strip("[]") for word in words if word.lstrip("[").startswith("--")}
        assert options <= known, (command.name, options - known)


def test_the_blocks_of_the_readme_can_be_pasted() -> None:
    """Nothing in them must be replaced first, and every file that they name is in the repository."""
    lines = [line for block in _FENCE.findall((ROOT / "README.md").read_text()) for line in block.splitlines()[1:-1]]
    commands = [line.partition(" #")[0] for line in lines if line.startswith(("make ", ".venv/bin/", "export "))]
    assert len(commands) == 4
    for command in commands:
        program, *words = command.split()
        assert program in {"make", ".venv/bin/avion-media"}
        assert not re.search(r"…|<|your-", command), command
        assert all((ROOT / word).exists() for word in words if "/" in word or "." in word), command


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_settings_exist(page: Path) -> None:
    sections = Config.model_fields
    known = {
        f"{section.upper()}__{name.upper()}"
        for section in sections
        for name in type(sections[section].default).model_fields
    }
    refused = {"TASK__SLOTS"}  # the runbook shows how a setting that does not exist is refused
    words = re.findall(rf"(?<![A-Z_])(?:{PREFIX})?([A-Z0-9]+__[A-Z0-9_]*[A-Z0-9])", page.read_text())
    used = {word for word in words if word.split("__")[0].lower() in sections}
    families = {word for word in used - known if any(name.startswith(f"{word}_") for name in known)}  # UPLOAD__MAX_*
    assert used <= known | refused | families


@pytest.mark.parametrize("page", OPERATIONS, ids=_name)
def test_metrics_and_manifests_exist(page: Path) -> None:
    text = page.read_text()
    names = {each.prometheus_name for each in INSTRUMENTS}
    suffixed = names | {name + suffix for name in names for suffix in ("_bucket", "_count", "_sum")}
    for used in re.findall(r"(?<!%{)\b((?:avion|messaging|http|rpc)_[a-z_]+[a-z])\b", text):
        beginning_or_label = any(name.startswith(used) for name in names) or used in _LABELS
        is_package = (ROOT / "clients/python" / used).is_dir()
        assert used in suffixed or beginning_or_label or is_package, used
    objects = {(each["kind"].lower(), each["metadata"]["name"]) for overlay in OVERLAYS for each in build(overlay)}
    for kind, name in _NAMED.findall(text):
        assert (kind, name) in objects, f"{kind}/{name}"


def _shell_lines(page: Path) -> Iterator[str]:
    """The lines of the page's blocks, and code within sentences; a line that goes on in the next is one."""
    text = page.read_text().replace("\\\n", " ")
    yield from (line for block in _FENCE.findall(text) for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))


@pytest.mark.parametrize("page", OPERATIONS, ids=_name)
def test_commands_are_typed_where_they_are(page: Path) -> None:
    """The image has avion-media and Python; curl is on an operator's machine, with the admin port forwarded to it."""
    for line in _shell_lines(page):
        for url in re.findall(r"\bcurl .*?(\S*://\S*|\$\S+)", line):
            assert url.startswith("http://127.0.0.1:9090/"), line
        if "py-spy dump" in line:
            assert "kubectl debug" in page.read_text()
        for command in re.findall(r"\bexec (?:-\S+ )*\S+/\S+ -- +(\S+)", line):
            assert command in {"avion-media", "python3", "env"}, line
        if re.search(r"avion-media (status|cache|upload) (?!.*\|)", line):  # they call gRPC
            assert "AVION_MEDIA_CLIENT__TOKEN=" in line, line
            assert "kubectl" not in line or "deployment/avion-media-api" in line, line


@pytest.mark.parametrize("page", OPERATIONS, ids=_name)
def test_python_in_commands_is_python(page: Path) -> None:
    for program in re.findall(r"python3 -c '([^']*)'", page.read_text()):
        ast.parse(program)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_events_of_the_log_exist(page: Path) -> None:
    text = page.read_text()
    events, strings = _events_and_strings()
    for name in re.findall(r"\bgrep (?:-\S+ )*[\"']?([a-z_]+\.[a-z_]+)\b", text):
        assert name in events, name
    for name in re.findall(r"^(?:\S+ )?\[(?:info|warning|error|critical) *\] ([a-z_]+\.[a-z_]+) ", text, re.MULTILINE):
        assert name in events, name
    first_words = {event.split(".")[0] for event in events}
    for name in re.findall(r"`([a-z_]+\.(?!py`)[a-z_]+)`", text):
        assert name in events | strings or name.split(".")[0] not in first_words, name


@cache
def _events_and_strings() -> tuple[frozenset[str], frozenset[str]]:
    """The names that the code logs, and all strings in it that look like one (limiters, attributes of metrics)."""
    events = {f"supervision.{kind}" for kind in EventKind}
    strings: set[str] = set()
    for path in (*(ROOT / "avion_media").rglob("*.py"), *(ROOT / "trio_http1").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.add(node.value)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LEVELS:
                named = [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
                events |= {each for each in named if re.fullmatch(r"[a-z_]+\.[a-z_]+", each)}
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "OutageLog":
                dependency = ast.literal_eval(node.args[0])
                events |= {f"{dependency}.unavailable", f"{dependency}.recovered"}
    return frozenset(events), frozenset(strings)


_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
_LABELS = {attribute.name.replace(".", "_") for each in INSTRUMENTS for attribute in each.attributes}


def test_the_code_of_the_tutorial_is_that_of_its_program() -> None:
    tests = ROOT / "supervisors/tests"
    program = (tests / "tutorial.py").read_text() + (tests / "test_tutorial.py").read_text()
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/supervisors-guide.md").read_text(), re.DOTALL)
    assert len(blocks) == 5
    assert all(block in program for block in blocks)


def test_the_tree_of_the_architecture_is_that_of_the_code() -> None:
    (tree,) = re.findall(r"```\navion-media .*?```", (ROOT / "docs/architecture.md").read_text(), re.DOTALL)
    assert tree in (ROOT / "avion_media/app.py").read_text()


def test_the_architecture_lists_the_floors() -> None:
    text = (ROOT / "docs/architecture.md").read_text().split("## The packages")[1]
    listed = re.findall(r"^  (\w+) +\S", text.split("```")[1], flags=re.MULTILINE)
    assert listed == list(FLOORS)
