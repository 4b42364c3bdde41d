"""Fuzzing: ``python -m tests.fuzz --seconds 300 [NAME…]``, or ``make fuzz MINUTES=5``.

Each module of `tests.fuzz.targets` has one ``TARGET``. Most feed a parser mutated files (`parser_target`); others, such
as those that attack a live server, bring a ``run`` of their own. The same seed makes the same inputs in the same order;
only how many of them fit into the time differs. An input that was found to fail is kept as a file, is named in the
report, and becomes a regression test.
"""

from tests.fuzz.parser import parser_target
from tests.fuzz.session import Finding, Session, Target

__all__ = ["Finding", "Session", "Target", "parser_target"]
