"""Mutations of byte strings: the usual ones of format-agnostic fuzzers, driven by a seeded chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal

_POWERS = (0, 1, 3, 4, 5, 6, 7, 8, 15, 16, 31, 32, 63, 64)
_EDGES = sorted({2**power + shift for power in _POWERS for shift in (-1, 0)})
_ORDERS: tuple[Literal["big", "little"], ...] = ("big", "little")
_WIDTHS = (1, 2, 3, 4, 8)
_MAX_STACKED = 6

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], None]


def mutated(seeds: Sequence[bytes], chance: random.Random, max_bytes: int) -> bytes:
    """One of the seeds with a few mutations; never longer than ``max_bytes``."""
    data = bytearray(chance.choice(seeds)[:max_bytes])
    for _ in range(chance.randint(1, _MAX_STACKED)):
        chance.choice(_MUTATIONS)(data, chance, seeds)
    return bytes(data[:max_bytes])


def _place(data: bytearray, chance: random.Random) -> int:
    """Anywhere, but more often near the begin, where the headers are."""
    if len(data) > 64 and chance.random() < 0.5:
        return chance.randrange(min(len(data), chance.choice((64, 512, 4096))))
    return chance.randrange(len(data) + 1)


def _length(chance: random.Random) -> int:
    return chance.choice((1, 1, 2, 4, 8, chance.randint(1, 64), chance.randint(1, 4096)))


def _flip_bit(data: bytearray, chance: random.Random, _seeds: Sequence[bytes]) -> None:
    at = _place(data, chance)
    if at < len(data):
        data[at] ^= 1 << chance.randrange(8)


def _set_byte(data: bytearray, chance: random.Random, _seeds: Sequence[bytes]) -> None:
    at = _place(data, chance)
    data[at : at + 1] = bytes([chance.randrange(256)])


def _set_number(data: bytearray, chance: random.Random, _seeds: Sequence[bytes]) -> None:
    at, width = _place(data, chance), chance.choice(_WIDTHS)
    value = chance.choice(_EDGES) % 2 ** (8 * width)
    data[at : at + width] = value.to_bytes(width, chance.choice(_ORDERS))


def _add_to_number(data: bytearray, chance: random.Random, _seeds: Sequence[bytes]) -> None:
    at, width = _place(data, chance), chance.choice(_WIDTHS)
    order = chance.choice(_ORDERS)
    value = int.from_bytes(data[at : at + width], order) + chance.randint(-16, 16)
    data[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, order)


def _remove(data: bytearray, chance: random.Random, _seeds: Sequence[bytes]) -> None:
    at = _place(data, chance)
    del data[at : at + _length(chance)]


def _cut_short(data: bytearray, chance: random.Random, _seeds: Sequence[bytes]) -> None:
    del data[_place(data, chance) :]


def _repeat(data: bytearray, chance: random.Random, _seeds: Sequence[bytes]) -> None:
    at = _place(data, chance)
    piece = data[at : at + _length(chance)]
    data[at:at] = piece * chance.choice((1, 1, 2, 16))


def _insert_noise(data: bytearray, chance: random.Random, _seeds: Sequence[bytes]) -> None:
    at, length = _place(data, chance), _length(chance)
    data[at:at] = bytes([chance.randrange(256)]) * length if chance.random() < 0.5 else chance.randbytes(length)


def _move(data: bytearray, chance: random.Random, _seeds: Sequence[bytes]) -> None:
    at, length = _place(data, chance), _length(chance)
    piece = data[at : at + length]
    del data[at : at + length]
    to = _place(data, chance)
    data[to:to] = piece


def _splice(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    other = chance.choice(seeds)
    begin = chance.randrange(len(other) + 1)
    at = _place(data, chance)
    data[at : at + chance.choice((0, _length(chance)))] = other[begin : begin + _length(chance)]


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bit,
    _set_byte,
    _set_number,
    _set_number,
    _add_to_number,
    _remove,
    _cut_short,
    _repeat,
    _insert_noise,
    _move,
    _splice,
)
