"""The mutation check itself: it finds the changes it promises, and tells a dead mutant from a survivor."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from tests.mutation.operators import enums_of, mutants_of
from tests.mutation.rules import HOUSE, RULES, Rule
from tests.mutation.trial import Trials, Verdict

ENUM = """
class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"
"""


def changes(source: str) -> set[str]:
    """The lines that mutants have in place of one of ``source``, without their indentation."""
    text = textwrap.dedent(source)
    mutants = mutants_of(text, enums_of([ENUM]))
    return {line[1:].strip() for mutant in mutants for line in mutant.diff() if line[0] == "+"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {"x = (a <= b)", "x = (a >= b)", "pass"}),
        ("x = a <= b < c", {"x = (a < b < c)", "x = (a > b < c)", "x = (a <= b <= c)", "x = (a <= b >= c)", "pass"}),
        ("x = a is not b", {"x = (a is b)", "pass"}),
        ("x = a not in b", {"x = (a in b)", "pass"}),
        ("x = a and b", {"x = (a or b)", "x = (a)", "x = (b)", "pass"}),
        ("x = not a", {"x = (a)", "pass"}),
        ("x = a + b", {"x = ((a) - (b))", "pass"}),
        ("a += b", {"a -= b", "pass"}),
        ("x = True", {"x = False", "pass"}),
        ("x = 7", {"x = 8", "pass"}),
        ("x = 'word'", {"x = 'word?'", "pass"}),
        ("x = 'some words'", {"pass"}),
        ("x: int = 7", {"x: int = 8", "pass"}),
        ("x = a if b else c", {"x = (a)", "x = (c)", "pass"}),
        ("x = [a for a in b if a.c]", {"x = [a for a in b if True]", "x = [a for a in () if a.c]", "pass"}),
        ("del x, y", set()),
        ("f(a, b)", {"f(b, a)", "pass"}),
        ("min(a, b)", {"max(a, b)", "pass"}),
        ("f(a, k=b)", {"f(a)", "pass"}),
        ("x = list(a)", {"x = (a)", "pass"}),
        ("x = Colour.RED", {"x = Colour.BLUE", "pass"}),
        ("log.info('x')", {"pass"}),
        ("x = cast('T', a and b)", {"x = cast('T', (a or b))", "x = cast('T', (a))", "x = cast('T', (b))", "pass"}),
        ("import x", set()),
        ("__all__ = ['x']", set()),
    ],
)
def test_expressions_and_statements(source: str, expected: set[str]) -> None:
    assert changes(source) == expected


def test_functions() -> None:
    source = '''
        @decorated
        def f(a: int | None = 3) -> int:
            """Text."""
            if a:
                raise ValueError(f"{a} is wrong")
            while a:
                break
            return a
    '''
    assert changes(source) == {
        "",  # without its decorator
        "def f(a: int | None = 4) -> int:",
        "if True:",
        "if False:",
        "pass",
        "while False:",
        "return None",
    }


def test_each_mutant_differs_from_the_others_at_one_place() -> None:
    mutants = mutants_of("if a == 1:\n    b = a\n    c(b)\n", {})
    assert len({mutant.source for mutant in mutants}) == len(mutants)
    assert [mutant.line for mutant in mutants] == [1, 1, 1, 1, 2, 3]
    assert all(len(mutant.diff()) == 2 for mutant in mutants)


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("a + b", Verdict.SURVIVED),
        ("a - b", Verdict.KILLED),
        ("a +", Verdict.KILLED),
        ("[x for x in iter(int, 1)]", Verdict.HUNG),  # for ever, and with more and more memory
        ("__import__('threading').Event().wait()", Verdict.HUNG),
    ],
)
def test_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, verdict: Verdict) -> None:
    original = "def add(a, b):\n    return a + b\n"
    (tmp_path / "mutated_here.py").write_text(original)
    test = tmp_path / "test_it.py"
    test.write_text("from mutated_here import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    trials = Trials([str(test)], idle_s=1.0 if "Event" in body else 60.0)
    assert trials.measure("mutated_here", original)
    assert trials.run("mutated_here", f"def add(a, b):\n    return {body}\n") is verdict
    assert "mutated_here" not in sys.modules
    assert (tmp_path / "mutated_here.py").read_text() == original


def test_a_mutant_that_cannot_be_imported_does_not_bring_other_tests_into_the_next_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mutated_here.py").write_text("TWO = 2\n")
    (tmp_path / "test_it.py").write_text("from mutated_here import TWO\n\n\ndef test_two():\n    assert TWO > 1\n")
    (tmp_path / "test_other.py").write_text("def test_that_fails():\n    assert False\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    trials = Trials(["test_it.py"])
    assert trials.measure("mutated_here", "TWO = 2\n")
    assert trials.run("mutated_here", "TWO = None.two\n") is Verdict.KILLED
    assert trials.run("mutated_here", "TWO = 3\n") is Verdict.SURVIVED


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_of_the_service_names_one_place_of_the_code(rule: Rule) -> None:
    assert (HOUSE / rule.path).read_text().count(rule.before) == 1
