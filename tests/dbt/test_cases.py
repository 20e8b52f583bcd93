"""What real exports hold (traps 1 to 15) and what others met (known faults B..), each on its small input."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from tests.dbt import cases
from tests.dbt.cases import PEOPLE, SITE
from tests.dbt.conftest import Built

at = datetime.fromisoformat


def sessions(built: Built, name: str) -> list[dict[str, Any]]:
    found = built.rows("int_amplitude__session", amplitude_id=PEOPLE[name])
    return sorted(found, key=lambda row: row["session_id"])


def journey(built: Built, name: str) -> list[dict[str, Any]]:
    steps = built.rows("journey_analysis", amplitude_id=PEOPLE[name])
    return sorted(steps, key=lambda row: (row["session_id"], row["step_number"]))


def issues(built: Built, *events: dict[str, Any]) -> list[dict[str, Any]]:
    return [built.rows("detecting_website_issues", uuid=event["uuid"])[0] for event in events]


def test_trap_1_a_restarted_event_id_neither_multiplies_nor_merges_events(built: Built):
    steps = journey(built, "replay")
    assert [step["event_type"] for step in steps] == ["session_start", cases.VIEW, "[Amplitude] Replay Captured"]
    assert [step["event_id"] for step in steps] == [1, 2, 0]
    assert steps[-1]["page_url"] == f"{SITE}/replayed/"


def test_trap_2_b02_b08_a_session_end_months_later_ends_its_own_session(built: Built):
    old, new = sessions(built, "ended")
    assert old["ended_at"] == at("2026-03-18 09:00:04.001000")
    assert float(old["duration_seconds"]) == 4.001
    assert old["has_session_end"]
    assert (old["events"], new["events"]) == (3, 2)
    assert old["browser_version"] == 153  # the visit's own, not that of the browser which sent its end
    assert new["started_at"] == at("2026-09-24 11:00:00")
    assert not new["has_session_end"]


def test_trap_3_gaps_of_event_id_are_no_loss(built: Built):
    """Identify calls take a number: steps are counted, not read from event_id."""
    steps = journey(built, "identified")
    assert [(step["event_id"], step["step_number"]) for step in steps] == [(1, 1), (2, 2), (4, 3)]
    (session,) = sessions(built, "identified")
    assert (session["events"], session["page_views"], session["clicks"]) == (3, 1, 1)


def test_trap_4_the_click_comes_before_the_view_that_it_caused(built: Built):
    steps = journey(built, "spa")
    assert [(step["event_type"], step["page_url"]) for step in steps] == [
        (cases.VIEW, f"{SITE}/from/"),
        (cases.CLICK, f"{SITE}/from/"),
        (cases.VIEW, f"{SITE}/to/"),
        (cases.CLICK, f"{SITE}/from/"),  # 140 ms after the view: not its cause
    ]
    assert steps[1]["uuid"] == cases.caused["uuid"]
    assert steps[3]["uuid"] == cases.apart["uuid"]


def test_trap_5_b09_a_ghost_view_is_no_step_and_no_sign(built: Built):
    (step,) = journey(built, "ghost")
    assert (step["path_depth"], step["page_counter"], step["page_url"]) == (1, 6, f"{SITE}/x/")
    assert len(built.rows("int_amplitude__events", amplitude_id=PEOPLE["ghost"])) == 2  # both raw rows are kept
    (sign,) = issues(built, cases.ghosted)
    assert (sign["page_return_number"], sign["is_loop"], sign["is_repeated_click"]) == (0, False, False)


def test_trap_6_a_session_without_a_page_view(built: Built):
    (session,) = sessions(built, "open_tab")
    assert (session["page_views"], session["clicks"], session["entry_page_url"]) == (0, 1, None)
    assert not session["is_bounce"]
    assert journey(built, "open_tab")[-1]["page_url"] == f"{SITE}/old-tab/"


def test_trap_7_a_reload_is_a_second_view_but_no_return(built: Built):
    (session,) = sessions(built, "reload")
    assert (session["page_views"], float(session["duration_seconds"])) == (2, 1740)
    signs = built.rows("detecting_website_issues", amplitude_id=PEOPLE["reload"])
    assert [sign["page_return_number"] for sign in signs] == [0, 0]


def test_trap_8_b10_only_clicks_on_a_dead_button_are_repeated(built: Built):
    assert [sign["element_kind"] for sign in issues(built, *cases.scrubs)] == ["media", "media"]
    harmless = issues(built, *cases.scrubs, *cases.nested, *cases.fast)
    assert [sign["clicks_in_run"] for sign in issues(built, *cases.tabs)] == [1, 1, 1]
    assert not any(sign["is_repeated_click"] for sign in harmless)
    assert all(sign["is_repeated_click"] and sign["clicks_in_run"] == 4 for sign in issues(built, *cases.dead))


def test_trap_9_the_consent_banner_is_no_click_and_no_action(built: Built):
    (sign,) = issues(built, cases.accepted)
    assert (sign["element_kind"], sign["is_dead_end"]) == ("consent", False)
    (session,) = sessions(built, "consent")
    assert (session["clicks"], session["actions"], session["is_bounce"]) == (0, 0, True)


def test_trap_10_an_address_that_changes_makes_other_places_and_one_session(built: Built):
    assert len(sessions(built, "moving")) == 1
    places = built.rows("int_amplitude__locations", amplitude_id=PEOPLE["moving"])
    assert {(row["ip_address"], row["city"]) for row in places} == {
        (cases.ADDRESS, None),
        ("240.17.4.212", None),
        ("240.17.4.212", "Leeds"),
    }


def test_b22_one_place_in_two_spellings_is_one_row(built: Built):
    """An empty city and none: two rows of one key would end the next MERGE."""
    (place,) = built.rows("int_amplitude__locations", amplitude_id=PEOPLE["blank"])
    assert (place["region"], place["city"]) == ("Kent", None)


def test_a_session_known_by_its_end_alone_is_no_visit_of_its_day(built: Built):
    assert [session["events"] for session in sessions(built, "gone")] == [1]
    assert built.rows("daily_engagement", engagement_date=at("2025-12-31").date()) == []


def test_trap_11_os_name_is_the_browser(built: Built):
    (device,) = built.rows("int_amplitude__devices", amplitude_id=PEOPLE["ghost"])
    assert (device["browser"], device["browser_version"], device["operating_system"]) == ("Chrome", 153, "Windows")


def test_trap_12_a_missing_page_is_a_dead_end(built: Built):
    (sign,) = built.rows("detecting_website_issues", amplitude_id=PEOPLE["missing"])
    assert (sign["is_missing_page"], sign["is_dead_end"]) == (True, True)


def test_traps_4_12_a_view_with_the_title_of_the_page_before_is_missing_when_its_click_says_so(built: Built):
    assert [sign["is_missing_page"] for sign in issues(built, cases.home, cases.lost)] == [False, True]


def test_what_the_sdk_records_by_itself_is_no_action(built: Built):
    (session,) = sessions(built, "vitals")
    assert (session["events"], session["actions"], session["is_bounce"]) == (3, 0, True)


@pytest.mark.parametrize(
    "secret",
    [cases.EMAIL, "020 7946 0999", "grace@", cases.ADDRESS, cases.REPLAY, "utm_source=letter", "zoe@gmail.com"],
)
def test_traps_13_14_no_mart_holds_personal_data(built: Built, secret: str):
    """Nor a query string, the text of an element, or a session-replay id."""
    marts = [
        node.name for node in built.manifest.nodes.values() if node.resource_type == "model" and "marts" in node.fqn
    ]
    assert len(marts) == 6
    found = [mart for mart in marts if any(secret in str(row.values()) for row in built.rows(mart))]
    assert found == []


def test_trap_15_other_alphabets_arrive(built: Built):
    view, click = built.rows("int_amplitude__events", amplitude_id=PEOPLE["accents"])
    view, click = sorted((view, click), key=lambda row: row["event_id"])
    assert view["page_title"] == "Señor’s £20 – guide"
    assert click["element_class"] == "card wide"


def test_loops_and_returns(built: Built):
    signs = issues(built, *cases.loop_views)
    assert [sign["is_loop"] for sign in signs] == [False, False, False, True, True, True]
    assert [sign["page_return_number"] for sign in signs] == [0, 0, 0, 1, 1, 2]
    assert [sign["is_page_return"] for sign in signs] == [False] * 5 + [True]


def test_b03_a_second_export_adds_only_what_is_new(built: Built):
    events = built.rows("int_amplitude__events", amplitude_id=PEOPLE["again"])
    files = sorted(event["source_file"] for event in events)
    assert files == ["again.json.gz"] * 3 + ["cases.json.gz"] * 2


def test_b07_two_people_with_one_session_id_and_an_event_outside_sessions(built: Built):
    keys = {row["session_key"] for name in ("twin_a", "twin_b") for row in sessions(built, name)}
    assert len(keys) == 2
    assert sessions(built, "server") == []
    assert journey(built, "server") == []
    (alone,) = issues(built, cases.outside)
    assert (alone["session_key"], alone["repeat_click_flag"]) == (None, "N")


def test_b14_json_null_and_a_missing_key_are_null(built: Built):
    for event in (cases.null_user, cases.absent_user):
        (row,) = built.warehouse.query(
            "select user_id is null as nothing, city is null as nowhere, global_user_properties is null as none"
            f" from {built.relation('stg_amplitude__events')} where uuid = %s",
            [event["uuid"]],
        )
        assert row == {"nothing": True, "nowhere": True, "none": True}


def test_b16_the_session_time_zone_changes_nothing(built: Built):
    """The story was built by a user in another zone, the default of every account."""
    (zone,) = built.warehouse.query("show parameters like 'TIMEZONE' in session")
    assert zone["value"] == "America/Los_Angeles"
    (row,) = built.rows("stg_amplitude__events", uuid=cases.last["uuid"])
    assert row["event_time"] == at("2026-03-18 09:00:04")


def test_b17_large_integers_stay_exact(built: Built):
    (event,) = built.rows("int_amplitude__events", amplitude_id=PEOPLE["big"])
    assert (event["event_id"], event["session_id"]) == (9007199254740993, cases.big_event["session_id"])
    assert built.rows("journey_analysis", uuid=event["uuid"])[0]["event_id"] == 9007199254740993


@pytest.mark.parametrize("column", ["page_url", "insert_id", "element_key", "page_counter", "utm_source"])
def test_b18_paths_with_capitals_and_signs_find_their_values(built: Built, column: str):
    (row,) = built.warehouse.query(f"select count({column}) as found from {built.relation('int_amplitude__events')}")
    assert row["found"] > 0


def test_b21_every_session_has_a_key(built: Built):
    assert all(row["session_key"] for row in built.rows("int_amplitude__session"))


def test_b23_a_session_over_midnight_is_one(built: Built):
    (session,) = sessions(built, "night")
    assert (session["started_at"], session["ended_at"]) == (at("2026-09-24 23:50:00"), at("2026-09-25 00:20:00"))
    assert session["events"] == 3


def test_b24_a_load_that_committed_late_is_not_missed(built: Built):
    assert built.rows("int_amplitude__events", uuid=cases.slow["uuid"])


def test_b25_people_are_seen_in_order_and_once(built: Built):
    """There is no snapshot: first and last are sums over all observations, in whatever order they arrive."""
    users = built.rows("int_amplitude__users")
    assert len({user["amplitude_id"] for user in users}) == len(users)
    assert all(user["first_seen_at"] <= user["last_seen_at"] for user in users)


def test_b26_a_new_event_type_is_a_warning_and_builds(built: Built):
    assert any("event_type_is_known" in line for line in built.drift)
    assert not any(line.startswith("Failure") for line in built.drift)
    assert len(journey(built, "drift")) == 1


def test_the_newest_user_id_counts_whatever_the_alphabet_says(built: Built):
    (user,) = built.rows("int_amplitude__users", amplitude_id=PEOPLE["renamed"])
    assert user["user_id"] == user["email"] == "anna@harbour-retail.example"


def test_a_delivery_repeated_after_seven_days_is_marked_and_not_counted(built: Built):
    marks = {
        row["uuid"]: row["is_insert_id_repeat"]
        for row in built.rows("int_amplitude__events", device_id="device-repeat")
    }
    assert marks == {cases.original["uuid"]: False, cases.repeated["uuid"]: True}
    assert [session["events"] for session in sessions(built, "repeat")] == [1]
    assert [session["events"] for session in sessions(built, "unnamed")] == [2]  # an empty $insert_id is none
    (device,) = built.rows("int_amplitude__devices", device_id="device-repeat")
    assert device["newest_event_uuid"] == cases.original["uuid"]


def test_an_empty_user_id_names_nobody(built: Built):
    (user,) = built.rows("int_amplitude__users", amplitude_id=PEOPLE["unnamed"])
    assert (user["user_id"], user["user_id_seen_at"], user["is_identified"]) == (None, None, False)


def test_companies_with_their_reasoning(built: Built):
    rows = {row["user_id"]: row for row in built.rows("identifying_company_traffic")}
    known, colleague = rows[PEOPLE["office_1"]], rows[PEOPLE["office_0"]]
    assert (known["suspected_company"], known["confidence"]) == ("quarry-logistics.example", "high")
    assert (colleague["suspected_company"], colleague["confidence"]) == ("quarry-logistics.example", "medium")
    assert colleague["reasoning"] == (
        "Shares a network with 2 other people, of whom 1 have an e-mail address at quarry-logistics.example"
    )
    assert rows[PEOPLE["office_2"]]["suspected_company"] == "canal-freight.example"  # the network that more share
    assert PEOPLE["guest_0"] not in rows  # two companies on one network: a provider
    assert PEOPLE["mapped_0"] not in rows  # three IPv4 addresses written as IPv6
    six = [rows.get(PEOPLE[f"six_{number}"]) for number in range(4)]
    assert len({row["suspected_company"] for row in six[:3]}) == 1  # one IPv6 network, however it is spelt
    assert six[3] is None  # the next network


def test_thresholds_at_their_edge(built: Built):
    """100 and 101 ms after a view, 500 and 501 between views; 400 and 401 ms, version 139 and 140; 50 and 51 people."""
    steps = [(step["event_type"], step["page_url"]) for step in journey(built, "edge")]
    pages = [f"{SITE}{path}" for path in ("/from/", "/from/", "/to/", "/from/", "/x/", "/x/")]
    assert steps == list(zip([cases.VIEW, cases.CLICK] * 2 + [cases.VIEW] * 2, pages, strict=True))
    bots = [sessions(built, f"edge_{name}")[0]["is_suspected_bot"] for name in ("bot", "slow", "new")]
    assert bots == [True, False, False]
    companies = {row["user_id"] for row in built.rows("identifying_company_traffic")}
    assert [PEOPLE[f"crowd_{people}_0"] in companies for people in (50, 51)] == [True, False]


def test_staging_casts_what_fits_and_makes_null_of_the_rest(built: Built):
    (row,) = built.rows("stg_amplitude__events", uuid=cases.rfc["uuid"])
    assert row["event_time"] == at("2026-09-24 10:00:00.500000")
    assert row["client_event_time"] == row["processed_time"] == at("2026-09-24 10:00:00")
    assert (row["server_received_time"], row["paying"], row["app"], row["groups"]) == (None, None, None, None)
    assert float(row["sample_rate"]) == 0.5


def test_staging_has_all_55_keys(built: Built):
    (row,) = built.rows("stg_amplitude__events", uuid=cases.dead[0]["uuid"])
    names = {key.replace("$schema", "schema_version").lstrip("$") for key in cases.KEYS}
    assert row.keys() == names | {"loaded_at", "source_file", "source_row"}
    assert json.loads(row["event_properties"]) == cases.dead[0]["event_properties"]
