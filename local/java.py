"""Finds a JDK and Maven; builds the local Kestra engine (local/kestra) with its class archive when needed."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENGINE_DIR = Path(__file__).resolve().parent / "kestra"
TARGET = ENGINE_DIR / "target"
ROOT = ENGINE_DIR.parent.parent
CONFIGURATION = (ROOT / "docker/kestra.yml", ENGINE_DIR / "overlay.yml")  # the later one wins
JVM_FLAGS = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xmx512m",
    "-Dstdout.encoding=UTF-8",
    *("-Xlog:disable", "-Xlog:all=error:stderr"),  # stdout is for events: the JVM writes its own warnings there
)
ARCHIVE_SECONDS = 300  # what making the class archive may take; 15 on a quiet machine
OLDEST_JDK = 21
INSTALL = (
    f"Install a JDK of version {OLDEST_JDK} or newer (Temurin 21 or 25, for one: https://adoptium.net) and Maven "
    "(https://maven.apache.org), or set JAVA_HOME to a JDK that is already there."
)
NO_REPOSITORY = re.compile(r"Could not (transfer|find) artifact|UnknownHostException|Could not resolve dependencies")
FREE_SPACE = "Free some space (`make clean` removes what the laptop stack holds) and run it again."
LINE = 600  # characters shown of one
JDK_FOLDERS = (
    (Path("/usr/lib/jvm"), "*"),
    (Path("/Library/Java/JavaVirtualMachines"), "*/Contents/Home"),
    (Path("/opt/homebrew/opt"), "openjdk*"),
    (Path("/usr/local/opt"), "openjdk*"),
    (Path.home() / ".sdkman/candidates/java", "*"),
)


class BuildError(Exception):
    """The engine cannot be built here; the message says what to install or shows what Maven said."""


@dataclass(frozen=True)
class EngineBuild:
    """A built engine: `java` to run it with, its class path, the folder of its own plugin jars, its class archive."""

    java: Path
    class_path: str
    plugins: Path
    archive: Path

    def command(self, plugins: Path, *flags: str) -> list[str]:
        """Starts the engine. Without a usable archive the JVM starts all the same, only slower."""
        settings = f"-Dmicronaut.config.files={','.join(map(str, CONFIGURATION))}"
        archive = [f"-XX:SharedArchiveFile={self.archive}"] if self.archive.exists() and not flags else []
        return [
            *(str(self.java), *JVM_FLAGS, *flags, *archive, settings),
            *("-cp", self.class_path, "engine.Main", str(plugins)),
        ]


def _candidates() -> Iterator[Path]:
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"])
    if java := shutil.which("java"):
        yield Path(java).resolve().parent.parent
    for folder, pattern in JDK_FOLDERS:
        yield from sorted(folder.glob(pattern), reverse=True)


def _version(home: Path) -> int:
    """The JDK's feature version; 0 when it is no JDK (a JRE cannot compile)."""
    release = home / "release"
    if not (home / "bin/javac").exists() or not release.exists():
        return 0
    found = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(encoding="utf-8"), re.MULTILINE)
    return int(found[1]) if found else 0


def find_jdk() -> Path:
    """JAVA_HOME, else that of `java` on PATH, else one in the usual folders; raises BuildError when all are too old."""
    found = {home: _version(home) for home in _candidates()}
    for home, version in found.items():
        if version >= OLDEST_JDK:
            return home
    old = ", ".join(f"{home} ({version})" for home, version in found.items() if version) or "none"
    message = f"the local Kestra engine needs a JDK >= {OLDEST_JDK}; found: {old}. {INSTALL}"
    raise BuildError(message)


def _stamp_text() -> str:
    digest = hashlib.sha256()
    for path in [ENGINE_DIR / "pom.xml", *sorted((ENGINE_DIR / "src").rglob("*"))]:
        if path.is_file():
            digest.update(str(path.relative_to(ENGINE_DIR)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def ensure_engine() -> EngineBuild:
    """Builds the engine and its archive if its sources changed since the last whole build. Raises BuildError.

    The stamp goes with the old build and is written after the new one: a killed build is never taken for a whole one.
    """
    home = find_jdk()
    stamp = TARGET / "built.sha256"
    with (ENGINE_DIR / "pom.xml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two commands started at once: one builds, the other waits for it
        wanted = _stamp_text()
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            _build(home)
            stamp.write_text(wanted, encoding="utf-8")
        jars = os.pathsep.join(sorted(str(jar) for jar in (TARGET / "lib").glob("*.jar")))
        build = EngineBuild(home / "bin/java", jars, TARGET / "plugins", TARGET / "engine.jsa")
        _ensure_archive(build, f"{wanted}\n{(home / 'release').read_text(encoding='utf-8')}\n{home}\n{jars}")
    return build


def _ensure_archive(build: EngineBuild, made_of: str) -> None:
    """The classes of the engine, parsed and verified once instead of at each start (CDS), for this JDK and these jars.

    Its stamp holds what it was made of and its size: a stale or cut one is made anew. One that could not be made is not
    tried again. Engines that run keep the file that they have opened.
    """
    stamp = TARGET / "archive.sha256"

    def state() -> str:
        size = build.archive.stat().st_size if build.archive.exists() else 0
        return f"{hashlib.sha256(made_of.encode()).hexdigest()} {size}"

    if stamp.exists() and stamp.read_text(encoding="utf-8") == state():
        return
    build.archive.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=TARGET) as folder:
        made = Path(folder) / "engine.jsa"
        # A load brings in the classes that check flows; that it is refused for want of secrets does not matter.
        load = {"do": "load", "namespace": "analytics.amplitude", "root": str(ROOT), "files": []}
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                build.command(build.plugins, f"-XX:ArchiveClassesAtExit={made}"),
                input=json.dumps(load | {"flows": str(ROOT / "flows")}) + "\n",
                env={"STATE_DIR": folder, "KESTRA_ENCRYPTION_KEY": key, "LANG": "C.UTF-8"},
                capture_output=True,
                text=True,
                timeout=ARCHIVE_SECONDS,
                check=False,
            )
        if made.exists():
            made.replace(build.archive)
    stamp.write_text(state(), encoding="utf-8")


def _build(home: Path) -> None:
    maven = shutil.which("mvn")
    if not maven:
        message = f"the local Kestra engine is built with Maven, and there is no `mvn` on PATH. {INSTALL}"
        raise BuildError(message)
    shutil.rmtree(TARGET, ignore_errors=True)
    result = subprocess.run(
        [maven, "-q", "-B", "package"],
        cwd=ENGINE_DIR,
        env=os.environ | {"JAVA_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise BuildError(_why(result.stdout + result.stderr))


def _why(said: str) -> str:
    """What Maven's words mean, if they are known; else the words themselves."""
    first = next((line for line in said.splitlines() if NO_REPOSITORY.search(line)), "")
    if "No space left on device" in said or "Disk quota exceeded" in said:
        return f"the disk is full: Maven could not build {ENGINE_DIR}. {FREE_SPACE}"
    if first:
        return (
            "Maven cannot get the engine's parts, which the first build needs: check the network. Behind a proxy, or "
            "with a repository of your company's, Maven reads ~/.m2/settings.xml and no HTTPS_PROXY. Then run it "
            "again. Its words:\n"
            f"{first.strip()[:LINE]}"
        )
    return f"Maven could not build {ENGINE_DIR}:\n" + "\n".join(said.strip().splitlines()[-30:])
