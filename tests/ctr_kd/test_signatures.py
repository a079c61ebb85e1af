"""How the functions of the package are called: few arguments by their place, the others by name."""

import ast
from pathlib import Path

import ctr_kd
from ctr_kd.data.batching import Batch

MOST = 5
ROOT = Path(ctr_kd.__file__).parent


def positional(function):
    return [argument.arg for argument in (*function.args.posonlyargs, *function.args.args) if argument.arg not in ("self", "cls")]


def test_no_function_takes_more_than_five_arguments_by_their_place():
    """But for ``forward``: its arguments are the inputs of the exported graph, in their order, which a tracing needs."""
    found = {
        f"{file.relative_to(ROOT)}: {function.name}": positional(function)
        for file in ROOT.rglob("*.py")
        if file.parent.name != "report"
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
    }
    assert len(found) > 300
    assert [name for name, taken in found.items() if len(taken) > MOST and taken != list(Batch._fields)] == []
