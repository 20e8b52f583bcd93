"""Rules of the DDL, over the rendered scripts: what a deploy must never do, and what every object must say."""

from __future__ import annotations

import re

import pytest
from jinja2 import Environment, meta
from schemachange.sql_splitter import split_sql_statements
from sqlfluff.core import FluffConfig, Linter

from scripts import deploy
from scripts.pipeline.settings import DeploySettings

ROOT = deploy.FOLDERS.parent
SCOPES = [scope for scope in ("account", "database", "enterprise") if list((deploy.FOLDERS / scope).glob("*__*.sql"))]
# Object kinds whose replacement loses data, load memory, unread rows or an external id.
KEPT = "table|pipe|stream|stage|file format|storage integration|database|schema|warehouse|user|role|database role|task"


def settings(**more: str) -> DeploySettings:
    return DeploySettings(
        snowflake_account="acme",
        snowflake_user="someone",
        snowflake_warehouse="amplitude_wh",
        snowflake_database="amplitude",
        snowflake_private_key_file=ROOT / "key",
        raw_schema="raw",
        deploy_role="sysadmin",
        deploy_account_role="accountadmin",
        aws_bucket_name="example-bucket",
        aws_role_arn="arn:aws:iam::111122223333:role/amplitude-snowflake",
        aws_external_id="amplitude_pipeline_1",
        **more,
    )


def rendered() -> list[tuple[str, str]]:
    texts = [(scope, script, text) for scope in SCOPES for script, text in deploy.render(scope, settings()).items()]
    return [(f"{scope}/{script.name}", text) for scope, script, text in texts]


SCRIPTS = rendered()
STATEMENTS = [
    (name, re.sub(r"^\s*--.*\n", "", statement, flags=re.MULTILINE).strip())
    for name, text in SCRIPTS
    for statement in split_sql_statements(text)
]
BODIES = [(name, text.split("$$")[1].strip() + "\n") for name, text in SCRIPTS if "$$" in text]


def statements(pattern: str) -> list[tuple[str, str]]:
    return [(name, text) for name, text in STATEMENTS if re.match(pattern, text, re.IGNORECASE)]


def test_there_are_scripts_to_check():
    assert set(SCOPES) >= {"account", "database"}
    assert len(STATEMENTS) > 60


def test_nothing_that_holds_data_or_memory_is_replaced():
    """Known faults B12 (load memory of a replaced table or pipe) and B20 (external id of a replaced integration)."""
    assert not statements(rf"create\s+or\s+replace\s+(transient\s+)?({KEPT})\b")
    created = statements(rf"create\s+({KEPT})\b")
    assert created
    assert [
        name for name, text in created if not re.match(rf"create\s+({KEPT})\s+if\s+not\s+exists\b", text, re.IGNORECASE)
    ] == []


def test_no_stream_starts_with_initial_rows():
    """CREATE STREAM: the first read returns only the rows of the creation, and moves the offset to its own start."""
    assert len(statements(r"create\s+stream")) == 2
    assert not [name for name, text in STATEMENTS if "show_initial_rows" in text.lower()]


def test_nothing_is_dropped():
    assert not statements(r"(drop|truncate|undrop)\b")
    assert not statements(r"alter\s+table\s+\S+\s+drop\b")


def test_every_object_says_who_owns_it_and_who_writes_it():
    """In its own statement, or in a COMMENT ON or ALTER of the same object. A resource monitor takes no comment."""
    said_elsewhere = {
        name
        for _, text in statements(r"(comment\s+on|alter)\b")
        for name in re.findall(r"^(?:comment on|alter) [a-z ]+? ([\w.]+)\s", text)
        if "Owner: " in text
    }
    named = rf"create\s+(?:or\s+\w+\s+)?(?:{KEPT}|view|procedure|masking policy)\s+(?:if\s+not\s+exists\s+)?([\w.]+)"
    created = [(script, re.match(named, text, re.IGNORECASE), text) for script, text in statements(r"create\b")]
    unknown = [text[:40] for _, name, text in created if name is None]
    assert [text for text in unknown if not text.startswith("create resource monitor")] == []
    silent = [name[1] for _, name, text in created if name and "Owner: " not in text and name[1] not in said_elsewhere]
    assert silent == []


def test_each_account_script_names_the_role_it_needs():
    names = list((deploy.FOLDERS / "account").glob("*.sql"))
    assert names
    assert [path.name for path in names if "-- Role: " not in path.read_text()] == []


def test_every_given_variable_is_used():
    """An unknown one is an error at deploy time."""
    files = [*deploy.FOLDERS.rglob("*.sql"), *deploy.FOLDERS.rglob("*.jinja")]
    used = set().union(*(meta.find_undeclared_variables(Environment().parse(file.read_text())) for file in files))
    assert set(deploy.variables("account", settings())) - used == set()


def linter() -> Linter:
    return Linter(config=FluffConfig.from_root())


@pytest.mark.scenario  # `make lint` lints the same files; this one sees that it had any
def test_the_linter_finds_nothing_and_had_something_to_look_at(monkeypatch):
    monkeypatch.chdir(ROOT)
    result = linter().lint_paths((str(deploy.FOLDERS.relative_to(ROOT)),))
    files = [file for path in result.paths for file in path.files]
    assert len(files) >= len(SCRIPTS)
    assert [f"{file.path}: {each.desc()}" for file in files for each in file.get_violations()] == []


# Layout is judged on the template; a rendered loop cannot keep it.
NOT_ON_BODIES = "layout, AL03, RF04, RF05, AM04"


@pytest.mark.scenario
@pytest.mark.parametrize(("script", "body"), BODIES, ids=[name for name, _ in BODIES])
def test_bodies_of_procedures_are_linted_too(script, body):
    """A linter does not look inside `$$`."""
    config = FluffConfig(overrides={"dialect": "snowflake", "exclude_rules": NOT_ON_BODIES, "templater": "raw"})
    found = Linter(config=config).lint_string(body).get_violations()
    assert [f"line {each.line_no}: {each.desc()}" for each in found] == []


def test_the_body_check_can_fail():
    config = FluffConfig(overrides={"dialect": "snowflake", "exclude_rules": NOT_ON_BODIES, "templater": "raw"})
    found = Linter(config=config).lint_string("begin\n    insrt into a (b) values (1);\nend;\n").get_violations()
    assert [each.rule_code() for each in found] == ["PRS"]


def test_each_file_names_the_documentation_it_rests_on():
    table = (deploy.FOLDERS / "SOURCES.md").read_text()
    rows = [line.split("|") for line in table.splitlines() if re.match(r"\| [a-z]+/", line)]
    named = {row[1].strip() for row in rows}
    files = {path.relative_to(deploy.FOLDERS).as_posix() for path in deploy.FOLDERS.rglob("*.sql")}
    assert files
    assert named == files
    pages = [page.strip() for row in rows for page in row[2].split(",")]
    known = r"(sql-reference|user-guide|developer-guide)/[a-z0-9_/-]+"
    assert [page for page in pages if not re.fullmatch(known, page)] == []
    assert [row[1] for row in rows if len(row[3].strip()) < 10] == []


def test_b13_the_pipe_takes_the_load_time_from_the_scan():
    """Known fault B13: CURRENT_TIMESTAMP in a pipe is evaluated when the pipe compiles."""
    (pipe,) = [text for _, text in statements(r"create\s+pipe")]
    assert "metadata$start_scan_time" in pipe
    assert not re.search(r"current_timestamp|sysdate|current_date|getdate", pipe, re.IGNORECASE)
    assert "on_error = skip_file" in pipe
    assert "copy into amplitude.raw." in pipe
    assert "from @amplitude.raw." in pipe


def test_procedures_run_no_ddl_between_begin_and_commit():
    """DDL commits: the first design's temporary table consumed the stream before anything else could fail."""
    assert len(BODIES) == 2
    for script, body in BODIES:
        inside = body.split("begin transaction;")[1].split("commit;")[0]
        ddl = r"(?im)^\s*(create|alter|drop|truncate|grant|comment)\b"
        assert not re.search(ddl, inside), script
        assert not re.search(r"\bpivot\b", body, re.IGNORECASE), script
        handler = body.split("exception")[1]
        assert handler.index("rollback;") < handler.index("insert into ops.silver_audit") < handler.index("raise;")


def test_no_body_depends_on_the_session_time_zone():
    """Known fault B16: the wall clock of the session in a UTC column."""
    for script, body in BODIES:
        assert not re.search(r"current_timestamp|localtimestamp|getdate|\bto_timestamp\s*\(", body, re.IGNORECASE), (
            script
        )


def test_tasks_say_every_parameter_and_are_resumed_after_a_change():
    """CREATE OR ALTER TASK unsets what it leaves out, and leaves the graph suspended."""
    tasks = [text for _, text in statements(r"create\s+or\s+alter\s+task")]
    assert len(tasks) == 2
    assert all("timezone = 'UTC'" in text and "query_tag" in text and "user_task_timeout_ms" in text for text in tasks)
    # Session parameters are parted by commas; other parameters are not.
    assert all("timezone = 'UTC',\n    query_tag = " in text for text in tasks)
    # A name is looked up where the task is made, and again where it runs: said in full.
    assert all(name.count(".") == 2 for text in tasks for name in re.findall(r"stream_has_data\('(\S+)'\)", text))
    assert statements(r"select\s+system\$task_dependents_enable")
    off = deploy.render("database", settings(silver_tasks="false"))
    assert any("amplitude_base_update_task suspend" in text for script, text in off.items() if script.type == "A")
