"""Python's garbage collection, kept from stopping a service that must answer at once.

In: a process in which everything long-lived is there (imports, compiled kernels, the state). Out: a collector that
no longer looks at any of it. Reference counting, which frees nearly everything, is not touched.
"""

from __future__ import annotations

import gc


def spare_what_is_there() -> None:
    """Collect once, then leave what survived out of later collections.

    A worker holds half a million objects that live as long as it does, most of them out of imported libraries and
    compiled kernels. Going through them takes 200 to 360 ms, with the interpreter held; that happened every few
    seconds to minutes. Called again, it first looks through what was spared, so that a session that has ended is freed.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
