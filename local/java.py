"""Finds a JDK and Maven, and builds the local Kestra engine (local/kestra) when its sources changed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENGINE_DIR = Path(__file__).resolve().parent / "kestra"
TARGET = ENGINE_DIR / "target"
OLDEST_JDK = 21
INSTALL = (
    f"Install a JDK of version {OLDEST_JDK} or newer (Temurin 21 or 25, for one: https://adoptium.net) and Maven "
    "(https://maven.apache.org), or set JAVA_HOME to a JDK that is already there."
)
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
    """A built engine: `java` to run it with, its class path, and the folder of its own plugin jars."""

    java: Path
    class_path: str
    plugins: Path


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
    """Builds the engine if its sources changed since the last whole build. Raises BuildError.

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
    return EngineBuild(home / "bin/java", jars, TARGET / "plugins")


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
        said = "\n".join((result.stdout + result.stderr).strip().splitlines()[-30:])
        message = f"Maven could not build {ENGINE_DIR} (the first build needs a Maven repository):\n{said}"
        raise BuildError(message)
