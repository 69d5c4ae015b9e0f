"""Rows that grow, side by side in one array: blocks of 8, 16, 32 … entries with a free list a size.

In: the arena's header and its key array, as numpy arrays that a kernel can change. Out: offsets of blocks.
The data themselves belong to the caller, who may hold further arrays of the same length beside the keys.
Where a block lies is never part of any state.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.kernels import kernel

SMALLEST = 8
CLASSES = 24


def new_header() -> npt.NDArray[np.int64]:
    """Header of an empty arena: [0] the first entry never used, [1 + c] first free block of size class c."""
    header = np.full(1 + CLASSES, -1, np.int64)
    header[0] = 0
    return header


@kernel
def block_size(size_class: int) -> int:
    """Entries of a block of this size class."""
    return SMALLEST << size_class


@kernel
def allocate(header: npt.NDArray[np.int64], keys: npt.NDArray[np.int32], size_class: int) -> int:
    """Offset of a block, its keys all -1. The caller makes sure that `room` is enough.

    Raises:
        MemoryError: it was not.
    """
    size = SMALLEST << size_class
    free = header[1 + size_class]
    if free >= 0:
        offset = free
        link = keys[offset]
        header[1 + size_class] = -1 if link < 0 else np.int64(link) * SMALLEST
    else:
        offset = header[0]
        if offset + size > len(keys):
            raise MemoryError("the arena has no room for this block")
        header[0] = offset + size
    for j in range(offset, offset + size):
        keys[j] = -1
    return offset


@kernel
def release(header: npt.NDArray[np.int64], keys: npt.NDArray[np.int32], offset: int, size_class: int) -> None:
    """Put a block back on the free list of its size."""
    head = header[1 + size_class]
    keys[offset] = -1 if head < 0 else head // SMALLEST
    header[1 + size_class] = offset


@kernel
def room(header: npt.NDArray[np.int64], keys: npt.NDArray[np.int32]) -> int:
    """Entries never used yet: a bound, from below, on what can be allocated."""
    return len(keys) - header[0]
