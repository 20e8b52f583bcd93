"""The pages: links that lead somewhere, and names that exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
OWN = ("docs", "dbt", "dbt_dev", "local", "snowflake", "scripts", "flows", "tests", "docker", ".github")
PAGES = [*ROOT.glob("*.md"), *(page for folder in OWN for page in (ROOT / folder).rglob("*.md"))]
PAGES = sorted(page for page in PAGES if not {"target", "dbt_packages"} & set(page.parts))
FENCED = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_there_are_pages_and_links() -> None:
    assert len(PAGES) > 8
    assert sum(len(LINK.findall(page.read_text(encoding="utf-8"))) for page in PAGES) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / unquote(path)) if path else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


def anchors(page: Path) -> set[str]:
    """The headings' as GitHub makes them: lower case, punctuation gone, blanks to hyphens, repeats numbered."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


def test_objects_that_pages_name_exist() -> None:
    """A renamed table, pipe, task or role would leave its old name in a page."""
    sources = [*(ROOT / "snowflake").rglob("*.sql"), *(ROOT / "dbt").rglob("*.sql")]
    known = "\n".join(path.read_text(encoding="utf-8") for path in sources).lower()
    # the first design's, in the page that says what became of them
    gone = {"amplitude_events_new"}
    for page in PAGES:
        for name in set(re.findall(r"\bAMPLITUDE_[A-Z0-9_]*[A-Z0-9]\b", page.read_text(encoding="utf-8"))):
            if name.lower() in gone or name.startswith("AMPLITUDE_DEV"):
                continue
            assert name.lower() in known.replace("{{ database }}", "amplitude").replace(
                "{{ warehouse }}", "amplitude_wh"
            ), f"{page.name} names {name}"


def test_the_readme_lists_every_flow_and_folder_that_is_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("| flow | does | runs |")[1]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(file.stem for file in (ROOT / "flows").glob("*.yml"))
    where = readme.split("### What is where")[1].split("| flow |")[0]
    paths = re.findall(
        r"`([^`]+)`", "\n".join(line.split("|")[1] for line in where.splitlines() if line.count("|") > 2)
    )
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert {f"{name}/" for name in ("flows", "scripts", "snowflake", "dbt", "docker", "local", "docs")} <= {*paths}


def test_the_newest_version_has_its_line() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version
    table = (ROOT / "docs/upgrading.md").read_text(encoding="utf-8").split("| version | change | what to do |")[1]
    assert re.findall(r"^\| ([\d.]+) \|", table, re.MULTILINE)[0] == version[1]
