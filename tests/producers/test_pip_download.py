from __future__ import annotations

import sys
from pathlib import Path

import pytest

from producers import pip_download
from producers.pip_download import PackageError, download_wheel, pips

GOOD = """
import sys, pathlib
folder = sys.argv[sys.argv.index("--dest") + 1]
pathlib.Path(folder, "thing-1-py3-none-any.whl").write_text(" ".join(sys.argv[1:]))
"""
BAD = "import sys; print('first', file=sys.stderr); print('no such thing', file=sys.stderr); sys.exit(1)"


def use(monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    """Let these programs stand for the pips of this machine."""
    monkeypatch.setattr(pip_download, "pips", lambda: [[sys.executable, "-c", p] for p in programs])


def test_the_wheel_is_asked_for_without_dependencies_and_without_building(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, GOOD)
    asked = download_wheel("thing==1", tmp_path).read_text().split()
    assert {"download", "--no-deps", "--only-binary", "thing==1"} <= set(asked)
    assert not any("index" in word or "://" in word for word in asked)


def test_a_pip_that_fails_is_followed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, BAD, GOOD)
    assert download_wheel("thing==1", tmp_path).name == "thing-1-py3-none-any.whl"


def test_when_none_works_the_error_has_what_each_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        pip_download, "pips", lambda: [[sys.executable, "-c", BAD], [str(tmp_path / "nowhere")]]
    )
    with pytest.raises(PackageError, match=r"no such thing; .*nowhere"):
        download_wheel("thing==1", tmp_path)


def test_without_any_pip_the_error_says_how_to_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.pip_download.shutil.which", lambda _: None)
    monkeypatch.setattr("producers.pip_download.importlib.util.find_spec", lambda _: None)
    assert pips() == []
    with pytest.raises(PackageError, match="ensurepip"):
        download_wheel("thing==1", tmp_path)
