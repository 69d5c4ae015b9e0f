"""A lesson on disk, half learned, so that a long one goes on after a kill where its last checkpoint was.

In: a network, its optimiser, what the lesson is made of. Out: one safetensors file a lesson, replaced as a whole. What
a lesson is made of is in the file's name, so that no other one is taken up; all randomness is keyed by step, so that a
lesson in two parts ends with the weights of one that was not interrupted. A finished lesson's file stays, and is taken
up whole: whoever changes how a model learns, or has no more use for it, deletes the folder.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from models.durable import write_durably

EVERY = 200
"""Steps between two checkpoints."""
FORMAT = "1"


class LessonCheckpoint:
    """Where one lesson of one model is kept.

    Args:
        folder: made if it isn't there.
        name: begins the file's name.
        parts: all that the lesson's outcome depends on, as bytes.
    """

    def __init__(self, folder: Path, name: str, parts: list[bytes]) -> None:
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        self.path = folder / f"{name}-{digest.hexdigest()[:16]}.safetensors"

    def save(self, step: int, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Keep what was learned in the first `step` steps."""
        tensors = {}
        for name, parameter in network.named_parameters():
            tensors[f"weight/{name}"] = parameter.detach().cpu().contiguous()
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        facts = json.dumps({"format": FORMAT, "step": step})
        write_durably(self.path, save(tensors, metadata={"headrace": facts}))

    def resume(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Make both what was kept last; how many steps that were: 0 where nothing usable was."""
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["headrace"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError):
            return 0
        named = dict(network.named_parameters())
        fits = {f"weight/{name}": parameter.shape for name, parameter in named.items()}
        if facts.get("format") != FORMAT or any(
            name not in tensors or tensors[name].shape != shape for name, shape in fits.items()
        ):
            return 0
        with torch.no_grad():
            for name, parameter in named.items():
                parameter.copy_(tensors[f"weight/{name}"])
                state = {
                    key: tensors[f"{key}/{name}"]
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"{key}/{name}" in tensors
                }
                if state:
                    optimizer.state[parameter] = {
                        key: value.to(parameter.device) for key, value in state.items()
                    }
        return int(facts["step"])
