"""The changes that are tried: one place of a module's text at a time, found in its syntax tree, in order.

What nobody can test is left alone: annotations, docstrings, imports, what type checkers alone see, and the words of
messages (f-strings, and text with a space in it).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from types import EllipsisType

_COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.BitOr: "&",
    ast.BitAnd: "|",
}
_OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any", "popleft": "pop"}
_COPIES = frozenset({"list", "tuple", "set", "frozenset", "sorted", "reversed"})
_FOR_TYPE_CHECKERS = frozenset({"abstractmethod", "overload"})  # nobody calls a function with one of these decorators
_COMMUTATIVE = frozenset({"min", "max"})

Enums = Mapping[str, tuple[str, ...]]
"""Name of an enumeration -> its members."""
_Change = tuple[ast.AST, str]
"""A node, and the text in its place."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one change. ``line`` is that of the change in the original.

    ``function`` is the first line of the innermost function whose body has the change; 0 outside of all.
    """

    line: int
    original: str
    source: str
    function: int = 0

    def diff(self) -> list[str]:
        """The lines taken out and put in, with ``-`` and ``+`` before them."""
        lines = unified_diff(self.original.splitlines(), self.source.splitlines(), n=0, lineterm="")
        return [line for line in lines if line[:1] in "-+" and not line.startswith(("---", "+++"))]


def mutants_of(source: str, enums: Enums) -> list[Mutant]:
    """Every mutant of a module's text that can be compiled, in the order of their places; none twice."""
    starts = [0]
    encoded = source.encode()
    for line in encoded.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: dict[str, Mutant] = {}
    tree = ast.parse(source)
    # Inner functions come later in a walk, so they win.
    functions = {
        line: min(each.lineno for each in (node, *node.decorator_list))
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for line in range(node.body[0].lineno, (node.end_lineno or 0) + 1)
    }
    for node, text in _changes(tree, enums):
        assert isinstance(node, ast.expr | ast.stmt | ast.keyword | ast.ExceptHandler)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        if not text and encoded[begin - 1 : begin] == b"@":  # a decorator goes with its sign
            begin -= 1
        mutated = (encoded[:begin] + text.encode() + encoded[end:]).decode()
        if mutated != source and mutated not in found and _compiles(mutated):
            found[mutated] = Mutant(node.lineno, source, mutated, functions.get(node.lineno, 0))
    return sorted(found.values(), key=lambda mutant: mutant.line)


def enums_of(sources: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The enumerations that are written in these modules."""
    return {
        node.name: tuple(
            target.id
            for statement in node.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        )
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Enum") for base in node.bases)
    }


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _changes(tree: ast.Module, enums: Enums) -> Iterator[_Change]:
    for node in _with_behaviour(tree):
        for operator in _OPERATORS:
            yield from operator(node)
        if isinstance(node, ast.Attribute):
            yield from _neighbour(node, enums)


def _with_behaviour(node: ast.AST) -> Iterator[ast.AST]:
    """``node`` and what is below it, without the parts that mean nothing when the program runs."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "cast":
        yield from _with_behaviour(node.args[1])
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "bases", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_silent(child):
                yield from _with_behaviour(child)


def _is_silent(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.JoinedStr():
            return True
        case ast.Expr(value=ast.Constant(value=str() | EllipsisType())):  # a docstring, or no body
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            is_alias = isinstance(value, ast.Subscript) or (
                isinstance(value, ast.Call)
                and ast.unparse(value.func) in ("TypeVar", "TypeVarTuple", "logging.getLogger")
            )
            return name == "__all__" or (is_alias and name[:1].isupper()) or name == "log"
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log"))):
            return True
        case ast.keyword(arg="slots" | "weakref_slot"):  # of a dataclass: memory
            return True
    return False


# --- operators: each gives the changes of one node, most often none ---


def _comparison(node: ast.AST) -> Iterator[_Change]:
    if not isinstance(node, ast.Compare):
        return
    operands = [ast.unparse(each) for each in (node.left, *node.comparators)]
    signs = [_sign(each) for each in node.ops]
    for place, op in enumerate(node.ops):
        for other in _COMPARISONS[type(op)]:
            text = operands[0]
            for sign, operand in zip([*signs[:place], other, *signs[place + 1 :]], operands[1:], strict=True):
                text += f" {sign} {operand}"
            yield node, f"({text})"


def _sign(op: ast.cmpop) -> str:
    return ast.unparse(ast.Compare(ast.Name("a"), [op], [ast.Name("b")]))[2:-2]


def _boolean(node: ast.AST) -> Iterator[_Change]:
    if isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield node, f"({ast.unparse(ast.BoolOp(other, node.values))})"
        for place in range(len(node.values)):
            left = node.values[:place] + node.values[place + 1 :]
            yield node, f"({ast.unparse(left[0] if len(left) == 1 else ast.BoolOp(node.op, left))})"
    elif isinstance(node, ast.UnaryOp):
        yield node, f"({ast.unparse(node.operand)})"


def _arithmetic(node: ast.AST) -> Iterator[_Change]:
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _ARITHMETIC:
        sign = _ARITHMETIC[type(node.op)]
        if isinstance(node, ast.BinOp):
            yield node, f"(({ast.unparse(node.left)}) {sign} ({ast.unparse(node.right)}))"
        else:
            yield node, f"{ast.unparse(node.target)} {sign}= {ast.unparse(node.value)}"


def _constant(node: ast.AST) -> Iterator[_Change]:
    match node:
        case ast.Constant(value=bool(value)):
            yield node, repr(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield node, repr(value + 1)
        case ast.Constant(value=str(value)) if " " not in value:
            yield node, repr(f"{value}?")


def _condition(node: ast.AST) -> Iterator[_Change]:
    match node:
        case ast.If(test=test):
            yield test, "True"
            yield test, "False"
        case ast.While(test=test):
            yield test, "False"
        case ast.IfExp(body=body, orelse=orelse):
            yield node, f"({ast.unparse(body)})"
            yield node, f"({ast.unparse(orelse)})"
        case ast.comprehension(ifs=ifs, iter=iterable):
            for each in ifs:
                yield each, "True"
            yield iterable, "()"
        case ast.For(iter=iterable):
            yield iterable, "()"


def _statement(node: ast.AST) -> Iterator[_Change]:
    match node:
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield node, "return None"
        case ast.Expr() | ast.Assign() | ast.AugAssign() | ast.Raise() | ast.Return() | ast.Continue() | ast.Break():
            yield node, "pass"
        case ast.AnnAssign(value=ast.expr()):
            yield node, "pass"
        case ast.ExceptHandler(body=[*_, last]):
            if not isinstance(last, ast.Raise):
                yield last, "raise"


def _call(node: ast.AST) -> Iterator[_Change]:
    if not isinstance(node, ast.Call):
        return
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
    if name in _OPPOSITES:
        yield node.func, ast.unparse(node.func).removesuffix(name) + _OPPOSITES[name]
    if name in _COPIES and len(node.args) == 1 and not node.keywords:
        yield node, f"({ast.unparse(node.args[0])})"
    for place in range(len(node.args) - 1 if name not in _COMMUTATIVE else 0):
        swapped = [*node.args]
        swapped[place : place + 2] = reversed(swapped[place : place + 2])
        yield node, ast.unparse(ast.Call(node.func, swapped, node.keywords))
    for keyword in node.keywords:
        if keyword.arg == "slots":
            continue
        left = [each for each in node.keywords if each is not keyword]
        yield node, ast.unparse(ast.Call(node.func, node.args, left))


def _decorator(node: ast.AST) -> Iterator[_Change]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        names = [ast.unparse(decorator) for decorator in node.decorator_list]
        for decorator in node.decorator_list:
            if not _FOR_TYPE_CHECKERS.intersection(names):
                yield decorator, ""


def _neighbour(node: ast.Attribute, enums: Enums) -> Iterator[_Change]:
    """The next member of an enumeration in place of each."""
    members = enums.get(ast.unparse(node.value), ())
    if node.attr in members:
        other = members[(members.index(node.attr) + 1) % len(members)]
        yield node, f"{ast.unparse(node.value)}.{other}"


_OPERATORS: tuple[Callable[[ast.AST], Iterator[_Change]], ...] = (
    _comparison,
    _boolean,
    _arithmetic,
    _constant,
    _condition,
    _statement,
    _call,
    _decorator,
)
