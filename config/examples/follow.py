#!/usr/bin/python3
"""Follows the samples of a running pipeline by name, as they are accepted: follow.py [NAME of the instance] [how many].

It maps the spool read-only, needs nothing but Python, and nobody waits for it. The format is in ipc-pipeline-formats(5).
"""
import mmap, os, struct, sys, time

ENTRY = struct.Struct("<QQiHBBII")  # seq, t_ns, value, channel, kind, flags, epoch, crc
SAMPLE = 1
CRC = [0] * 256
for i in range(256):
    c = i
    for _ in range(8):
        c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
    CRC[i] = c


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Segment:
    """A spool, a page or a register: all begin with a magic and a CRC."""

    def __init__(self, path, magic):
        self.fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        self.map = mmap.mmap(self.fd, 0, prot=mmap.PROT_READ)
        if self.map[:8] != magic or crc32c(self.map[:60]) != self.word(56) >> 32:
            raise ValueError(f"{path} does not begin as {magic.decode()}")
        self.path = path

    def word(self, at):
        return struct.unpack_from("<Q", self.map, at)[0]

    def is_current(self):
        try:
            return os.stat(self.path).st_ino == os.fstat(self.fd).st_ino
        except FileNotFoundError:
            return False


def read(spool, seq):
    """The entry, or None: it was overwritten meanwhile, and so it is in the record."""
    at = 4096 + 32 * (seq % spool.word(24))
    raw = spool.map[at : at + 32]
    entry = ENTRY.unpack(raw)
    return entry if spool.word(256) < seq == entry[0] and crc32c(raw[:28]) == entry[7] else None


def current(spool):
    """The spool that has the name now; without one the old one, until there is."""
    try:
        return spool if spool.is_current() else Segment(spool.path, b"IPCPSPL1")
    except (FileNotFoundError, ValueError):
        return spool


def follow(path, left):
    spool = Segment(path, b"IPCPSPL1")
    seq = spool.word(128)
    while left:
        if spool.word(128) <= seq:
            time.sleep(0.02)
            spool = current(spool)
            if spool.word(128) < seq:  # another record
                seq = spool.word(256)
            continue
        seq = max(seq + 1, spool.word(256) + 1)
        entry = read(spool, seq)
        if entry and entry[4] == SAMPLE:
            print(entry[0], entry[1], entry[3], entry[2], flush=True)  # seq, ns, channel, code
            left -= 1


if __name__ == "__main__":
    instance = "@" + sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        follow(f"/dev/shm/ipc-pipeline{instance}.spool", int(sys.argv[2]) if len(sys.argv) > 2 else -1)
    except FileNotFoundError as why:
        sys.exit(f"{why}: does the pipeline run?")
    except KeyboardInterrupt:
        pass
