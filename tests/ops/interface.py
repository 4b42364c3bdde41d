"""Lists the names that other programs rely on, one per line.

At a release, ``python -m tests.ops.interface >tests/ops/released.txt`` writes them down. From then on they only grow:
see `test_interface`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

import avion_media.service  # noqa: F401 - each record is defined beside its user
from avion_media.cli import group
from avion_media.common.errors import Reason
from avion_media.common.records import RECORDS
from avion_media.common.settings import PREFIX
from avion_media.common.telemetry.instruments import INSTRUMENTS
from avion_media.common.wire.avion import media_pb2
from avion_media.config import Config
from avion_media.servers.admin.application import ROUTES

EVENT_SCHEMA = Path(__file__).parents[2] / "docs/schemas/media_event.schema.json"


def interface() -> list[str]:
    """Every name, with what it is, sorted."""
    stored = {*_records(), *_events()}
    called = {*_commands(group, "avion-media"), *_proto(), *_routes()}
    return sorted({*_settings(), *_metrics(), *_reasons(), *stored, *called})


def _settings() -> Iterator[str]:
    for section, field in Config.model_fields.items():
        for name in type(field.default).model_fields:
            yield f"setting {PREFIX}{section.upper()}__{name.upper()}"


def _metrics() -> Iterator[str]:
    for each in INSTRUMENTS:
        yield f"metric {each.name} ({each.kind}, {each.unit})"
        yield f"metric {each.prometheus_name}"
        for attribute in each.attributes:
            yield f"metric {each.name} {attribute.name}"


def _commands(command: click.Command, name: str) -> Iterator[str]:
    yield f"command {name}"
    for parameter in command.params:
        for option in parameter.opts:
            yield f"command {name} {option}"
    if isinstance(command, click.Group):
        context = click.Context(command)
        for sub_name in command.list_commands(context):
            sub = command.get_command(context, sub_name)
            if sub is not None and not sub.hidden:
                yield from _commands(sub, f"{name} {sub_name}")


def _records() -> Iterator[str]:
    for kind, each in RECORDS.items():
        for name in each.fields:
            yield f"record {kind} {name}"


def _reasons() -> Iterator[str]:
    for each in Reason:
        yield f"reason {each}"


def _events() -> Iterator[str]:
    for name, each in json.loads(EVENT_SCHEMA.read_text())["properties"].items():
        yield f"event field {name}"
        if name == "type":
            yield from (f"event {event}" for event in each["enum"])


def _routes() -> Iterator[str]:
    for path, _ in ROUTES.values():
        yield f"route POST {path}"


def _proto() -> Iterator[str]:
    for service in media_pb2.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            yield f"proto {method.full_name}({method.input_type.full_name}) {method.output_type.full_name}"
    for message in media_pb2.DESCRIPTOR.message_types_by_name.values():
        yield from _message(message)
    for enum in media_pb2.DESCRIPTOR.enum_types_by_name.values():
        yield from _enum(enum)


def _message(message: Descriptor) -> Iterator[str]:
    for field in message.fields:
        yield f"proto {field.full_name} = {field.number} {_type(field)}"
    for nested in message.nested_types:
        yield from _message(nested)
    for enum in message.enum_types:
        yield from _enum(enum)


def _enum(enum: EnumDescriptor) -> Iterator[str]:
    for value in enum.values:
        yield f"proto {enum.full_name}.{value.name} = {value.number}"


def _type(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    return f"{named.full_name if named else field.type}{' repeated' if field.is_repeated else ''}"


if __name__ == "__main__":
    sys.stdout.write("".join(f"{each}\n" for each in interface()))
