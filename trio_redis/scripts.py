"""Lua scripts, as files of a package."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


class Script:
    """A Lua script, known to the server by its digest.

    ``takes_process``: its last argument is the id of the server process that runs it (INFO's ``run_id``), or
    ``unknown`` if the server does not return it. `Redis.run` adds it.
    """

    def __init__(self, name: str, source: str, *, takes_process: bool = False) -> None:
        self.name = name
        self.source = source
        self.takes_process = takes_process
        # Redis prescribes this digest as a name; no secret depends on it.
        self.sha1 = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def load_script(
    package: str, file: str, prelude: str = "", *, flags: str = "", name: str = "", takes_process: bool = False
) -> Script:
    """Return the script of a file in the folder ``lua`` of a package, behind what it uses of its prelude.

    ``flags`` is for the server (``no-writes``). Without ``allow-oom``, a full Redis refuses the script before it
    changes anything; with it, the script may exceed `maxmemory`. ``name`` is that of the file unless given. Statements
    of the file and definitions of the prelude (``local …``) begin without indentation, and all other lines with it or
    with ``end``, ``else``, ``]``, ``)`` or ``}``.
    """
    source = _linked(prelude, (files(package) / "lua" / f"{file}.lua").read_text())
    source = f"#!lua flags={flags}\n{source}" if flags else f"#!lua\n{source}"
    return Script(name or file, source, takes_process=takes_process)


def _linked(prelude: str, source: str) -> str:
    """Return a script with the definitions of its prelude that it uses, each before the first statement that needs it.

    A script makes its functions each time that it runs: forty of them take as much of the server's time as ten
    commands. One that returns early does not make those that only the rest needs. Statements and definitions begin
    without indentation.
    """
    linked = ""
    for statement in re.split(r"^(?=(?!end|else|[})])\S)", source, flags=re.MULTILINE):
        needed, used = statement, _words(_without_comments(statement))
        for definition in reversed(_definitions(prelude)):
            if definition.text not in linked and used & definition.names:
                needed, used = definition.text + needed, used | definition.words
        linked += needed
    return linked


@dataclass(frozen=True, slots=True)
class _Definition:
    text: str
    names: frozenset[str]  # that it defines
    words: frozenset[str]  # in it, also the names that it uses


@cache
def _definitions(prelude: str) -> tuple[_Definition, ...]:
    found = []
    for text in re.split(r"^(?=local )", _without_comments(prelude), flags=re.MULTILINE):
        if names := re.match(r"local (?:function )?([\w, ]+)", text):
            found.append(_Definition(text, _words(names[1]), _words(text)))
    return tuple(found)


def _words(lua: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", lua))


def _without_comments(lua: str) -> str:
    return re.sub(r" *--.*\n?", "\n", lua)
