"""The reference of a library of this repository, from its signatures and docstrings."""

from __future__ import annotations

import enum
import inspect
import re
from types import GenericAlias, ModuleType


def library_page(library: ModuleType) -> str:
    """What the library says of itself, and its reference."""
    return f"{_text(library)}\n\n{library_reference(library, heading='##')}"


def library_reference(library: ModuleType, heading: str = "###") -> str:
    """Every public name, in the library's order: its signature, its docstring, its members."""
    names: list[str] = library.__all__
    return "\n\n".join(_entry(f"{heading} {name}", name, getattr(library, name)) for name in names)


def _entry(heading: str, name: str, found: object) -> str:
    parts = [heading, _text(found)]
    if isinstance(found, type) and issubclass(found, enum.Enum):
        parts.append(", ".join(f"`{member.name}`" for member in found))
    elif isinstance(found, type) and not isinstance(found, GenericAlias):
        if not issubclass(found, BaseException | dict) and not getattr(found, "_is_protocol", False):
            parts.insert(1, f"```text\n{name}{_signature(found)}\n```")
        members = [_member(found, each) for each in sorted(vars(found)) if not each.startswith("_")]
        parts.append("\n".join(filter(None, members)))
    elif inspect.isfunction(found):
        parts.insert(1, f"```text\n{name}{_signature(found)}\n```")
    elif type(found).__repr__ is not object.__repr__:  # an object without one is described by its class
        value = sorted(found) if isinstance(found, frozenset) else found
        parts[1] = (
            f"`{re.sub(r'(collections[.]abc|typing|trio[.]_[a-z_.]+)[.](?=[A-Z])', '', str(value) or repr(value))}`"
        )
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
    text = re.sub(r"ForwardRef\('([^']*)'\)", r"\1", text)  # of named tuples
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations are strings
    text = re.sub(r"<\w+\.(\w+): '\w+'>", r"\1", text)  # members of enumerations
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    text = re.sub(r"<(?:function|member) (?:\w+\.)*<?(\w+)>?(?: at 0x[0-9a-f]+)?>", r"\1", text)
    return re.sub(r"\((self|cls)(, |\))", lambda match: "(" if match[2] == ", " else "()", text)


def _text(found: object) -> str:
    """The docstring for Markdown."""
    text = inspect.getdoc(found) or ""
    return re.sub(r"`{1,2}([^`]+)`{1,2}", r"`\1`", text)
