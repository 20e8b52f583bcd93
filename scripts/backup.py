"""The local backup: `restore` rebuilds S3, the hour ledger and the load from it, without asking Amplitude.

Exports are replayed in the order in which they were made, so that the versions of an hour come back in theirs. What S3
and Snowflake already hold is left as it is.
"""

from __future__ import annotations

import argparse
import logging
import tarfile
import tempfile
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

from scripts import load as load_task
from scripts import upload
from scripts.pipeline.backup_store import BackupStore
from scripts.pipeline.checkers import Checkers
from scripts.pipeline.entry import as_command, utc_day
from scripts.pipeline.errors import DamagedError, PermanentError
from scripts.pipeline.exported import Exported, Recorder, check_archive
from scripts.pipeline.hours import day_window, format_hour
from scripts.pipeline.records import PlanLine, UploadedLine, read_lines, write_lines
from scripts.pipeline.settings import BackupSettings, BucketSettings, PlanSettings, load

log = logging.getLogger("pipeline")


def restore(*, first: date | None = None, last: date | None = None, into_snowflake: bool = True) -> dict[str, int]:
    """Replays the backup of the UTC days first..last (default: all of it). Returns counts.

    Raises PermanentError when the backup holds none of these days, DamagedError after the rest when an archive or an
    hour could not be restored.
    """
    if first and last and last < first:
        raise PermanentError(f"--from {first} lies after --to {last}. Swap them.")
    bucket, settings = load(BucketSettings), load(BackupSettings)
    store = BackupStore(settings, bucket.amp_project_id)
    start = day_window(first).start if first else datetime.min.replace(tzinfo=UTC)
    end = day_window(last).end if last else datetime.max.replace(tzinfo=UTC)
    counts: Counter[str] = Counter()
    to_load: dict[tuple[str, int], UploadedLine] = {}
    with tempfile.TemporaryDirectory(prefix="restore-", dir=settings.data_dir) as work:
        checkers = Checkers(bucket.aws_prefix, Path(work))
        try:
            for window, answer, archive in store.answers():
                if window.start < start or window.end > end:
                    continue
                if answer is None:
                    facts = archive.with_suffix(".json")
                    log.error("%s is damaged. Left out: export its hours again with `force`.", facts)
                    counts["damaged"] += 1
                    continue
                try:
                    found = answer.status == 200
                    hours = check_archive(checkers, archive, window, bucket.amp_project_id) if found else {}
                    exported = Exported(window, answer, archive, hours)
                except (DamagedError, FileNotFoundError) as error:
                    log.error("%s: %s Left out.", archive, error)  # noqa: TRY400 (the message is the whole story)
                    counts["damaged"] += 1
                    continue
                to_load |= {(line.hour, line.version): line for line in _replay(exported, Path(work), counts)}
        finally:
            checkers.close()
        if not counts:
            raise PermanentError(
                f"{settings.data_dir} holds no export of these days (loaded ones are kept for BACKUP_KEEP_DAYS, "
                f"{settings.backup_keep_days}). Give other days or DATA_DIR, or run amplitude_daily with `force`."
            )
        counts["not uploaded"] = sum(bool(line.error) for line in to_load.values())
        uploaded = Path(work) / "uploaded.jsonl"
        write_lines(uploaded, [line for line in to_load.values() if not line.error])
        if into_snowflake:
            loaded = load_task.run(uploaded=uploaded)
            counts["not loaded"] = int(loaded["hours_failed"])
    log.info("replayed from the backup: %s", ", ".join(f"{name} {value}" for name, value in counts.items()))
    failures = {name: counts[name] for name in ("damaged", "not uploaded", "not loaded") if counts[name]}
    if failures:
        shown = ", ".join(f"{name}: {count}" for name, count in failures.items())
        raise DamagedError(f"the restore is incomplete ({shown}). Mend what the lines above name, then run it again.")
    return dict(counts)


def _replay(exported: Exported, work: Path, counts: Counter[str]) -> list[UploadedLine]:
    """Uploads one export as the flow would have; returns the versions that are not loaded."""
    lines = {
        hour: PlanLine(hour=format_hour(hour), action="export", reason="restore") for hour in exported.window.hours()
    }
    manifest, parts, uploaded = work / "manifest.jsonl", work / "parts.tar", work / "replayed.jsonl"
    with tarfile.open(parts, "w") as tar:
        recorder = Recorder(tar, load(PlanSettings).export_latency_hours, None)
        write_lines(manifest, recorder.record(exported, lines))
    counts.update(exports=1, hours=len(lines), events=recorder.counts["events"])
    upload.run(manifest=manifest, parts=parts, output=uploaded)
    return list(read_lines(uploaded, UploadedLine))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.backup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="restore")
    command = commands.add_parser("restore", help="rebuild S3, ledger and load from the backup")
    command.add_argument("--from", dest="first", type=utc_day, help="first UTC day (default: all)")
    command.add_argument("--to", dest="last", type=utc_day, help="last UTC day, inclusive")
    command.add_argument("--no-load", dest="into_snowflake", action="store_false", help="stop after S3 and the ledger")
    return as_command(restore, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
