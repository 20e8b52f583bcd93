"""Whatever fails, no personal data and no secret stands in a log, an output, a name, an error or the ledger.

Both may stand in three places: parts, quarantine and the local backup.
"""

import gzip

import pytest

from scripts import backup, ledger, upload, verdict
from scripts.pipeline.errors import ConfigurationError, DamagedError, RetriableError
from tests import s3
from tests.exports import API_KEY, DAY, PROJECT, SECRET_KEY, Known, bench, event

MARK = "someone.private@example.test"
BAD_LINES = ("not_json", "not_object", "no_uuid", "uuid_number", "nul", "lone_surrogate", "not_utf8")
ANSWERS = ("html", "error_body", "truncate", "corrupt_gzip", "cut_gzip")
STATUSES = (500, 400, 418)


def faults() -> list[dict]:
    """One an hour: 00.. bad lines, 10.. bad answers, 16.. statuses, then members."""
    every = [{"do": "bad_line", "kind": kind, "hours": [f"{DAY}T{hour:02}"]} for hour, kind in enumerate(BAD_LINES)]
    every += [{"do": do, "hours": [f"{DAY}T{hour}"]} for hour, do in enumerate(ANSWERS, start=10)]
    every += [
        {"do": "status", "status": status, "body": "json", "hours": [f"{DAY}T{hour}"]}
        for hour, status in enumerate(STATUSES, start=16)
    ]
    every += [{"do": "member", "name": f"../{MARK}.json.gz", "hours": [f"{DAY}T19"]}]
    every += [{"do": "member", "name": f"{MARK}.json", "hours": [f"{DAY}T20"]}]
    every += [{"do": "unknown_key", "hours": [f"{DAY}T21"]}]
    return [{"do": "status", "status": 400, "longer_than": 1}, *({"text": MARK, **fault} for fault in every)]


@pytest.fixture
def day(bucket, tmp_path, monkeypatch):
    """A day in which each event holds the mark, and half the hours fail in a way that holds it too."""
    texts = {"event_properties": {"[Amplitude] Element Text": MARK}, "user_id": MARK, "ip_address": "203.0.113.77"}
    hours = [f"{DAY}T{hour:02}" for hour in range(24)]
    known = Known({hour: [[event("a", hour, **texts), event("b", hour, **texts)]] for hour in hours})
    with bench(known, tmp_path, monkeypatch) as running:
        running.program(*faults())
        yield running


def test_no_personal_data_and_no_secret_leaves_parts_quarantine_and_backup(bucket, day, caplog, capfd):
    said = []

    def fails(error, command, **arguments):
        with pytest.raises(error) as raised:
            command(**arguments)
        said.append(str(raised.value))

    result = day.run()
    assert set(result.outcomes()) == {"exported", "error"}
    files = {name: result.folder / f"{name}.jsonl" for name in ("manifest", "uploaded")}
    tar = result.folder / "parts.tar"
    uploading = {"manifest": files["manifest"], "parts": tar, "output": files["uploaded"]}

    # What lies in S3 is not ours, or the store refuses.
    part = result.lines[f"{DAY}T07"].manifest.parts[0].key
    bucket.put(part, MARK.encode())
    upload.run(**uploading)
    bucket.put(s3.ledger_key(f"{DAY}T08", "v0001.json"), f'{{"hour": "{MARK}"'.encode())
    bucket.put(result.lines[f"{DAY}T09"].manifest.parts[0].key, gzip.compress(MARK.encode()))
    again = day.run([8, 9], version=1)
    upload.run(manifest=again.folder / "manifest.jsonl", parts=again.folder / "parts.tar", output=files["uploaded"])
    tar.write_bytes(tar.read_bytes().replace(b"\x1f\x8b", b"\x1f\x8c"))
    upload.run(**uploading)
    bucket.fault = lambda environ: ("403 Forbidden", "AccessDenied")
    fails(ConfigurationError, upload.run, **uploading)
    bucket.fault = lambda environ: None

    # The person on call.
    fails(RetriableError, verdict.run, plan=result.folder / "plan.jsonl", **files)
    assert ledger.main(["--from", DAY, "--to", DAY]) == 0
    good = result.lines[f"{DAY}T22"].manifest.parts[0].key
    assert ledger.main(["quarantine", good.rsplit("/", 1)[-1], "--line", "2"]) == 0
    next((day.folder / "data" / "zip" / str(PROJECT)).glob(f"{DAY}T05*.zip")).write_bytes(MARK.encode())
    fails(DamagedError, backup.restore, into_snowflake=False)
    day.program({"do": "status", "status": 403, "body": "json", "text": MARK})
    fails(ConfigurationError, day.run, hours=[3])

    written = [path.read_text(errors="replace") for path in day.folder.glob("run*/*.jsonl")]
    written += [path.read_text() for path in (day.folder / "data" / "zip" / str(PROJECT)).glob("*.json")]
    bucket.remove(s3.ledger_key(f"{DAY}T08", "v0001.json"))
    versions = [content.decode() for content in bucket.objects(f"{s3.PREFIX}-ledger/").values()]
    names = [str(path) for path in day.folder.rglob("*") if "amplitude" not in path.parts]
    names += [f"{key} {stored.metadata}" for key, stored in bucket.bucket.keys.items()]
    said += [*written, *versions, *names, caplog.text, *capfd.readouterr()]
    assert len(written) > 18
    assert len(versions) > 10
    everything = "\n".join(said)
    for expected in ("quarantine", "holds other bytes", "is not a version", "is damaged", "access denied", "taken out"):
        assert expected in everything
    for secret in (MARK, "someone", "203.0.113.77", API_KEY, SECRET_KEY, "test-secret"):
        assert secret not in everything
