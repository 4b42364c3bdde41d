"""``python -m trio_redis.tests.api_page``: writes API.md, from the docstrings of all public names."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import trio_redis

PAGE = Path(__file__).parents[1] / "API.md"


def page() -> str:
    """The whole page."""
    sections = ["# API of trio_redis\n", f"{_doc(trio_redis)}\n"]
    for name in trio_redis.__all__:
        each = getattr(trio_redis, name)
        if inspect.isfunction(each):
            sections.append(f"## {name}\n\n```python\n{name}{_signature(each)}\n```\n\n{_doc(each)}\n")
        elif each is Any or not inspect.isclass(each):
            sections.append(f"## {name}\n\n`{str(each).removeprefix('typing.')}`\n")
        else:
            members = _members(each)
            sections.append(f"## {name}\n\n{_doc(each)}\n" + (f"\n{members}" if members else ""))
    return "\n".join(sections).rstrip() + "\n"


def _members(each: type) -> str:
    if issubclass(each, enum.Enum):
        return "".join(f"- `{member.name}` = `{member.value!s}`\n" for member in each)
    lines: list[str] = []
    fields = getattr(each, "__annotations__", {})
    constructor = vars(each).get("__init__")
    if not issubclass(each, Exception) and constructor is not None and not dataclasses.is_dataclass(each):
        lines.append(f"- `{each.__name__}{_signature(constructor).removesuffix(' -> None')}`")
        lines.append((f": {textwrap.indent(_doc(constructor), '  ').strip()}" if constructor.__doc__ else "") + "\n")
    shown = {name: getattr(kind, "__forward_arg__", kind) for name, kind in fields.items()}
    lines += [f"- `{name}: {kind}`\n" for name, kind in shown.items() if not name.startswith("_")]
    for name, member in vars(each).items():
        if inspect.isfunction(member) and not name.startswith("_") and inspect.getdoc(member):
            lines.append(_item(f"{name}{_signature(member)}", member))
        elif isinstance(member, property):
            lines.append(_item(name, member))
    return "".join(lines)


def _item(name: str, member: object) -> str:
    return f"- `{name}`: {textwrap.indent(_doc(member), '  ').strip()}".removesuffix(": ") + "\n"


def _signature(function: object) -> str:
    text = str(inspect.signature(function))  # type: ignore[arg-type]
    text = re.sub(r"<function \S+ at 0x[0-9a-f]+>", "…", text)
    text = re.sub(r"Errors\([^)]*\)", "Errors()", text)
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
    return text.replace("self, ", "").replace("(self)", "()").replace("'", '"')


def _doc(each: object) -> str:
    return (inspect.getdoc(each) or "").replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
