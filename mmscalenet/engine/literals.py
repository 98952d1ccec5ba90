"""Values as people write them in configs, read without running code."""
import ast
from fractions import Fraction


def read_literal(text: str | ast.AST) -> object:
    """A literal of Python, in which dicts may be calls of ``dict`` and numbers fractions: ``dict(ratio=5/24)``.

    Raises:
        SyntaxError: If it is no expression.
        ValueError: If there is more in it than literals.
    """
    node = ast.parse(text, mode='eval').body if isinstance(text, str) else text
    return ast.literal_eval(_Plain().visit(node))


def read_settings(text: str) -> dict:
    """Settings as :func:`~mmscalenet.engine.grown_config.as_written` gives them: ``scale=2, adapter=dict(ratio=1/2)``.

    Raises:
        SyntaxError: If it is no list of ``key=value``.
        ValueError: If there is more in it than literals.
    """
    settings = read_literal(f'dict({text})')
    if not isinstance(settings, dict):
        raise ValueError(f'{text} is no list of settings')
    return settings


def read_variable(text: str, name: str) -> object:
    """The value of a variable in a config's text, in which mmengine writes dicts as calls of ``dict``; None without it.

    Raises:
        SyntaxError: If the text is no Python.
        ValueError: If the value is more than literals.
    """
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and [getattr(t, 'id', None) for t in statement.targets] == [name]:
            return read_literal(statement.value)
    return None


class _Plain(ast.NodeTransformer):
    """Puts in the place of calls of ``dict`` and of divisions what they give."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        given = node.args[0] if node.args else ast.Dict([], [])  # dict({'a.b': 1}) where keys are no names
        if not (isinstance(node.func, ast.Name) and node.func.id == 'dict' and isinstance(given, ast.Dict)):
            return node
        keys = [word.arg and ast.Constant(word.arg) for word in node.keywords]
        return ast.Dict(given.keys + keys, given.values + [word.value for word in node.keywords])

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        parts = [side.value for side in (node.left, node.right) if isinstance(side, ast.Constant)]
        if isinstance(node.op, ast.Div) and [type(part) for part in parts] == [int, int] and parts[1]:
            value = Fraction(*parts)
            return ast.Constant(int(value) if value.denominator == 1 else float(value))
        return self.generic_visit(node)
