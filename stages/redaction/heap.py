"""Stages: memory of pictures goes back to the system when they are dropped."""

from __future__ import annotations

import ctypes

__all__ = ["give_pictures_back"]

M_MMAP_THRESHOLD = -3
LARGE = 1 << 18


def give_pictures_back() -> bool:
    """Tell the C library to map blocks of 256 kB and more by themselves; False where it takes no such hint.

    Left alone, glibc raises that limit to the largest block ever freed. Pictures then lie in heaps with small
    blocks between them, and the process keeps the room of the most that were ever there.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE))
    except (OSError, AttributeError, TypeError):  # another C library
        return False
