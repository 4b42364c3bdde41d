"""The documentation: links lead somewhere, and commands, settings, metrics and manifests that it names exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from avion_media.cli import group
from avion_media.config import PREFIX, Config
from avion_media.telemetry.instruments import INSTRUMENTS
from tests.ops.manifests import OVERLAYS, ROOT, build

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
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
        assert used in suffixed or beginning_or_label, used
    objects = {(each["kind"].lower(), each["metadata"]["name"]) for overlay in OVERLAYS for each in build(overlay)}
    for kind, name in _NAMED.findall(text):
        assert (kind, name) in objects, f"{kind}/{name}"


_LABELS = {attribute.name.replace(".", "_") for each in INSTRUMENTS for attribute in each.attributes}
