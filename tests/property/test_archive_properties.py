"""Whatever lines a member holds and however it is cut into blocks, the figures are those of the definition."""

import gzip
import hashlib
import json
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.pipeline import archive as archives
from scripts.pipeline import event_lines
from scripts.pipeline.archive import check_member, list_members, uuid_figures
from scripts.pipeline.errors import PipelineError
from scripts.pipeline.hours import Window
from tests.exports import KEYS, PROJECT, event, member_name, zipped

HOUR = datetime(2026, 9, 24, 3, tzinfo=UTC)
LONGEST = 2400  # bytes of a line in this test; an event as below has about 1,200

texts = st.text(max_size=30).filter(lambda text: "\0" not in text)
nested = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
good = st.builds(
    lambda uuid, kind, properties, city, more: event(
        uuid, event_type=kind, event_properties=properties, city=city, **more
    ),
    st.sampled_from([f"uuid-{number}" for number in range(12)]),
    st.sampled_from(["session_start", "session_end", "[Amplitude] Page Viewed"]),
    st.dictionaries(texts, nested, max_size=3),
    texts,
    st.dictionaries(st.sampled_from(["new_key", "other"]), st.integers(), max_size=1),
).filter(lambda line: len(line) <= LONGEST)
bad = st.sampled_from(
    [
        b"{",
        b"[1]",
        b"{}",
        b'{"uuid":1}',
        event("x", city="\0"),
        event("x", city="\ud800"),
        b"\xff",
        b"x" * (LONGEST + 1),
        b'{"uuid":"x"}{"uuid":"y"}',
        b'{"uuid":\n"z"}',  # two lines
    ]
)
blank = st.sampled_from([b"", b"  ", b"\r"])
lines = st.lists(st.one_of(good, good, good, bad, blank), max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=lines, block=st.integers(100, 5000), newline=st.booleans(), halves=st.booleans())
def test_a_member_is_counted_by_definition(tmp_path, monkeypatch, lines, block, newline, halves):
    monkeypatch.setattr(archives, "BLOCK", block)
    monkeypatch.setattr(archives, "MAX_LINE", LONGEST)
    monkeypatch.setattr(event_lines, "MAX_LINE", LONGEST)
    text = b"\n".join(lines) + (b"\n" if newline else b"")
    lines = text.split(b"\n")
    middle = len(text) // 2 if halves else len(text)
    content = gzip.compress(text[:middle]) + (gzip.compress(text[middle:]) if halves else b"")
    (tmp_path / "a.zip").write_bytes(zipped({member_name(3): content}))
    (member,) = list_members(tmp_path / "a.zip", Window(HOUR, HOUR), PROJECT)
    result, digests = check_member(member, "p", tmp_path)

    kept = [line for line in lines if _is_event(line)]
    events = [json.loads(line) for line in kept]
    uuids = {found["uuid"] for found in events}
    part = result.part
    assert part.rows == len(kept)
    assert [found.line for found in part.bad_lines] == [
        number for number, line in enumerate(lines, start=1) if line.strip() and not _is_event(line)
    ]
    assert uuid_figures([digests]) == (
        len(uuids),
        str(sum(int(hashlib.md5(uuid.encode()).hexdigest()[16:], 16) for uuid in uuids)),
    )
    assert part.event_types == Counter(found["event_type"] for found in events)
    assert result.unknown_keys == Counter(key for found in events for key in found if key not in KEYS)
    if part.bad_lines and kept:
        cleaned = gzip.decompress(Path(result.cleaned).read_bytes())
        assert [line for line in cleaned.split(b"\n") if line.strip()] == kept
    else:
        assert result.cleaned == ""
        assert part.sha256 == (hashlib.sha256(content).hexdigest() if part.key else "")


CHANGED = {member_name(3): gzip.compress(event("a")), member_name(3, 1): gzip.compress(event("b"))}
places = st.integers(0, len(zipped(CHANGED)) - 1) | st.integers(1, 250).map(lambda place: -place)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=3),
    cut=st.tuples(places, st.integers(0, 20)),
    packing=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_b11_a_changed_archive_is_refused_or_whole(tmp_path, changes, cut, packing):
    content = bytearray(zipped(CHANGED, compression=packing))
    for place, value in changes:
        content[place % len(content)] = value
    del content[cut[0] : cut[0] + cut[1]]
    (tmp_path / "a.zip").write_bytes(content)
    try:
        members = list_members(tmp_path / "a.zip", Window(HOUR, HOUR), PROJECT)
        rows = sum(check_member(member, "p", tmp_path)[0].part.rows for member in members)
    except PipelineError:
        return
    assert rows == len(CHANGED) or not members  # extract refuses an archive without any


def _is_event(line: bytes) -> bool:
    """The definition, by another parser: a UTF-8 JSON object, a text uuid, no NUL, no lone surrogate, short enough."""
    try:
        found = json.loads(line.decode())
        text = json.dumps(found, ensure_ascii=False)
        text.encode()
    except (ValueError, UnicodeError):
        return False
    has_uuid = isinstance(found, dict) and isinstance(found.get("uuid"), str)
    return has_uuid and "\\u0000" not in text and len(line) <= LONGEST
