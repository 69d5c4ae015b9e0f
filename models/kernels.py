"""How this package compiles: numba, without the GIL, cached in the user's cache folder.

numba notices a change in the file of a cached function, but not in the files of the functions that it calls; so the
folder's name holds a hash of all sources that kernels are made of, and a new version never runs old code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import platformdirs

F = TypeVar("F", bound=Callable[..., Any])


CONSTANTS = ("base.py", "catalogue.py", "totals.py", "fixed.py", "learned.py", "kernels.py")
"""Files without a kernel whose constants or named tuples are compiled in, and how that is done."""


def _sources_hash() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        source = path.read_bytes()
        if path.name in CONSTANTS or b"\n@kernel" in source or b"\n@inner" in source:
            digest.update(source)
    return digest.hexdigest()[:16]


CACHE = Path(platformdirs.user_cache_dir("headrace")) / "kernels" / _sources_hash()
numba.config.CACHE_DIR = str(CACHE)
# Sums side by side, as in `asymmetric_mf.dot`, become one instruction; unlike fast maths this changes no result.
numba.config.SLP_VECTORIZE = 1


def kernel(function: F | None = None, *, allocates: bool = False) -> Any:
    """Compile a function that Python calls.

    Never with fast maths: sums whose order the compiler chooses are not the same from one compilation to the next.

    Args:
        allocates: whether it makes arrays, or returns any. The others are compiled without counting references:
            whoever calls them holds their arrays, and the counting, which is atomic, took a quarter of the time of a
            list.
    """
    return _decorated(function, allocates, no_cfunc_wrapper=True)


def inner(function: F | None = None, *, allocates: bool = False, here: bool = False) -> Any:
    """Compile a function that only kernels call: without the wrapper for Python, which costs most of the time.

    Args:
        allocates: as of `kernel`.
        here: at each place where it is called: handing on an array is handing on seven numbers, so that a call with
            the whole state and the scratch moves a thousand. Of long ones only those that have few places: the
            compiler's time grows with each.
    """
    return _decorated(function, allocates, no_cfunc_wrapper=True, no_cpython_wrapper=True, forceinline=here)


def _decorated(function: F | None, allocates: bool, **options: bool) -> Any:
    decorate = numba.njit(cache=True, nogil=True, error_model="numpy", _nrt=allocates, **options)
    return decorate if function is None else decorate(function)


def part(function: F) -> Any:
    """Compile into the kernel that calls it: for steps that take nearly all of its arrays, which a call would copy."""
    return numba.njit(inline="always", nogil=True, error_model="numpy")(function)
