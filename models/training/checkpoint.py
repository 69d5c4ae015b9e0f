"""A trainer on disk, so that training goes on after a kill where the last checkpoint was.

In: a trainer. Out: one safetensors file whose header holds the counters and names as JSON, replaced as a
whole. Never holds a generator's state: all randomness is keyed by the counters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from models.durable import write_durably

if TYPE_CHECKING:
    from models.training.train import Trainer

FILE = "trainer.safetensors"
FORMAT = 1


class CheckpointError(Exception):
    """A checkpoint can't be used: the file, and what is wrong with it."""


class _Counters(msgspec.Struct, kw_only=True):
    format: int
    settings: dict[str, object]
    band: int
    seed: int
    items: list[str | None]
    actions: list[str]
    steps: int
    refreshes: int
    trained_to: int


def save_trainer(trainer: Trainer, folder: Path) -> None:
    """Write the trainer to `folder`, in place of the checkpoint there."""
    tensors: dict[str, Tensor] = {}
    averages = dict(trainer.average.named_parameters())
    for name, parameter in trainer.model.named_parameters():
        tensors[f"weight/{name}"] = parameter.detach().cpu().contiguous()
        tensors[f"average/{name}"] = averages[name].detach().cpu().contiguous()
        for key, value in trainer.optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
    counters = _Counters(
        format=FORMAT,
        settings=trainer.settings.model_dump(mode="json"),
        band=trainer.band,
        seed=trainer.seed,
        items=trainer.rows.ids,
        actions=trainer.actions,
        steps=trainer.steps,
        refreshes=trainer.refreshes,
        trained_to=trainer.trained_to,
    )
    folder.mkdir(parents=True, exist_ok=True)
    content = save(tensors, metadata={"headrace": msgspec.json.encode(counters).decode()})
    write_durably(folder / FILE, content)


def load_trainer(trainer: Trainer, folder: Path) -> None:
    """Make `trainer` what was saved to `folder`.

    Raises:
        CheckpointError: absent, damaged, or of other settings than the trainer's.
    """
    path = folder / FILE
    try:
        content = path.read_bytes()
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        counters = msgspec.json.decode(header["__metadata__"]["headrace"], type=_Counters)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error
    except (SafetensorError, KeyError, msgspec.DecodeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it to train from the start") from error
    ours = (FORMAT, trainer.settings.model_dump(mode="json"), trainer.band, trainer.seed)
    theirs = (counters.format, counters.settings, counters.band, counters.seed)
    if ours != theirs:
        names = ("format", "models.transformer", "models.sequence.length", "seed")
        changed = ", ".join(n for n, a, b in zip(names, ours, theirs, strict=True) if a != b)
        raise CheckpointError(
            f"{path} was made with another {changed}; go back to the old settings, or delete the file"
            " to train from the start"
        )
    trainer.rows.restore(counters.items)
    trainer.actions = counters.actions
    trainer.steps, trainer.refreshes = counters.steps, counters.refreshes
    trainer.trained_to = counters.trained_to
    for name in [name for name, _ in trainer.model.named_parameters()]:
        _set(trainer.model, name, nn.Parameter(tensors[f"weight/{name}"].to(trainer.device)))
        served = nn.Parameter(tensors[f"average/{name}"].to(trainer.device), requires_grad=False)
        _set(trainer.average, name, served)
    trainer.restart_optimizer(
        {
            parameter: {
                key: tensors[f"{key}/{name}"].to(trainer.device) for key in ("step", "exp_avg", "exp_avg_sq")
            }
            for name, parameter in trainer.model.named_parameters()
            if f"step/{name}" in tensors
        }
    )


def _set(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    *path, leaf = name.split(".")
    torch.nn.Module.register_parameter(model.get_submodule(".".join(path)), leaf, parameter)
