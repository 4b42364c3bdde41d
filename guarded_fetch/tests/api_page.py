"""``python -m guarded_fetch.tests.api_page``: writes API.md, from the docstrings of all public names."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import textwrap
from pathlib import Path

import guarded_fetch

PAGE = Path(__file__).parents[1] / "API.md"


def page() -> str:
    """The whole page."""
    sections = ["# API of guarded_fetch\n", f"{_doc(guarded_fetch)}\n"]
    for name in guarded_fetch.__all__:
        each = getattr(guarded_fetch, name)
        if inspect.isfunction(each):
            sections.append(f"## {name}\n\n```python\n{name}{_signature(each)}\n```\n\n{_doc(each)}\n")
        elif not inspect.isclass(each):
            sections.append(f"## {name}\n\n`{_value(each)}`\n")
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
    lines += [f"- `{name}: {kind}`\n" for name, kind in fields.items() if not name.startswith("_")]
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
    text = re.sub(r"<function (?:\w+\.)*<?(\w+)>? at 0x[0-9a-f]+>", r"\1", text)
    text = re.sub(r"FetchTimeouts\([^)]*\)", "DEFAULT_TIMEOUTS", text)
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
    return text.replace("self, ", "").replace("(self)", "()").replace("'", '"')


def _value(each: object) -> str:
    return str(sorted(each)) if isinstance(each, frozenset) else str(each)


def _doc(each: object) -> str:
    return (inspect.getdoc(each) or "").replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
