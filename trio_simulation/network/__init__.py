"""Simulated TCP: connections in memory, without a file descriptor, so that no kernel decides what is ready first."""

from .links import Cut
from .network import Network

__all__ = ["Cut", "Network"]
