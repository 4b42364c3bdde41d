"""``python -m mediascrub.tests.api_page``: writes API.md, from the docstrings of all public names."""

from __future__ import annotations

import enum
import inspect
from pathlib import Path

import mediascrub

PAGE = Path(__file__).parents[1] / "API.md"


def page() -> str:
    """The whole page."""
    sections = ["# API of mediascrub\n", f"{inspect.getdoc(mediascrub)}\n"]
    for name in mediascrub.__all__:
        each = getattr(mediascrub, name)
        if inspect.isfunction(each):
            sections.append(f"## {name}\n\n```python\n{name}{_signature(each)}\n```\n\n{_doc(each)}\n")
        elif inspect.isclass(each):
            sections.append(f"## {name}\n\n{_doc(each)}\n\n{_members(each)}")
        else:
            sections.append(f"## {name}\n\n`{each}`\n")
    return "\n".join(sections).replace("``", "`").rstrip() + "\n"


def _members(each: type) -> str:
    if issubclass(each, enum.Enum):
        return "".join(f"- `{member.name}` = `{member.value!s}`\n" for member in each)
    fields = getattr(each, "__annotations__", {})
    lines = [f"- `{name}: {kind}`\n" for name, kind in fields.items() if not name.startswith("_")]
    for name, member in vars(each).items():
        if inspect.isfunction(member) and not name.startswith("_") and inspect.getdoc(member):
            lines.append(f"- `{name}{_signature(member)}`: {_doc(member)}\n")
        elif isinstance(member, property):
            lines.append(f"- `{name}`: {_doc(member)}\n")
    return "".join(lines)


def _signature(function: object) -> str:
    text = str(inspect.signature(function))  # type: ignore[arg-type]
    return text.replace("self, ", "").replace("(self)", "()").replace("'", "")


def _doc(each: object) -> str:
    return inspect.getdoc(each) or ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
