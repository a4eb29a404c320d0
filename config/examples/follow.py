#!/usr/bin/python3
"""Follows the samples of a running pipeline, as they are accepted: follow.py [NAME of the instance] [how many].
It maps the spool read-only, needs nothing but Python, and nobody waits for it. The format is in ipc-pipeline-formats(5)."""
import contextlib, functools, mmap, os, signal, struct, sys, time

ENTRY = struct.Struct("<QQiHBBII")  # seq, t_ns, value, channel, kind, flags, epoch, crc
SPOOL, SAMPLE = b"IPCPSPL1", 1
CAPACITY, LOG_ID, BASE, HEAD, TAIL = 24, 32, 48, 128, 256
CRCS = [functools.reduce(lambda crc, _: crc >> 1 ^ (crc & 1) * 0x82F63B78, range(8), byte) for byte in range(256)]

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRCS[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF

class Segment:
    """A spool, a page or a register, mapped: all begin with a magic and a CRC."""
    def __init__(self, path, magic):
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            self.map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self.slots = (len(self.map) - 4096) // ENTRY.size
        whole = self.map[:8] == magic and crc32c(self.map[:60]) == self.word(56) >> 32
        if not whole or magic == SPOOL and not 0 < self.slots == self.word(CAPACITY):
            raise ValueError(f"{path} is no whole {magic.decode()}")
    def word(self, at):
        return int.from_bytes(self.map[at : at + 8], "little")

def read(spool, seq):
    """The entry; None: it was overwritten meanwhile (or is damaged)."""
    at = 4096 + ENTRY.size * (seq % spool.slots)
    entry = ENTRY.unpack(raw := spool.map[at : at + ENTRY.size])
    return entry if spool.word(TAIL) < seq == entry[0] and crc32c(raw[:28]) == entry[7] else None

def follow(path, left):
    spool = Segment(path, SPOOL)
    seq = spool.word(HEAD)
    while left:
        if seq >= spool.word(HEAD):
            time.sleep(0.02)
            with contextlib.suppress(OSError, ValueError):  # nobody has the name until the pipeline begins again
                named = Segment(path, SPOOL)
                if seq >= spool.word(HEAD):  # still: the old one is read to its end, then who has the name now
                    if named.word(LOG_ID) != spool.word(LOG_ID) or named.word(HEAD) < seq:
                        seq = named.word(BASE) - 1  # another record has other numbers
                    spool = named
        elif entry := read(spool, seq := seq + 1):
            if entry[4] == SAMPLE:
                print(entry[0], entry[1], entry[3], entry[2], flush=True)  # seq, ns, channel, code
                left -= 1
        else:
            print(f"entries {seq} to {max(seq, spool.word(TAIL))} went by too fast: the record has them", file=sys.stderr)
            seq = max(seq, spool.word(TAIL))

if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it in silence
    try:
        follow(f"/dev/shm/ipc-pipeline{''.join('@' + name for name in sys.argv[1:2])}.spool", int((sys.argv[2:] + [-1])[0]))
    except (OSError, ValueError, KeyboardInterrupt) as why:
        sys.exit(f"{why}: does the pipeline run?" if str(why) else 130)
