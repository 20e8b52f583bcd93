"""What an archive may hold, and what each line must be."""

import bz2
import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scripts.pipeline import archive as archives
from scripts.pipeline import event_lines, part_lines
from scripts.pipeline.archive import check_hour, check_member, list_members, uuid_figures
from scripts.pipeline.checkers import Checkers
from scripts.pipeline.errors import ConfigurationError, DamagedError
from scripts.pipeline.hours import Window
from tests.exports import DAY, PROJECT, event, member_name, packed, zipped

DAY_WINDOW = Window(datetime(2026, 9, 24, 0, tzinfo=UTC), datetime(2026, 9, 24, 23, tzinfo=UTC))
GOOD = packed([event("a")])


def listed(path: Path, content: bytes):
    path.write_bytes(content)
    return list_members(path, DAY_WINDOW, PROJECT)


def checked(tmp_path: Path, lines: bytes, hour: int = 3):
    (member,) = listed(tmp_path / "a.zip", zipped({member_name(hour): gzip.compress(lines)}))
    return check_member(member, "python-import", tmp_path)[0]


def test_members_are_read_from_nested_folders_and_markers_are_left_out(tmp_path):
    found = listed(
        tmp_path / "a.zip",
        zipped(
            {
                f"export/{member_name(17)}": GOOD,
                member_name(3, 1): GOOD,
                member_name(3, 0): GOOD,
                f"{PROJECT}/": b"",
                f"{PROJECT}/{PROJECT}_{DAY}_4_complete": b"",
                "README.txt": b"",
            }
        ),
    )
    assert [(member.hour.hour, member.number) for member in found] == [(3, 0), (3, 1), (17, 0)]


@pytest.mark.parametrize(
    "name", ["../../etc/1_2026-09-24_3#0.json.gz", "/tmp/x.json.gz", "a\\..\\b.json.gz", "C:/x.json.gz", "a/../b.txt"]
)
def test_unsafe_paths_are_refused_and_not_shown(tmp_path, name):
    with pytest.raises(DamagedError, match="unsafe path") as raised:
        listed(tmp_path / "a.zip", zipped({member_name(3): GOOD, name: GOOD}))
    assert name not in str(raised.value)


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo(member_name(3))
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DamagedError, match="a link or a device"):
        listed(tmp_path / "a.zip", file.getvalue())


def test_unknown_packing_and_encryption_are_refused(tmp_path):
    with pytest.raises(DamagedError, match="packed in an unknown way"):
        listed(tmp_path / "a.zip", zipped({member_name(3): GOOD}, compression=zipfile.ZIP_BZIP2))
    content = bytearray(zipped({member_name(3): GOOD}))
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # flag of the central directory
    with pytest.raises(DamagedError, match="encrypted"):
        listed(tmp_path / "a.zip", bytes(content))


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(DamagedError, match="3 members, more than 2"):
        listed(tmp_path / "a.zip", zipped({member_name(hour): GOOD for hour in range(3)}))


@pytest.mark.parametrize(
    "name", ["events.json.gz", f"{PROJECT}_{DAY}_24#0.json.gz", f"{PROJECT}_2026-13-01_3#0.json.gz", "1_2_3#0.json.gz"]
)
def test_other_names_are_refused(tmp_path, name):
    with pytest.raises(DamagedError, match="is not named"):
        listed(tmp_path / "a.zip", zipped({name: GOOD}))


@pytest.mark.parametrize("name", [f"{PROJECT}_{DAY}_3#0.json.zst", f"{PROJECT}_{DAY}_3#0.JSON.GZ", "events.json"])
def test_a_member_that_may_hold_events_is_never_left_out(tmp_path, name):
    with pytest.raises(DamagedError, match="is not named"):
        listed(tmp_path / "a.zip", zipped({member_name(4): GOOD, name: GOOD}))


def test_b11_a_directory_that_lists_less_than_the_archive_has_is_damaged(tmp_path):
    content = bytearray(zipped({member_name(3): GOOD, member_name(3, 1): GOOD}))
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = (int.from_bytes(content[end + 12 : end + 16], "little") // 2).to_bytes(4, "little")
    start = content.index(b"PK\x01\x02")
    del content[start : start + (end - start) // 2]
    with pytest.raises(DamagedError, match="lists 1 of its 2 members"):
        listed(tmp_path / "a.zip", bytes(content))


def test_an_hour_that_was_not_asked_for_is_refused(tmp_path):
    """25 hours instead of a day is how the documentation's own example ends."""
    with pytest.raises(DamagedError, match="holds hour 2026-09-25T00, which was not asked for"):
        listed(tmp_path / "a.zip", zipped({member_name(0, day="2026-09-25"): GOOD}))


def test_one_part_twice_is_refused(tmp_path):
    with pytest.raises(DamagedError, match="part 0 of hour 2026-09-24T03 twice"):
        listed(tmp_path / "a.zip", zipped({member_name(3): GOOD, "b/" + member_name(3): GOOD}))


def test_another_project_is_a_wrong_setting(tmp_path):
    with pytest.raises(ConfigurationError, match="holds project 4711"):
        listed(tmp_path / "a.zip", zipped({member_name(3, project=4711): GOOD}))


def test_b11_a_zip_without_its_directory_is_damaged(tmp_path):
    content = zipped({member_name(3): GOOD})
    with pytest.raises(DamagedError, match="not a whole ZIP"):
        listed(tmp_path / "a.zip", content[: content.rindex(b"PK\x01\x02")])


def test_b11_a_changed_byte_is_found_by_checksum(tmp_path):
    content = bytearray(zipped({member_name(3): GOOD}))
    content[60 + len(member_name(3))] ^= 1
    (member,) = listed(tmp_path / "a.zip", bytes(content))
    with pytest.raises(DamagedError, match="is damaged"):
        check_member(member, "p", tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", GOOD[:-4], GOOD + b"more", bz2.compress(b"{}")])
def test_b11_a_member_that_is_no_whole_gzip_is_damaged(tmp_path, content):
    (member,) = listed(tmp_path / "a.zip", zipped({member_name(3): content}))
    if not content:
        assert check_member(member, "p", tmp_path)[0].part.rows == 0
        return
    with pytest.raises(DamagedError, match=r"_3#0\.json\.gz is damaged"):
        check_member(member, "p", tmp_path)


def test_a_member_may_be_several_gzips_in_a_row_and_end_without_newline(tmp_path):
    content = packed([event("a"), event("b")]) + gzip.compress(event("c"))
    (member,) = listed(tmp_path / "a.zip", zipped({member_name(3): content}))
    assert check_member(member, "p", tmp_path)[0].part.rows == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"uuid": "x", ', "not one JSON object"),
        (b"not json", "not one JSON object"),
        (b'["uuid"]', "not one JSON object"),
        (b'"uuid"', "not one JSON object"),
        (event("x") + event("y"), "not one JSON object"),
        (event("x") + b" " + event("y"), "not one JSON object"),
        (b"\xef\xbb\xbf" + event("x"), "not one JSON object"),
        (b'{"uuid":"x","n":NaN}', "not one JSON object"),
        (b'{"uuid":"x","n":"\x01"}', "not one JSON object"),
        (b'{"uuid":"x","n":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not one JSON object"),
        (event("x", plan="?").replace(b'"?"', b"[" * 100_000 + b"]" * 100_000), "not one JSON object"),
        (b"{}", "no text uuid"),
        (b'{"uuid":null}', "no text uuid"),
        (b'{"uuid":7}', "no text uuid"),
        (b'{"uuid":""}', "no text uuid"),
        (event("x", city="?").replace(b"?", b"\xff"), "not UTF-8"),
        (event("x", event_properties={"a": "?"}).replace(b"?", b"\xed\xa0\x80"), "not UTF-8"),
        (event("x", event_properties={"a": "b\0c"}), "a NUL in it"),
        (event("x", city="\0"), "a NUL in it"),
        (event("x", **{"new\0key": 1}), "a NUL in it"),
        (event("x", city="?").replace(b"?", b"\\\\\\u0000"), "a NUL in it"),
        (event("x", city='"' * 63 + "\0"), "a NUL in it"),
        (event("x", city='"' * 64 + "\0"), "a NUL in it"),
        (event("x", city='"' * 1000 + "\0"), "a NUL in it"),
        (event("x", city="\ud800"), "a lone surrogate in it"),
        (event("x", event_properties={"a": ["\udc00 and more text"]}), "a lone surrogate in it"),
        (event("x", plan={"a": "\udc00\ud800 and more text"}), "a lone surrogate in it"),
    ],
)
def test_b15_a_line_that_is_no_event_is_taken_out(tmp_path, line, reason):
    lines = [event("a"), line, event("b")]
    result = checked(tmp_path, b"\n".join(lines) + b"\n")
    assert [(bad.line, bad.reason) for bad in result.part.bad_lines] == [(2, reason)]
    assert result.part.rows == 2
    assert gzip.decompress(Path(result.cleaned).read_bytes()) == event("a") + b"\n" + event("b") + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        event("x", city="\U0001f600 caf\u00e9"),
        event("x", city="caf\u00e9").replace(b"\\u00e9", "é".encode()),
        event("x", city="C:\\u0000"),  # an escaped backslash, then plain text
        event("x", event_type=None, event_time=None),
        event("x", event_type=7, event_time={"a": 1}),
        event("x", location_lat=0.0, event_id=2**80),
        event("x", event_time="2022:05:27 02:00:43.324890"),  # seen in a warehouse
        event("x") + b"\r",
        b'{"uuid":"x","server_upload_time":"2026-09-24 03:00:00.000000","a":1,"a":2}',  # Snowflake's to refuse
    ],
)
def test_unusual_lines_that_are_events_stay(tmp_path, line):
    content = event("a") + b"\n" + line + b"\n"
    result = checked(tmp_path, content)
    assert (result.part.rows, result.part.bad_lines, result.cleaned) == (2, [], "")
    # What is taken for an event once can be read again: for the next version of its hour, and to take it out by hand.
    packed = gzip.compress(content)
    (other,) = part_lines.uuid_md5s(io.BytesIO(packed), {2})
    assert len(part_lines.uuid_numbers(io.BytesIO(packed))) == 2
    left = part_lines.without(result.part, io.BytesIO(packed), {other}, result.member.hour, tmp_path / "left")
    assert left
    assert (left.rows, sum(left.event_types.values())) == (1, 1)


def test_blank_lines_are_no_rows(tmp_path):
    result = checked(tmp_path, event("a") + b"\n\n" + b"oops\n" + event("b") + b"\n")
    assert (result.part.rows, [bad.line for bad in result.part.bad_lines]) == (2, [3])


def test_b15_a_line_over_16_mib_is_taken_out_without_being_held(tmp_path):
    huge = event("x", city="x" * (17 << 20))
    result = checked(tmp_path, event("a") + b"\n" + huge + b"\n" + event("b") + b"\n")
    assert [(bad.line, bad.reason) for bad in result.part.bad_lines] == [(2, "over 16 MiB")]
    fits = event("x", city="")
    fits = event("x", city="x" * ((16 << 20) - len(fits)))
    assert len(fits) == 16 << 20
    assert checked(tmp_path, event("a") + b"\n" + fits + b"\n").part.bad_lines == []


@pytest.mark.parametrize(
    "lines",
    [
        [event("a"), b"", event("x") + event("y")],
        [event("x") + event("y"), event("a").replace(b',"event_id"', b',\n"event_id"')],
    ],
)
def test_b15_two_events_on_a_line_are_found_where_the_numbers_of_lines_and_events_agree(tmp_path, lines):
    result = checked(tmp_path, b"\n".join([*lines, event("b")]) + b"\n")
    together = lines.index(event("x") + event("y")) + 1
    assert together in [bad.line for bad in result.part.bad_lines]
    assert b'"y"' not in gzip.decompress(Path(result.cleaned).read_bytes())


def test_a_cleaned_part_is_named_by_its_lines_and_always_the_same(tmp_path):
    lines = event("a") + b"\nbad\n" + event("b") + b"\n"
    first, second = checked(tmp_path, lines), checked(tmp_path, lines)
    content = hashlib.sha256(event("a") + b"\n" + event("b") + b"\n").hexdigest()
    assert first.part.key == second.part.key
    assert first.part.key.endswith(f"_3_0.{content[:12]}.json.gz")
    raw = Path(second.cleaned).read_bytes()
    assert raw[3:8] == b"\0" * 5  # gzip header: no name, no time
    assert first.part.sha256 == hashlib.sha256(raw).hexdigest()
    assert first.part.quarantine_key.startswith("python-import-quarantine/project=")


def test_a_member_without_a_good_line_has_no_part(tmp_path):
    part = checked(tmp_path, b"bad\nworse\n").part
    assert (part.key, part.rows, len(part.bad_lines)) == ("", 0, 2)
    assert part.quarantine_key


def test_a_member_full_of_bad_lines_is_no_export(tmp_path, monkeypatch):
    monkeypatch.setattr(event_lines, "MAX_BAD_LINES", 5)
    with pytest.raises(DamagedError, match="more than 5 lines"):
        checked(tmp_path, b"bad\n" * 6)


def test_lines_of_another_hour_are_counted_and_a_member_of_another_hour_is_refused(tmp_path):
    other = event("b", f"{DAY}T04")
    assert checked(tmp_path, event("a") + b"\n" + other + b"\n").elsewhere == 1
    rfc = event("a", server_upload_time=f"{DAY}T03:15:07.203000+00:00")
    assert checked(tmp_path, rfc + b"\n").elsewhere == 0
    with pytest.raises(DamagedError, match="no line of member"):
        checked(tmp_path, other + b"\n")


def test_unknown_keys_are_counted_and_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(event_lines, "MAX_UNKNOWN_KEYS", 2)
    lines = [event("a", new=1), event("b", new=2, other=3), event("c", third=4)]
    assert checked(tmp_path, b"\n".join(lines)).unknown_keys == {"new": 2, "other": 1}


def test_the_uuid_digest_is_snowflakes():
    """MD5('a') is 0cc175b9c0f1b6a831c399e269772661, MD5('b') 92eb5ffee6ae2fec3ad71c777531578f (RFC 1321 tools)."""
    lower = [int("31c399e269772661", 16), int("3ad71c777531578f", 16)]
    digests = [value.to_bytes(8, "big") for value in lower]
    assert uuid_figures([digests[0] + digests[1], digests[0]]) == (2, str(sum(lower)))
    assert uuid_figures([]) == (0, "0")


def test_the_helper_process_checks_like_this_one_and_passes_errors_on(tmp_path):
    good = listed(
        tmp_path / "good.zip",
        zipped({member_name(hour): packed([event("a", f"{DAY}T{hour:02}")]) for hour in range(24)}),
    )
    bad = listed(tmp_path / "bad.zip", zipped({member_name(3): GOOD[:-4]}))
    checkers = Checkers("p", tmp_path)
    try:
        results = checkers.check(good)
        assert [result.members[0].member for result in results] == good
        assert results == [check_hour([member], "p", tmp_path) for member in good]
        for _ in range(6):  # whichever of the two gets it
            with pytest.raises(DamagedError, match="is damaged"):
                checkers.check(bad)
    finally:
        checkers.close()


def test_without_its_helper_process_this_one_goes_on(tmp_path, caplog):
    members = listed(
        tmp_path / "a.zip",
        zipped({member_name(hour): packed([event("a", f"{DAY}T{hour:02}")]) for hour in range(24)}),
    )
    checkers = Checkers("p", tmp_path)
    try:
        checkers._helper.kill()
        assert [hour.members[0].member for hour in checkers.check(members)] == members
    finally:
        checkers.close()
    assert "helper" in caplog.text


def test_the_helper_process_ends_when_its_parent_is_killed(tmp_path):
    code = (
        "import sys, pathlib, time\n"
        "from scripts.pipeline.checkers import Checkers\n"
        "checkers = Checkers('p', pathlib.Path(sys.argv[1]))\n"
        "print(checkers._helper.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root)
    helper = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{helper}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    os.kill(helper, 9)
    pytest.fail("the helper outlived its parent")


@pytest.mark.skipif(
    not (real := Path(__file__).resolve().parents[3] / "shared/data/export_records_real.jsonl").exists(),
    reason="the two published real events are not beside the repository",
)
def test_real_events_have_exactly_the_known_keys(tmp_path):
    lines = real.read_bytes()
    content = gzip.compress(lines)
    name = "434735/434735_2023-08-25_11#0.json.gz"
    (tmp_path / "a.zip").write_bytes(zipped({name: content}))
    hour = datetime(2023, 8, 25, 11, tzinfo=UTC)
    (member,) = list_members(tmp_path / "a.zip", Window(hour, hour), 434735)
    hour = check_hour([member], "p", tmp_path)
    (result,) = hour.members
    assert (result.part.rows, result.part.bad_lines, result.unknown_keys, result.elsewhere) == (2, [], {}, 0)
    assert hour.digest == str(
        sum(int(hashlib.md5(json.loads(line)["uuid"].encode()).hexdigest()[16:], 16) for line in lines.splitlines())
    )
