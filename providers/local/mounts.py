"""Which folders lie on another machine: SQLite's locks do not hold there, and two leaders would be the result."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/mounts")
"""The kernel's table of mounts. Where there is none (macOS), nothing can be told and nothing is refused."""

_NETWORK = frozenset(
    (
        *(
            "9p",
            "afs",
            "beegfs",
            "ceph",
            "cifs",
            "coda",
            "davfs",
            "glusterfs",
            "gpfs",
            "lustre",
            "ncpfs",
            "nfs",
            "nfs4",
        ),
        *("ocfs2", "orangefs", "pvfs2", "smb", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "wekafs"),
    )
)
"""File systems whose files another machine may have open too, at the same time."""

_SANDBOX_ROOTS = frozenset(("9p", "virtiofs"))
"""At the root of the tree they are a sandbox's or a small VM's own disk (gVisor, Kata), which nobody else mounts."""

_NETWORK_FUSE = re.compile(
    r"fuse\.(?!(?:ext[234]?|ntfs|ntfs-3g|exfat|fuse-overlayfs|overlay|bindfs|mergerfs|encfs|gocryptfs|zfs)$)"
)
"""FUSE programs are mostly networks (sshfs, s3fs, rclone, blobfuse2, glusterfs, cephfs): all but these local ones."""


def network_filesystem(path: Path, *, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the network file system that `path` lies on, or None when it is local, or nobody knows."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    place = os.path.realpath(path)
    longest, found = "", None
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point, kind = _unescape(fields[1]), fields[2]
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(longest):  # the last mount on a point hides those before it
            longest, found = point, kind
    if found is None or (longest == "/" and found in _SANDBOX_ROOTS):
        return None
    return found if found in _NETWORK or _NETWORK_FUSE.match(found) else None


def _unescape(point: str) -> str:
    """Undo the kernel's octal escapes for spaces, tabs, newlines and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape.group(1), 8)), point)
