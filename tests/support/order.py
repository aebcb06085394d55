"""Where source text lets chance decide an order. Called by tests/test_order.py.

A set's order hangs on the process's hash seed, a folder's on the file system. Whoever goes through
one must sort it, or do nothing in which order shows. A sort with a key keeps the order of what the
key does not tell apart, and therefore does not help.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

FOLDERS = {"glob", "rglob", "iterdir", "listdir", "scandir"}
SETS = {"set", "frozenset"}
OPERATIONS = {"union", "intersection", "difference", "symmetric_difference"}
TYPES = {"set", "frozenset", "Set", "AbstractSet", "MutableSet"}
HARMLESS = {*SETS, "len", "any", "all", "update", "issubset", "issuperset", "isdisjoint"}
"""Calls whose result hangs on what is in a set, not on its order."""

SORTING = {"sorted", "min", "max"}
GOING_THROUGH = {"list", "tuple", "enumerate", "zip", "map", "filter", "iter", "next", "sum"}
GOING_THROUGH |= {"join", "fromkeys", "extend", "reversed", "chain", "shown", "array", "tensor"}


def lets_chance_decide(source: str, functions: frozenset[str] = frozenset()) -> list[str]:
    """``line N: text`` of every place where an order is chance's.

    ``functions``: names of functions elsewhere that return sets.
    """
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    known = functions | set_functions(tree)
    found = set()
    attributes = _set_attributes(tree)
    for scope in _scopes(tree):
        names = _set_names(scope, known) | attributes
        for node in _own(scope):
            if _unordered(node, names, known) and not _order_lost(node, parents, names, known):
                found.add((node.lineno, ast.unparse(node)))
    return [f"line {line}: {text}" for line, text in sorted(found)]


def set_functions(tree: ast.AST) -> frozenset[str]:
    """The names of functions that are declared to return a set."""
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.returns is not None
        and _is_set_type(node.returns)
    )


def _scopes(tree: ast.Module) -> Iterator[ast.AST]:
    yield tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node


def _own(scope: ast.AST) -> Iterator[ast.expr]:
    """The expressions of a scope, without those of the functions in it."""
    queue = list(ast.iter_child_nodes(scope))
    while queue:
        node = queue.pop()
        if isinstance(node, ast.expr):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            queue.extend(ast.iter_child_nodes(node))


def _set_attributes(tree: ast.AST) -> frozenset[str]:
    """``self.NAME`` of what a class declares to be a set."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for line in ast.walk(node):
                if isinstance(line, ast.AnnAssign) and _is_set_type(line.annotation):
                    found.add("self." + ast.unparse(line.target).removeprefix("self."))
                elif isinstance(line, ast.FunctionDef) and line.returns is not None:
                    is_property = "property" in " ".join(map(ast.unparse, line.decorator_list))
                    if is_property and _is_set_type(line.returns):
                        found.add(f"self.{line.name}")
    return frozenset(found)


def _is_set_type(annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    return isinstance(annotation, ast.Name) and annotation.id in TYPES


def _set_names(scope: ast.AST, functions: frozenset[str]) -> frozenset[str]:
    """Local names that hold sets: annotated so, or assigned one."""
    names: set[str] = set()
    if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = [*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs]
        names |= {a.arg for a in arguments if a.annotation and _is_set_type(a.annotation)}
    queue = list(ast.iter_child_nodes(scope))
    statements: list[ast.Assign | ast.AnnAssign | ast.NamedExpr] = []
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            statements.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            queue.extend(ast.iter_child_nodes(node))
    for node in sorted(statements, key=lambda node: (node.lineno, node.col_offset)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        annotated = isinstance(node, ast.AnnAssign) and _is_set_type(node.annotation)
        value = node.value
        if annotated or (value is not None and _unordered(value, frozenset(names), functions)):
            names |= {ast.unparse(target) for target in targets}
    return frozenset(names)


def _is_set(node: ast.expr, names: frozenset[str], functions: frozenset[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Name | ast.Attribute):
        return ast.unparse(node) in names
    if isinstance(node, ast.BinOp) and isinstance(
        node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor
    ):
        # Keys of dictionaries too: their difference is a set.
        return any(_is_set(side, names, functions) for side in (node.left, node.right))
    if isinstance(node, ast.IfExp):
        return any(_is_set(side, names, functions) for side in (node.body, node.orelse))
    if isinstance(node, ast.Call):
        name = _called(node)
        return name in SETS | functions or (
            name in OPERATIONS and isinstance(node.func, ast.Attribute)
        )
    return False


def _unordered(node: ast.expr, names: frozenset[str], functions: frozenset[str]) -> bool:
    if isinstance(node, ast.Call) and (
        _called(node) in FOLDERS or ast.unparse(node.func) == "os.walk"
    ):
        return True
    return _is_set(node, names, functions)


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _order_lost(
    node: ast.expr,
    parents: dict[ast.AST, ast.AST],
    names: frozenset[str],
    functions: frozenset[str],
) -> bool:
    """Whether nobody goes through it in its order."""
    parent = parents[node]
    if isinstance(parent, ast.Starred):
        node, parent = parent, parents[parent]
        if not isinstance(parent, ast.Call):
            return isinstance(parent, ast.Set)
    if isinstance(parent, ast.For | ast.AsyncFor):
        return parent.iter is not node
    if isinstance(parent, ast.comprehension):
        return parent.iter is not node or _comprehension_harmless(parents[parent], parents)
    if isinstance(parent, ast.FormattedValue | ast.YieldFrom):
        return False
    if isinstance(parent, ast.Call) and node in parent.args:
        name = _called(parent)
        if name in SORTING:
            return not any(keyword.arg == "key" for keyword in parent.keywords)
        return name not in GOING_THROUGH
    # `found.pop()` takes any of them; of a set with one element that is the one.
    return True


def _comprehension_harmless(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    if isinstance(node, ast.SetComp):
        return True
    parent = parents[node]
    if isinstance(node, ast.DictComp) or not isinstance(parent, ast.Call):
        return False
    name = _called(parent)
    if name in SORTING:
        return not any(keyword.arg == "key" for keyword in parent.keywords)
    return name in HARMLESS


# ---------------------------------------------------------------------- text files


def locale_decides(source: str) -> list[str]:
    """``line N: text`` of every text file that is opened without saying its encoding."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg for keyword in node.keywords}
        texts = _called(node) in {"read_text", "write_text"} or _opens_text(node)
        if "encoding" not in given and (texts or given & {"text", "universal_newlines"}):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def _opens_text(node: ast.Call) -> bool:
    """``open(...)`` and ``path.open(...)`` in text mode; other objects have an ``open`` too."""
    if _called(node) not in {"open", "fdopen", "NamedTemporaryFile"}:
        return False
    if isinstance(node.func, ast.Attribute):
        if ast.unparse(node.func.value) in {"Image", "av", "os", "archive", "webbrowser"}:
            return False
        modes = node.args[:1]
    else:
        modes = node.args[1:2]
    modes += [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
    return not any(isinstance(m, ast.Constant) and "b" in str(m.value) for m in modes)
