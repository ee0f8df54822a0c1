"""What lies at a path and is no plain file, or a giant one: said as bytes, as all that an input holds."""

import os
import stat
from pathlib import Path

MARK = b"\0lay out: "
FIFO = MARK + b"fifo"
SOCKET = MARK + b"socket"
NODES = {FIFO: stat.S_IFIFO, SOCKET: stat.S_IFSOCK}
LINK = MARK + b"link "
ENDLESS = LINK + b"/dev/zero"
GIANT = MARK + b"giant "
KINDS = (FIFO, SOCKET, ENDLESS)


def giant(size: int, head: bytes = b"", tail: bytes = b"") -> bytes:
    """Return what is laid out as a file of that size, of zeros but for its head and its tail."""
    return b"%s%d %d " % (GIANT, size, len(head)) + head + tail


def lay(path: Path, content: bytes) -> None:
    """Write a file, or make what the content says."""
    if content in NODES:
        os.mknod(path, NODES[content] | 0o600)
    elif content.startswith(LINK):
        path.symlink_to(os.fsdecode(content.removeprefix(LINK)))
    elif content.startswith(GIANT):
        size, length, ends = content.removeprefix(GIANT).split(b" ", 2)
        head, tail = ends[: int(length)], ends[int(length) :]
        with path.open("wb") as file:
            file.write(head)
            file.truncate(int(size))
            file.seek(int(size) - len(tail))
            file.write(tail)
    else:
        path.write_bytes(content)


def lies(path: Path) -> bytes:
    """Return what `lay` was given, as `seen`."""
    status = path.lstat()
    if path.is_symlink():
        return LINK + os.fsencode(path.readlink())
    for content, kind in NODES.items():
        if stat.S_IFMT(status.st_mode) == kind:
            return content
    sparse = status.st_size > 2 * 512 * status.st_blocks and status.st_size >= 1 << 20
    return b"%s%d" % (GIANT, status.st_size) if sparse else path.read_bytes()


def seen(content: bytes) -> bytes:
    """Return what `lies` finds of a content: of a giant its size."""
    return GIANT + content.removeprefix(GIANT).split(b" ")[0] if content.startswith(GIANT) else content
