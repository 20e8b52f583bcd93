"""Ten bad days on the real Kestra engine and the stand-ins, driven by what a user can do: at the end every event is
everywhere once, every hour is `loaded` or `empty`, and every alert has had its end.

The days hold both changes of the clocks, London's (25 October) and Los Angeles' (1 November): the server runs on
London's time and reports on that of Los Angeles.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.java import ensure_engine
from local.stack import ROOT, shell
from scripts.pipeline.project import FOLDERS
from tests.receiver import Receiver
from tests.scenarios.doors import s3_without_parts, snowflake_without_login
from tests.scenarios.world import SmallStack, World

pytestmark = [pytest.mark.engine, pytest.mark.scenario, pytest.mark.timeout(3600)]
FIRST, LAST = "2026-10-24", "2026-11-02"
STEPS = ("plan", "extract", "upload", "load", "transform", "verdict")
MART = "dbt/models/marts/amplitude/daily_engagement.sql"
SOURCES = "dbt/models/staging/amplitude/_amplitude__sources.yml"


def on(day: str, clock: str = "03:30:05") -> datetime:
    return datetime.fromisoformat(f"2026-{day}T{clock}").replace(tzinfo=UTC)


@pytest.fixture
def chat() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def pulse() -> Iterator[Receiver]:
    """Whoever watches over the heartbeat."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """What is deployed to Kestra, without what looks at another clock than ours: dbt asks by the warehouse's how fresh
    the data is; and Kestra, after a backfill, takes the ticks from its last date to the machine's now for missed, and
    would run the newest of them at each start.
    """
    root = tmp_path / "repository"
    for folder in (*FOLDERS, "flows"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("target", "logs", "__pycache__"))
    edit(root / SOURCES, r"(?<=warn_after: {count: )\d+", "1000000")
    edit(root / "flows/amplitude_daily.yml", "(?<=recoverMissedSchedules: )LAST", "NONE")
    return root


def edit(file: Path, old: str, new: str) -> None:
    text, count = re.subn(old, new, file.read_text(encoding="utf-8"))
    assert count == 2
    file.write_text(text, encoding="utf-8")


@pytest.fixture
def broken(repository: Path, tmp_path: Path) -> Path:
    """The same with an edit that nobody tried: a mart that cannot be built."""
    root = tmp_path / "broken"
    shutil.copytree(repository, root)
    mart = root / MART
    mart.write_text(mart.read_text(encoding="utf-8") + "where no_such_column > 0\n", encoding="utf-8")
    return root


@pytest.fixture
def world(
    repository: Path, chat: Receiver, pulse: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """Deployed, at the evening of the first day."""
    monkeypatch.setenv("ALERT_WEBHOOK_URL", chat.url)
    monkeypatch.setenv("HEARTBEAT_URL", pulse.url)
    monkeypatch.setenv("REPORTING_TIMEZONE", "America/Los_Angeles")
    monkeypatch.setenv("MAX_BYTES_PER_RUN", "100000000")  # of which health wants three times free on the disk
    build = ensure_engine()
    with SmallStack(tmp_path / "state") as stack:
        world = World(build, stack, repository)
        try:
            world.at(on("10-24", "20:00:00"))
            for scope in ("account", "database"):
                assert world.run("snowflake_deploy", action="apply", scope=scope).state == "SUCCESS"
            yield world
        finally:
            world.down()


def said(receiver: Receiver, of: str = "amplitude_") -> list[str]:
    """What came of these flows since the last look. That of health may come at any time: its schedule runs as well."""
    texts = [body["text"] for body in receiver.bodies]
    mine = [text for text in texts if text.split("] ", 1)[1].startswith(of)]
    receiver.bodies[:] = [{"text": text} for text in texts if text not in mine]
    return mine


def calendar(world: World) -> dict[str, str]:
    """Day → a letter an hour, as `python -m scripts.ledger` prints it."""
    environment = shell() | world.stack.settings | {"PIPELINE_NOW": world.now.isoformat()}
    command = [sys.executable, "-m", "scripts.ledger", "--from", FIRST, "--to", LAST]
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^(\d{4}-\d\d-\d\d)  (\S{24}) ", shown, re.MULTILINE))


def assert_complete(world: World) -> None:
    """Hop by hop, uuid by uuid."""
    until = f"{world.now:%Y-%m-%d}T00"  # the last tick has taken what was settled of its own day
    truth = sorted(uuid for uuids in world.truth(f"{FIRST}T00", until).values() for uuid in uuids)
    assert len(truth) == len(set(truth)) > 1000
    raw = world.sql("select distinct json_data:uuid::varchar from raw.amplitude_events_raw_python")
    assert sorted(row[0] for row in raw) == truth
    for hop in ('"uuid" from silver.amplitude_events_base1', "uuid from intermediate.int_amplitude__events"):
        assert sorted(row[0] for row in world.sql(f"select {hop}")) == truth, hop
    steps = [row[0] for row in world.sql("select uuid from marts.journey_analysis")]
    of_sessions = world.sql(
        "select uuid from intermediate.int_amplitude__events where session_id <> -1 and not is_insert_id_repeat"
    )
    ghosts = world.sql("select uuid from intermediate.int_amplitude__session_events where is_ghost_view")
    assert sorted([*steps, *(row[0] for row in ghosts)]) == sorted(row[0] for row in of_sessions)
    assert set("".join(calendar(world).values())) == {"L", "e"}
    assert len(calendar(world)) == 10


def marts(world: World) -> list[list[object]]:
    queries = (
        "select uuid, session_key, step_number from marts.journey_analysis order by 1",
        "select session_key, events, started_at from marts.user_session order by 1",
        "select * from marts.daily_engagement order by 1",
    )
    return [list(world.sql(query)) for query in queries]


def test_ten_bad_days(world: World, chat: Receiver, pulse: Receiver, broken: Path) -> None:
    first_day(world, chat, pulse)
    amplitude_is_away_for_a_day(world, chat, pulse)
    the_next_tick_closes_the_gap(world, chat, pulse)
    s3_denies(world, chat, pulse)
    # 28 and 29 October: the server is down, nothing runs
    snowflake_refuses(world, chat)
    the_server_dies_in_each_step(world, chat)
    somebody_kills_a_task(world, chat)
    dbt_fails(world, chat, pulse, broken)
    assert_complete(world)
    built = marts(world)

    assert world.run("pipeline_health").vars["check"]["problems"] == 0
    assert world.run("notify", key="nothing", text="", severity="resolved").vars["send"]["alerts"] == "{}"
    judged = world.run("amplitude_reconcile", start_date=FIRST, end_date=LAST)
    assert (judged.state, judged.vars["compare"]["differences"]) == ("SUCCESS", 0), judged
    what_is_lost_comes_back(world, chat)
    a_replay_needs_no_files_of_its_run(world, chat)
    assert_complete(world)
    assert marts(world) == built
    assert world.run("dbt_build", full_refresh=True).state == "SUCCESS"
    assert marts(world) == built
    assert said(chat) == []


def first_day(world: World, chat: Receiver, pulse: Receiver) -> None:
    world.at(on("10-25"))
    run = world.tick()
    assert (run.state, run.vars["plan"]["reason"]) == ("SUCCESS", "schedule"), run
    assert (said(chat), len(pulse.bodies)) == ([], 1)
    # Events that Amplitude gets later: the re-checks after a day and after a week find them.
    world.late("2026-10-24T10", 3)


def amplitude_is_away_for_a_day(world: World, chat: Receiver, pulse: Receiver) -> None:
    world.faults({"do": "status", "status": 503, "retry_after": 1})
    world.at(on("10-26"))
    run = world.tick()
    assert (run.state, run.failed) == ("FAILED", ["verdict"]), run
    again = world.run("amplitude_daily", start_date="2026-10-25", transform=False)
    assert again.state == "FAILED", again
    (alert,) = said(chat)  # the second run has nothing new to say
    assert alert.startswith("[error] amplitude_daily 2026-10-25 ended FAILED, tasks that failed: verdict. "), alert
    assert re.search(r"verdict\. \d+ of \d+ hours, extract: .*503", alert), alert
    assert len(pulse.bodies) == 1
    world.at(on("10-26", "12:45:00"))
    assert world.run("pipeline_health").vars["check"]["kinds"] == "open_hours"
    (alert,) = said(chat, "open_hours")
    assert alert.startswith("[error] open_hours, since 2026-10-26 12:45 UTC: 23 hours are not exported"), alert
    world.faults()


def the_next_tick_closes_the_gap(world: World, chat: Receiver, pulse: Receiver) -> None:
    world.at(on("10-27"))
    run = world.tick()
    assert run.state == "SUCCESS", run
    assert run.vars["plan"] | {"hours_to_export": 48, "hours_to_recheck": 22, "hours_to_load": 0} == run.vars["plan"]
    closed = "Over with it: amplitude_daily 2026-10-25."
    assert said(chat) == [f"[resolved] amplitude_daily 2026-10-26 is complete: run {run.execution}. {closed}"]
    assert len(pulse.bodies) == 2
    world.run("pipeline_health")
    (over,) = said(chat, "pipeline_health")
    assert over.startswith("[resolved] pipeline_health: nothing is wrong any more. Over with it: "), over
    assert "pipeline_health open_hours" in over


def s3_denies(world: World, chat: Receiver, pulse: Receiver) -> None:
    with s3_without_parts(world.stack.endpoints["s3"]["endpoint"]) as settings:
        world.at(on("10-28"), **settings)
        run = world.tick()
    assert (run.state, run.failed) == ("FAILED", ["upload"]), run
    assert "tasks that failed: upload" in said(chat)[0]
    world.at(on("10-28", "09:00:00"))  # the policy is mended
    again = world.restart(run)
    assert again.state == "SUCCESS", again
    assert said(chat) == [f"[resolved] amplitude_daily 2026-10-27 is complete: run {run.execution}."]
    assert len(pulse.bodies) == 3


def snowflake_refuses(world: World, chat: Receiver) -> None:
    with snowflake_without_login() as settings:
        world.at(on("10-31"), **settings)
        run = world.tick()
    assert (run.state, run.failed) == ("FAILED", ["load"]), run
    assert run.vars["plan"]["hours_to_export"] == 72  # the two days of downtime too
    assert "tasks that failed: load" in said(chat)[0]
    assert calendar(world)["2026-10-28"].count("u") > 12
    world.at(on("10-31", "09:00:00"))  # the key is the user's again
    again = world.replay(run.execution)
    assert again.state == "SUCCESS", again
    assert again.vars["extract"]["requests"] == 0
    assert said(chat) == [f"[resolved] amplitude_daily 2026-10-30 is complete: run {again.execution}."]
    # A replay does what its run was asked for; what the ledger lacks besides is the next tick's.
    assert calendar(world)["2026-10-28"].count("u") > 12


def the_server_dies_in_each_step(world: World, chat: Receiver) -> None:
    """Each time: started again, what it left is killed, and a person replays that."""
    world.at(on("11-01"))
    execution = world.begin_tick()
    for number, step in enumerate(STEPS):
        world.reaches(execution, step, 1.5)  # H2 keeps what was committed back for half a second
        world.crash()
        assert world.at(on("11-01", f"04:{number:02}:00")) == [execution], step
        execution = world.begin_replay(execution)
    run = world.ends(execution)
    assert run.state == "SUCCESS", run
    *killed, over = [re.split(", |: run", text)[0] for text in said(chat)]
    assert over == "[resolved] amplitude_daily 2026-10-31 is complete"
    # The first one may have had no interval yet; of all others one is enough.
    keys = ("on schedule", "2026-10-31")
    assert killed in ([f"[error] amplitude_daily {key} ended KILLED" for key in some] for some in (keys, keys[1:]))


def somebody_kills_a_task(world: World, chat: Receiver) -> None:
    world.faults({"do": "delay", "seconds": 60})
    world.at(on("11-02"))
    execution = world.begin_tick()
    world.reaches(execution, "extract", 3)
    killed = world.kill(execution)
    world.faults()
    assert killed.state == "KILLED", killed
    assert said(chat)[0].startswith("[error] amplitude_daily 2026-11-01 ended KILLED")
    again = world.replay(execution)
    assert again.state == "SUCCESS", again
    assert said(chat) == [f"[resolved] amplitude_daily 2026-11-01 is complete: run {again.execution}."]
    # 25 October, which Amplitude was away for: its hour 05 was empty.
    world.late("2026-10-25T05", 2)


def dbt_fails(world: World, chat: Receiver, pulse: Receiver, broken: Path) -> None:
    world.at(on("11-03"), project=broken)
    run = world.tick()
    assert (run.state, run.failed) == ("FAILED", ["when_transform", "transform"]), run
    assert "transform" in said(chat)[0]
    world.at(on("11-03", "10:00:00"))  # the edit is taken back
    again = world.restart(run)
    assert again.state == "SUCCESS", again
    assert said(chat) == [f"[resolved] amplitude_daily 2026-11-02 is complete: run {run.execution}."]
    assert len(pulse.bodies) == 4


def what_is_lost_comes_back(world: World, chat: Receiver) -> None:
    """The backup's disk is gone, then an object in S3; of another hour rows of the landing table."""
    shutil.rmtree(world.stack.state / "data/zip")
    world.delete_parts("2026-10-26T15")
    world.sql("delete from raw.amplitude_events_raw_python where source_file like '%/date=2026-10-28/hour=12/%'")
    days = {"start_date": "2026-10-26", "end_date": "2026-10-28"}
    found = world.run("amplitude_reconcile", **days)
    assert (found.state, found.failed) == ("FAILED", ["when_different", "prove"]), found
    assert said(chat)[0].startswith("[error] amplitude_reconcile 2026-10-26..2026-10-28 ended FAILED")
    assert world.run("amplitude_reconcile", start_date="2026-10-25").state == "SUCCESS"
    assert said(chat) == [], "other days close it"
    mended = world.run("amplitude_reconcile", fix=True, **days)
    assert mended.state == "SUCCESS", mended
    assert mended.vars["compare"]["export_from"] == mended.vars["compare"]["export_to"] == "2026-10-26"
    steps = ("build_first", "export_again", "build", "prove")
    assert [mended.tasks[step] for step in steps] == ["SUCCESS"] * 4
    assert mended.vars["compare"]["full_refresh"] == 0
    assert said(chat) == [
        f"[resolved] amplitude_reconcile 2026-10-26..2026-10-28: every hop holds the same. Run {mended.execution}."
    ]


def a_replay_needs_no_files_of_its_run(world: World, chat: Receiver) -> None:
    """`pipeline_purge` has removed them: only from a task it fails."""
    execution = world.ticks[0]
    world.forget_files(execution)
    from_task = world.replay(execution, "load")
    assert (from_task.state, from_task.failed) == ("FAILED", ["load", "report"]), from_task  # whose files are gone too
    whole = world.replay(execution)
    assert (whole.state, whole.vars["plan"]["hours"]) == ("SUCCESS", 0), whole
    assert [text.split(":")[0] for text in said(chat)] == [
        "[error] amplitude_daily 2026-10-24 ended FAILED, tasks that failed",
        "[resolved] amplitude_daily 2026-10-24 is complete",
    ]
