"""The reference of `supervisors`, from its signatures and docstrings."""

from __future__ import annotations

import enum
import inspect
import re

import supervisors


def supervisors_reference() -> str:
    """Every public name, in alphabetical order: its signature, its docstring, its members."""
    return "\n\n".join(_entry(name, getattr(supervisors, name)) for name in supervisors.__all__)


def _entry(name: str, found: object) -> str:
    parts = [f"### {name}", _text(found)]
    if isinstance(found, type) and issubclass(found, enum.Enum):
        parts.append(", ".join(f"`{member.name}`" for member in found))
    elif isinstance(found, type) and not issubclass(found, BaseException):
        parts.insert(1, f"```text\n{name}{_signature(found)}\n```")
        members = [_member(found, each) for each in sorted(vars(found)) if not each.startswith("_")]
        parts.append("\n".join(filter(None, members)))
    elif callable(found) and not isinstance(found, type):
        parts.insert(1, f"```text\n{name}{_signature(found)}\n```")
    return "\n\n".join(filter(None, parts))


def _member(owner: type, name: str) -> str:
    found = inspect.getattr_static(owner, name)
    if isinstance(found, property):
        return f"- `{name}`: {_text(found)}".replace("\n\n", " ").replace("\n", " ")
    if inspect.isfunction(found) and found.__doc__ and "not part of the public" not in found.__doc__:
        prefix = "await " if inspect.iscoroutinefunction(found) else ""
        return f"- `{prefix}{name}{_signature(found)}`: {_text(found)}".replace("\n\n", " ").replace("\n", " ")
    return ""


def _signature(found: object) -> str:
    assert callable(found)
    text = str(inspect.signature(found))
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations are strings
    text = re.sub(r"<\w+\.(\w+): '\w+'>", r"\1", text)  # members of enumerations
    return re.sub(r"\((self|cls)(, |\))", lambda match: "(" if match[2] == ", " else "()", text)


def _text(found: object) -> str:
    """The docstring for Markdown."""
    text = inspect.getdoc(found) or ""
    return re.sub(r"`{1,2}([^`]+)`{1,2}", r"`\1`", text)
