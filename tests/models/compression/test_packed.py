"""Weights as tensors in fewer bytes, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.compression.packed import FORMS, Form, PackedError, pack, unpack

matrices = arrays(
    np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-4, 4, width=16)
)


@given(matrices, st.sampled_from(["bf16", "fp16", "pruned"]))
def test_what_fits_the_form_comes_back_exactly(matrix: np.ndarray, form: Form) -> None:  # type: ignore[type-arg]
    whole = torch.from_numpy(matrix)
    if form == "bf16":
        whole = whole.to(torch.bfloat16).float()
    back = unpack(pack({"m": whole}, form))["m"]
    assert back.dtype == torch.float32
    assert torch.equal(back, whole + 0.0)  # -0.0 is 0


@given(matrices)
def test_int8_is_half_a_step_off_at_most(matrix: np.ndarray) -> None:  # type: ignore[type-arg]
    whole = torch.from_numpy(matrix)
    packed = pack({"m": whole}, "int8")
    step = packed["m/scale"][:, None]
    assert bool(((unpack(packed)["m"] - whole).abs() <= 0.501 * step + 1e-7).all())


@pytest.mark.parametrize("form", FORMS)
def test_vectors_stay_what_they_are(form: Form) -> None:
    bias = torch.tensor([1e-9, 3.14159274])
    assert torch.equal(unpack(pack({"bias": bias}, form))["bias"], bias)


def test_a_part_without_its_other_part_is_refused() -> None:
    packed = pack({"m": torch.eye(3)}, "int8")
    del packed["m/scale"]
    with pytest.raises(PackedError, match="m/int8 is there without"):
        unpack(packed)
