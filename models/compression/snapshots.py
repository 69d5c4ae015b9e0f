"""A snapshot in fewer bytes, as a snapshot of its own.

In: a snapshot and a form. Out: a folder that `models.sequence.snapshot.read` takes like any other. Never changes the
snapshot that it is made of, and never announces the new one.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from safetensors.torch import save

from models.compression.packed import Form, pack
from models.compression.prune import pruned
from models.sequence.snapshot import COMPRESSED, WEIGHTS, Snapshot, mark_of, put


def compress(snapshot: Snapshot, form: Form, folder: Path, version: str, share: float = 0.5) -> str:
    """Write `snapshot` to `folder` as `version`; the manifest's SHA-256. `share` is what "pruned" sets to zero."""
    model = pruned(snapshot.model, share) if form == "pruned" else snapshot.model
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    packed = {name: tensor.contiguous() for name, tensor in pack(state, form).items()}
    weights = save(packed)
    made = {"to": form, "of": snapshot.version} | ({"share": share} if form == "pruned" else {})
    manifest = msgspec.structs.replace(
        snapshot.manifest,
        format=COMPRESSED,
        version=version,
        files={WEIGHTS: mark_of(weights)},
        compression=made,
        gate={},
    )
    return put(folder, manifest, weights)
