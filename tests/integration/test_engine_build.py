"""Finding a JDK and Maven, and building only when needed; Maven and java are scripts here."""

from __future__ import annotations

from pathlib import Path

import pytest

from local import java
from local.java import BuildError, ensure_engine, find_jdk

MAVEN = """#!/bin/sh
echo "$JAVA_HOME" >> {calls}
/bin/mkdir -p target/lib target/plugins && /usr/bin/touch target/lib/engine.jar
[ ! -e {broken} ] || {{ echo "[ERROR] no such class"; exit 1; }}
"""

JAVA = """#!/bin/sh
echo "$@" >> {calls}
[ ! -e {broken} ] || exit 1
for flag; do case $flag in -XX:ArchiveClassesAtExit=*) echo classes > "${{flag#*=}}";; esac; done
"""


def jdk(home: Path, version: str, *, compiler: bool = True) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "release").write_text(f'IMPLEMENTOR="X"\nJAVA_VERSION="{version}"\n')
    for name in ("java", "javac") if compiler else ("java",):
        (home / "bin" / name).touch(mode=0o755)
    return home


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing installed, and an engine project with one source file."""
    monkeypatch.setattr(java, "JDK_FOLDERS", ((tmp_path / "jvm", "*"),))
    monkeypatch.setattr(java, "ENGINE_DIR", tmp_path / "kestra")
    monkeypatch.setattr(java, "TARGET", tmp_path / "kestra/target")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "kestra/src").mkdir(parents=True)
    (tmp_path / "kestra/pom.xml").write_text("<project/>")
    (tmp_path / "kestra/src/Main.java").write_text("one")
    return tmp_path


def maven(machine: Path) -> Path:
    """Installs the script; returns the file in which it notes its calls."""
    calls = machine / "calls"
    script = machine / "bin/mvn"
    script.write_text(MAVEN.format(calls=calls, broken=machine / "broken"))
    script.chmod(0o755)
    return calls


def test_java_home_wins_then_path_then_the_newest_in_the_usual_folders(machine: Path, monkeypatch: pytest.MonkeyPatch):
    jdk(machine / "jvm/21", "21.0.1")
    newest = jdk(machine / "jvm/25", "25")
    assert find_jdk() == newest

    on_path = jdk(machine / "path", "22")
    (machine / "bin/java").symlink_to(on_path / "bin/java")
    assert find_jdk() == on_path

    named = jdk(machine / "named", "23.0.2")
    monkeypatch.setenv("JAVA_HOME", str(named))
    assert find_jdk() == named


def test_an_old_jdk_and_a_jre_are_passed_over_and_named_when_nothing_else_is_there(machine: Path):
    jdk(machine / "jvm/17", "17.0.15")
    jdk(machine / "jvm/jre", "25", compiler=False)

    with pytest.raises(BuildError) as error:
        ensure_engine()

    assert "needs a JDK >= 21" in str(error.value)
    assert f"{machine / 'jvm/17'} (17)" in str(error.value)
    assert "adoptium.net" in str(error.value)


def test_a_missing_maven_is_told_with_what_to_install(machine: Path):
    jdk(machine / "jvm/21", "21.0.1")

    with pytest.raises(BuildError, match=r"no `mvn` on PATH.*maven\.apache\.org"):
        ensure_engine()


def test_maven_runs_once_with_that_jdk_and_again_only_when_a_source_changed(machine: Path):
    home, calls = jdk(machine / "jvm/21", "21.0.1"), maven(machine)

    first = ensure_engine()
    assert (first.java, first.class_path) == (home / "bin/java", str(machine / "kestra/target/lib/engine.jar"))
    ensure_engine()
    assert calls.read_text().splitlines() == [str(home)]

    (machine / "kestra/src/Main.java").write_text("two")
    ensure_engine()
    assert len(calls.read_text().splitlines()) == 2


def test_a_build_that_failed_or_was_killed_is_not_taken_for_a_whole_one(machine: Path):
    jdk(machine / "jvm/21", "21.0.1")
    calls = maven(machine)
    (machine / "broken").touch()

    with pytest.raises(BuildError, match="no such class"):
        ensure_engine()
    (machine / "broken").unlink()
    ensure_engine()

    assert len(calls.read_text().splitlines()) == 2


def archiving(machine: Path, home: Path) -> Path:
    """Lets the JDK make archives; returns the file in which it notes its calls."""
    calls = machine / "archived"
    (home / "bin/java").write_text(JAVA.format(calls=calls, broken=machine / "broken_archive"))
    return calls


def test_the_class_archive_is_made_once_and_anew_when_it_is_cut_gone_or_of_another_build_or_jdk(machine: Path):
    home = jdk(machine / "jvm/25", "25")
    maven(machine)
    calls = archiving(machine, home)

    def made() -> int:
        build = ensure_engine()
        assert build.archive.read_text() == "classes\n"
        assert f"-XX:SharedArchiveFile={build.archive}" in build.command(build.plugins)
        assert not list(build.archive.parent.glob("tmp*"))
        return len(calls.read_text().splitlines())

    assert [made(), made()] == [1, 1]
    archive = ensure_engine().archive
    archive.write_text("cla")
    assert [made(), made()] == [2, 2]
    archive.unlink()
    assert [made(), made()] == [3, 3]
    (machine / "kestra/src/Main.java").write_text("two")
    assert [made(), made()] == [4, 4]
    (home / "release").write_text('JAVA_VERSION="25.0.1"\n')
    assert [made(), made()] == [5, 5]


def test_an_archive_that_cannot_be_made_is_tried_once_and_the_engine_starts_without(machine: Path):
    maven(machine)
    calls = archiving(machine, jdk(machine / "jvm/25", "25"))
    (machine / "broken_archive").touch()

    builds = [ensure_engine() for _ in range(2)]

    assert not builds[0].archive.exists()
    assert len(calls.read_text().splitlines()) == 1


# Lines of Maven 3.8 behind a proxy that refuses, without a name server, and on a full disk.
@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("[ERROR] Could not transfer artifact io.kestra:platform:pom:1.3.31 from/to central", "check the network"),
        ("[ERROR] Failed to execute goal: java.net.UnknownHostException: repo.example.test", "check the network"),
        ("[ERROR] Failed to execute goal … /target/lib/x.jar: No space left on device", "the disk is full"),
    ],
)
def test_no_network_and_a_full_disk_are_said_in_a_sentence(machine: Path, said: str, meant: str):
    jdk(machine / "jvm/25", "25")
    (machine / "bin/mvn").write_text(f'#!/bin/sh\necho "{said}"\nexit 1\n')
    (machine / "bin/mvn").chmod(0o755)
    with pytest.raises(BuildError, match=meant) as error:
        ensure_engine()
    assert "run it again" in str(error.value)
    assert "~/.m2/settings.xml" in str(error.value) or meant == "the disk is full"
