"""Engine: the one error a user sees, with what happened, where, and what to do about it."""

from __future__ import annotations

import errno

__all__ = ["OrveilError", "explain_os_error"]


class OrveilError(Exception):
    """A problem the user can act on.

    Args:
        what: what went wrong, one sentence without a full stop at the end.
        where: file, camera, frame, stage or setting it concerns ("" where the whole run is concerned).
        remedy: what to do next.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what, where, remedy)

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        remedy = f"\n  remedy: {self.remedy}" if self.remedy else ""
        return f"{self.what}{place}{remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments: the default pickling (Ray workers raise across processes) loses them.
        return (_rebuild, (self.what, self.where, self.remedy))


def _rebuild(what: str, where: str, remedy: str) -> OrveilError:
    return OrveilError(what, where=where, remedy=remedy)


def explain_os_error(error: OSError, where: str) -> OrveilError:
    """Turn an operating-system error into one that names the place and the remedy."""
    remedies = {
        errno.ENOSPC: "free some space on that disk and run the same command again; finished work is kept",
        errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
        errno.EACCES: "give this user read and write permission there",
        errno.EROFS: "the file system is read-only: choose another work directory",
        errno.ENOENT: "check the path; relative paths are taken from the folder of the site file",
    }
    remedy = remedies.get(error.errno or 0, "check the path, the disk and the permissions")
    return OrveilError(error.strerror or str(error), where=error.filename or where, remedy=remedy)
