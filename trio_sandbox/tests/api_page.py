"""``python -m trio_sandbox.tests.api_page``: writes API.md, from the docstrings of all public names."""

from __future__ import annotations

import enum
import inspect
import textwrap
from pathlib import Path

import trio_sandbox

PAGE = Path(__file__).parents[1] / "API.md"


def page() -> str:
    """The whole page."""
    sections = ["# API of trio_sandbox\n", f"{_doc(trio_sandbox)}\n"]
    for name in trio_sandbox.__all__:
        each = getattr(trio_sandbox, name)
        if inspect.isfunction(each):
            sections.append(f"## {name}\n\n```python\n{name}{_signature(each)}\n```\n\n{_doc(each)}\n")
        else:
            members = _members(each)
            sections.append(f"## {name}\n\n{_doc(each)}\n" + (f"\n{members}" if members else ""))
    return "\n".join(sections).rstrip() + "\n"


def _members(each: type) -> str:
    if issubclass(each, enum.Enum):
        return "".join(f"- `{member.name}` = `{member.value!s}`\n" for member in each)
    fields = getattr(each, "__annotations__", {})
    lines = [f"- `{name}: {kind}`\n" for name, kind in fields.items() if not name.startswith("_")]
    for name, member in vars(each).items():
        if inspect.isfunction(member) and not name.startswith("_") and inspect.getdoc(member):
            lines.append(_item(f"{name}{_signature(member)}", member))
        elif isinstance(member, property):
            lines.append(_item(name, member))
    return "".join(lines)


def _item(name: str, member: object) -> str:
    return f"- `{name}`: {textwrap.indent(_doc(member), '  ').strip()}\n"


def _signature(function: object) -> str:
    text = str(inspect.signature(function))  # type: ignore[arg-type]
    return text.replace("self, ", "").replace("(self)", "()").replace("'", "").replace(" = ,", ' = "",')


def _doc(each: object) -> str:
    return (inspect.getdoc(each) or "").replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
