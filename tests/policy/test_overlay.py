"""The laptop's engine runs the server's configuration; what it sets differently is listed here, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
REASONS = {
    "datasources.postgres.enabled": "no Postgres on a laptop; both files are merged, so it must be switched off",
    "kestra.repository.type": "H2 instead of Postgres",
    "kestra.queue.type": "H2 instead of Postgres",
    "kestra.storage.local.base-path": "the state lives in .local/, not in the container",
    "kestra.tasks.tmp-dir.path": "the state lives in .local/, not in the container",
    "kestra.server.termination-grace-period": "a person waits for the laptop to stop; what was running is killed",
}
ADDED = {
    "datasources.h2": "H2 instead of Postgres",
    "flyway.datasources.h2": "H2 instead of Postgres: its migrations; the image's own settings do this for Postgres",
    "kestra.server-type": "the image's command line sets it; without it nothing watches crashed runs",
    "kestra.server.service.purge": "no default in the engine modules; the image brings it",
    "kestra.jdbc.queues": "an engine that waits for a task polls less, sooner: it shares two cores with that task",
    "kestra.jdbc.cleaner": "no default in the engine modules; an hour, because H2's file grows with the queue's rows",
}


def leaves(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path


def keys(file: str) -> set[str]:
    return set(leaves(yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))))


def added(key: str) -> bool:
    return any(key.startswith(f"{start}.") or key == start for start in ADDED)


def test_every_key_that_the_overlay_sets_has_a_reason_and_every_reason_a_key():
    overlay = keys("local/kestra/overlay.yml")

    assert {key for key in overlay if not added(key)} == set(REASONS)
    assert {
        start for start in ADDED if not any(key == start or key.startswith(f"{start}.") for key in overlay)
    } == set()


def test_what_is_called_overridden_is_set_by_the_server_and_what_is_called_added_is_not():
    server = keys("docker/kestra.yml")

    overridden = set(REASONS) - {"datasources.postgres.enabled"}  # its opposite is the default
    assert overridden <= server
    assert not any(added(key) for key in server)


def test_the_server_configuration_holds_no_secret_itself():
    text = (ROOT / "docker/kestra.yml").read_text(encoding="utf-8")
    secret = [line.strip() for line in text.splitlines() if any(word in line for word in ("password:", "secret-key:"))]

    assert len(secret) == 4
    assert all(line.split(": ", 1)[1].startswith("${") for line in secret)
