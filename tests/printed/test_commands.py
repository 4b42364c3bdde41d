"""Each command of docs/how-to and docs/runbooks, page by page, from top to bottom, as it is printed.

The table (page, command, exit status) is printed with `pytest -s`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.printed.commands import PAGES, ROOT, commands_of, name_of, not_run, one_line
from tests.printed.pages import prepared
from tests.printed.stage import World, filled_in, open_world

FOLLOWED = "followed by "


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        yield world


def test_the_list_names_only_commands_that_are_printed() -> None:
    printed = {(name_of(page), one_line(command)) for page in PAGES for command in commands_of(page)}
    whole = {(name_of(page), "*") for page in PAGES}
    assert set(not_run()) - printed - whole == set()


def test_pages_that_another_test_follows_are_followed_there() -> None:
    for (page, command), reason in not_run().items():
        assert (command == "*") == reason.startswith(FOLLOWED), page
        if command == "*":
            assert Path(page).name in (ROOT / reason.removeprefix(FOLLOWED)).read_text()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_work_as_printed(page: Path, world: World) -> None:
    listed = not_run()
    if (name_of(page), "*") in listed or not commands_of(page):
        return
    failed = []
    with prepared(page, world) as play:
        run = world.run if play.steps or play.environment else world.run_once
        for command in commands_of(page):
            name = one_line(command)
            if (name_of(page), name) in listed:
                result = listed[name_of(page), name]
            else:
                done = run(filled_in(_inner(command), play.values), **play.environment)
                result = str(done.returncode)
                filters = command.split(" | grep ")
                if done.returncode == 1 and len(filters) > 2:  # looks for a fault, which is not there
                    unfiltered = _inner(" | grep ".join(filters[:2]))
                    done = run(filled_in(unfiltered, play.values), **play.environment)
                if done.returncode:
                    failed.append(f"{name}\n{done.stdout}{done.stderr}")
            print(f"{name_of(page)}\t{name}\t{result}")
            play.after(name)
    assert not failed, "\n\n".join(failed)


def _inner(command: str) -> str:
    """What runs in a pod or a container. Here it runs in the operator's shell, which has the same settings."""
    command = re.sub(r"^kubectl --namespace avion-media exec \S+ -- ", "", command)
    return re.sub(r"^docker compose -f \S+ exec (?:--env (\S+) )?media ", lambda match: f"{match[1] or ''} ", command)
