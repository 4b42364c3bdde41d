"""`docs/how-to/call-from-a-program.md`, followed as it stands there beside a running `avion-media dev`."""

from __future__ import annotations

from pathlib import Path

from tests.console.conftest import development
from tests.examples.commands import blocks, follow
from tests.examples.conftest import ROOT, environment

PAGE = ROOT / "docs/how-to/call-from-a-program.md"


def test_the_page_leads_to_uploads_an_event_and_a_deletion(examples: Path) -> None:
    checkout = examples.parent
    (checkout / "ops").symlink_to(ROOT / "ops")
    (checkout / "node_modules").symlink_to(ROOT / "examples/gateway-node/node_modules")
    with development() as dev:
        printed = follow("".join(blocks(PAGE)), checkout, environment(**dev.exported))
    assert printed.count(" READY\n") == 2  # Python, Node.js
    assert printed.count('"state": "READY"') == 1  # by reflection
    assert '"type":"media.ready"' in printed.replace(" ", "")
    assert '"state": "DELETED"' in printed
