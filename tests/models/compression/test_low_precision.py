"""Products in fewer bits: near those of float32, and the original stays what it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from models.compression.low_precision import HalfLinear, Int8Linear, computing_in, scorer
from models.compression.packed import Form
from models.config import TransformerSettings
from models.sequence.transformer import CausalTransformer

FEWER: tuple[Form, ...] = ("int8", "bf16", "fp16")


@pytest.fixture
def model() -> CausalTransformer:
    torch.manual_seed(1)
    made = CausalTransformer(TransformerSettings(d_model=16, heads=2), n_items=30, n_actions=2, band=8)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return made.eval()


@pytest.mark.parametrize("form", FEWER)
def test_every_layers_products_are_in_fewer_bits_and_nothing_else_is(
    model: CausalTransformer, form: Form
) -> None:
    before = copy.deepcopy(model.state_dict())
    smaller = computing_in(model, form)
    parts = [part for layer in smaller.layers for part in layer.children()]
    kind = Int8Linear if form == "int8" else HalfLinear
    assert any(isinstance(part, kind) for part in parts)
    assert not any(isinstance(part, nn.Linear) for part in parts)
    assert torch.equal(smaller.item, model.item)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(weight.requires_grad for weight in smaller.parameters())


@pytest.mark.parametrize(("form", "error"), [("int8", 0.02), ("bf16", 0.02), ("fp16", 0.002)])
def test_a_layer_gives_float32_near_the_exact_product(form: Form, error: float) -> None:
    torch.manual_seed(2)
    weight, bias, x = torch.randn(20, 16), torch.randn(20), torch.randn(7, 16)
    layer = Int8Linear(weight, bias) if form == "int8" else HalfLinear(weight, bias, form)
    exact, near = x @ weight.T + bias, layer(x)
    assert near.dtype == torch.float32
    assert not torch.equal(near, exact)
    assert float((near - exact).abs().max()) < error * float(exact.abs().max())


def test_scores_without_a_form_are_those_of_the_items_vectors_in_float32(model: CausalTransformer) -> None:
    queries = torch.randn(5, 16)
    exact = (queries @ model.item_vectors().T + model.bias).detach()
    torch.testing.assert_close(scorer(model)(queries), exact)
    for form in FEWER:
        near = scorer(model, form)(queries)
        assert near.shape == (5, 31)
        assert float((near - exact).abs().max()) < 0.03 * float(exact.abs().max())
