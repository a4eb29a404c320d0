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


class Spool:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        self.map = mmap.mmap(self.fd, 0, prot=mmap.PROT_READ)
        if self.map[:8] != b"IPCPSPL1" or crc32c(self.map[:60]) != self.word(56) >> 32:
            raise ValueError(f"{path} is no spool")
        self.capacity, self.path = self.word(24), path

    def word(self, at):
        return struct.unpack_from("<Q", self.map, at)[0]

    def read(self, seq):
        """The entry, or None: it was overwritten meanwhile, and so it is in the record."""
        at = 4096 + 32 * (seq % self.capacity)
        raw = self.map[at : at + 32]
        entry = ENTRY.unpack(raw)
        return entry if self.word(256) < seq == entry[0] and crc32c(raw[:28]) == entry[7] else None

    def is_current(self):
        try:
            return os.stat(self.path).st_ino == os.fstat(self.fd).st_ino
        except FileNotFoundError:
            return False


name, left = sys.argv[1] if len(sys.argv) > 1 else None, int(sys.argv[2]) if len(sys.argv) > 2 else -1
spool = Spool("/dev/shm/ipc-pipeline" + (f"@{name}" if name else "") + ".spool")
seq = spool.word(128)
while left:
    if spool.word(128) <= seq:
        if not spool.is_current():
            spool = Spool(spool.path)
        time.sleep(0.02)
        continue
    seq = max(seq + 1, spool.word(256) + 1)
    entry = spool.read(seq)
    if entry and entry[4] == SAMPLE:
        print(entry[0], entry[1], entry[3], entry[2], flush=True)  # seq, ns, channel, code
        left -= 1
