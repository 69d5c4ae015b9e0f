"""A folder that is not a whole model of this version is refused, and says which file is at fault."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from models.durable import write_durably
from models.family import storage
from models.family.storage import MANIFEST, WEIGHTS, StoredModelError, load_model, save_model
from tests.models.family import planted
from tests.models.family.test_contract import taught


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model on disk."""
    save_model(taught("popularity", planted.checkerboard()), tmp_path / "model")
    return tmp_path / "model"


def change(folder: Path, **fields: object) -> None:
    """Put other values into the manifest."""
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | fields))


def test_what_was_saved_is_loaded(folder: Path) -> None:
    model, again = taught("popularity", planted.checkerboard()), load_model(folder)
    assert (again.name, again.seed, again.settings) == (model.name, model.seed, model.settings)
    assert (again.n_users, again.n_items) == (model.n_users, model.n_items)
    for name, array in model.arrays().items():
        assert np.array_equal(again.arrays()[name], array), name


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_without_one_of_its_files_it_is_refused_by_that_files_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(StoredModelError, match=rf"{name} can't be read: No such file"):
        load_model(folder)


def test_a_write_that_was_cut_off_leaves_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(path: Path, content: bytes) -> None:
        if path.name == MANIFEST:
            raise OSError("the power went")
        write_durably(path, content)

    monkeypatch.setattr(storage, "write_durably", cut_off)
    with pytest.raises(OSError, match="the power went"):
        save_model(taught("popularity", planted.checkerboard()), tmp_path)
    assert (tmp_path / WEIGHTS).is_file()
    with pytest.raises(StoredModelError, match=r"manifest\.json can't be read"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", ["{", "{}", '{"format": "1"}'])
def test_a_manifest_that_is_none_is_damaged(folder: Path, content: str) -> None:
    (folder / MANIFEST).write_text(content)
    with pytest.raises(StoredModelError, match=r"manifest\.json is damaged"):
        load_model(folder)


@pytest.mark.parametrize("fields", [{"format": 2}, {"name": "oracle"}])
def test_another_format_or_model_is_named_beside_those_that_are_read(
    folder: Path, fields: dict[str, object]
) -> None:
    change(folder, **fields)
    with pytest.raises(StoredModelError, match=r"(oracle|in format 2).*reads format 1 of .*popularity"):
        load_model(folder)


@pytest.mark.parametrize("fields", [{"settings": {"halflife": 3}}, {"n_items": 7}])
def test_parts_that_do_not_fit_together_are_refused(folder: Path, fields: dict[str, object]) -> None:
    change(folder, **fields)
    with pytest.raises(StoredModelError, match="does not fit together"):
        load_model(folder)


def test_an_array_that_is_missing_is_refused_and_one_too_many_is_passed_over(folder: Path) -> None:
    arrays = load((folder / WEIGHTS).read_bytes())

    def store(some: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
        weights = save(some)
        (folder / WEIGHTS).write_bytes(weights)
        change(folder, sha256=hashlib.sha256(weights).hexdigest())

    store(arrays | {"extra": np.zeros(3)})
    assert load_model(folder).arrays().keys() == arrays.keys()
    store({})
    with pytest.raises(StoredModelError, match="does not fit together"):
        load_model(folder)


def test_other_files_in_the_folder_do_no_harm(folder: Path) -> None:
    (folder / "README").write_text("by hand")
    assert load_model(folder).name == "popularity"
