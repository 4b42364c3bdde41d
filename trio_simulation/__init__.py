"""A Trio program under a network that fails, in one process, with virtual time: the same seed, the same run."""

from .faults import Fault, FaultPlan
from .network import Cut, Network
from .nodes import Node
from .processes import Killed
from .runner import Explorer, Result, main
from .scheduler import TrioChanged
from .shrinking import shrink
from .simulation import LimitExceeded, Run, Simulation, attempt, run

__all__ = [
    "Cut",
    "Explorer",
    "Fault",
    "FaultPlan",
    "Killed",
    "LimitExceeded",
    "Network",
    "Node",
    "Result",
    "Run",
    "Simulation",
    "TrioChanged",
    "attempt",
    "main",
    "run",
    "shrink",
]
