"""A warehouse that dies in the middle of a procedure: nothing of it is kept, and the next run does it all."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from snowflake.connector.errors import Error

from tests import warehouse
from tests.integration.warehouse.test_silver import Silver, assert_silver_is, traffic

__all__ = ["traffic"]
pytestmark = [pytest.mark.scenario, pytest.mark.timeout(900)]
CALLS = ("AMPLITUDE_BASE_UPDATE", "AMPLITUDE_NORMALISED_UPDATE")
STORES = {CALLS[0]: "SILVER.AMPLITUDE_EVENTS_BASE1", CALLS[1]: "SILVER.AMPLITUDE_EVENTS"}


def test_a_kill_in_the_middle_of_either_procedure_loses_and_doubles_nothing(
    s3_server, environment, traffic, monkeypatch, tmp_path
):
    s3_server.clear()
    with ExitStack() as servers:

        def started() -> Silver:
            running = servers.enter_context(warehouse.serving(tmp_path, s3_server.url))
            for name, value in running.settings("KILLED").items():
                monkeypatch.setenv(name, value)
            return Silver(running, s3_server, "KILLED")

        environment("KILLED")
        monkeypatch.setenv("SILVER_TASKS", "false")
        silver = started()
        for scope in ("account", "database"):
            warehouse.run_deploy(tmp_path, scope)
        silver.run("alter pipe RAW.AMPLITUDE_EVENTS_PIPE set pipe_execution_paused = true")
        silver.land(traffic[0])
        begin = time.monotonic()
        silver.update()
        each = (time.monotonic() - begin) / 2
        silver.land(traffic[1])

        killed_in_time = 0
        for procedure in CALLS:
            before = stored(silver, procedure)
            for part in (0.15, 0.3, 0.6):  # the machine may be twice as fast now
                # never joined: the connector goes on trying to reach the server that is gone
                threading.Thread(target=called, args=(silver, procedure), daemon=True).start()
                time.sleep(each * part)
                silver.server._process.kill()
                silver.server._process.wait()
                silver.files += 10  # names of later files
                silver = started()
                killed_in_time += stored(silver, procedure) == before
            silver.run(f"call SILVER.{procedure}()")
        assert killed_in_time >= 2  # else every kill came too late to show anything
        silver.update()
        assert_silver_is(silver, [json.loads(line) for hour in traffic for line in hour])


def called(silver: Silver, procedure: str) -> None:
    with suppress(Error):
        silver.run(f"call SILVER.{procedure}()")


def stored(silver: Silver, procedure: str) -> int:
    return silver.run(f"select count(*) from {STORES[procedure]}")[0][0]
