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

    32 paths of a column cost 37 s per million events one by one, and 6 s in one list (measured). The list stands below
    the SELECT: repeated at each place, 43 paths took DuckDB a second to plan, for every query of the staging view.
    """
    groups: dict[tuple[int, str], list[exp.JSONExtractScalar]] = {}
    for node in tree.find_all(exp.JSONExtractScalar):
        if isinstance(node.this, exp.Column) and isinstance(node.expression, exp.JSONPath):
            select = node.find_ancestor(exp.Select)
            groups.setdefault((id(select), node.this.sql()), []).append(node)
    for number, nodes in enumerate(groups.values()):
        places = {path: index for index, path in enumerate(dict.fromkeys(_path_text(node) for node in nodes), 1)}
        if len(places) < 3:
            continue
        wanted = call("list_value", *[exp.Literal.string(path) for path in places])
        read = _read_below(nodes[0], call("json_extract_string", nodes[0].this, wanted), f"_READ_{number}")
        for node in nodes:
            new = call("list_extract", read, exp.Literal.number(places[_path_text(node)]))
            if node is tree:
                return new
            node.replace(new)
    return tree


def _read_below(node: exp.Expr, read: exp.Expr, name: str) -> exp.Expr:
    """Makes `read` a column of the one table that the SELECT reads; `read` itself where that would not be the same."""
    select = node.find_ancestor(exp.Select)
    source = select.args["from_"].this if select and select.args.get("from_") else None
    if not (
        select
        and isinstance(source, exp.Table)
        and isinstance(source.this, exp.Identifier)
        and not any(source.args.get(part) for part in ("joins", "laterals", "pivots", "sample"))
        and not any(select.args.get(part) for part in ("joins", "laterals"))
        and not select.is_star
        and not any(column.name.upper() == "ROWID" or column.args.get("db") for column in select.find_all(exp.Column))
        and _reads_own_rows(select)
    ):
        return read
    alias = source.args["alias"].this if source.args.get("alias") else source.this
    below = exp.select(exp.Star(), exp.alias_(read, name, quoted=True)).from_(source.copy())
    source.replace(exp.Subquery(this=below, alias=exp.TableAlias(this=alias.copy())))
    return exp.column(name, quoted=True)


def _reads_own_rows(select: exp.Select) -> bool:
    """No subquery inside an expression, whose column may be one of the query around it."""
    place = select.parent
    while isinstance(place, exp.SetOperation | exp.Subquery):
        place = place.parent
    return isinstance(place, exp.CTE | exp.From) or select.find_ancestor(exp.Select) is None


def _path_text(node: exp.JSONExtractScalar) -> str:
    parts = ["$"]
    for part in node.expression.expressions:
        if isinstance(part, exp.JSONPathKey):
            parts.append('."' + str(part.this).replace("\\", "\\\\").replace('"', '\\"') + '"')
        elif isinstance(part, exp.JSONPathSubscript):
            parts.append(f"[{part.this}]")
    return "".join(parts)
