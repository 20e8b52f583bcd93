"""Paths into VARIANT: `v:a.b`, `v['a'][0]`, `v:"$insert_id"` become one JSON path, read once per row."""

from __future__ import annotations

from sqlglot import exp

from local.snowflake.casts import call


def normalise(tree: exp.Expr) -> exp.Expr:
    """Every chain of `:`, `.` and `[]` becomes one JSONExtract with a path of keys and positions."""
    for node in list(tree.find_all(exp.Bracket, exp.JSONExtract, exp.GetExtract)):
        if isinstance(node.parent, exp.Bracket | exp.JSONExtract) and node.parent.this is node:
            continue  # the outermost of a chain takes the inner ones along
        base, parts = _chain(node)
        if parts is None or base is node:
            continue
        path = exp.JSONPath(expressions=[exp.JSONPathRoot(), *parts])
        replacement = exp.JSONExtract(this=base.copy(), expression=path, only_json_types=True)
        if node is tree:
            tree = replacement
        else:
            node.replace(replacement)
    return tree


def _chain(node: exp.Expr) -> tuple[exp.Expr, list[exp.Expr] | None]:
    """(what the path starts at, its parts), parts None when one is not a constant."""
    if isinstance(node, exp.JSONExtract) and isinstance(node.expression, exp.JSONPath):
        base, parts = _chain(node.this)
        more = [part.copy() for part in node.expression.expressions if not isinstance(part, exp.JSONPathRoot)]
        return base, None if parts is None else parts + more
    if isinstance(node, exp.Bracket | exp.GetExtract):
        inside = node.expressions if isinstance(node, exp.Bracket) else [node.expression]
        if len(inside) == 1 and isinstance(inside[0], exp.Literal):
            base, parts = _chain(node.this)
            if parts is None:
                return base, None
            literal = inside[0]
            part = (
                exp.JSONPathKey(this=literal.this)
                if literal.is_string
                else exp.JSONPathSubscript(this=int(literal.this))
            )
            return base, [*parts, part]
        return node, None
    return node, []


def read_once(tree: exp.Expr) -> exp.Expr:
    """Three or more texts out of one column: the JSON is parsed once per row, not once per path.

    32 paths of a column cost 37 s per million events one by one, and 6 s in one list (measured).
    """
    groups: dict[tuple[int, str], list[exp.JSONExtractScalar]] = {}
    for node in tree.find_all(exp.JSONExtractScalar):
        if isinstance(node.this, exp.Column) and isinstance(node.expression, exp.JSONPath):
            select = node.find_ancestor(exp.Select)
            groups.setdefault((id(select), node.this.sql()), []).append(node)
    for nodes in groups.values():
        places = {path: index for index, path in enumerate(dict.fromkeys(_path_text(node) for node in nodes), 1)}
        if len(places) < 3:
            continue
        wanted = call("list_value", *[exp.Literal.string(path) for path in places])
        for node in nodes:
            extracted = call("json_extract_string", node.this, wanted)
            new = call("list_extract", extracted, exp.Literal.number(places[_path_text(node)]))
            if node is tree:
                return new
            node.replace(new)
    return tree


def _path_text(node: exp.JSONExtractScalar) -> str:
    parts = ["$"]
    for part in node.expression.expressions:
        if isinstance(part, exp.JSONPathKey):
            parts.append('."' + str(part.this).replace("\\", "\\\\").replace('"', '\\"') + '"')
        elif isinstance(part, exp.JSONPathSubscript):
            parts.append(f"[{part.this}]")
    return "".join(parts)
