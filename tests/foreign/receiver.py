#!/usr/bin/python3
"""A program that is not ours in the place of a receiver, by what ipc-pipeline-formats(5) says under "A receiver of your own".

receiver.py entries CARRIER PLACE INSTANCE ROLE LOCK HOW_MANY   in the place of ipc-stat: prints the samples that conv sends
receiver.py rows CARRIER PLACE LOCK HOW_MANY                    in the place of ipc-report: prints n, count, sum of snapshots
"""
import contextlib, fcntl, os, signal, socket, struct, sys, time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../config/examples"))
from follow import ENTRY, HEAD, SAMPLE, SPOOL, TAIL, Segment, crc32c

ROW = 512


class Inlet:
    """Where a receiver listens: one connection at a time, or none where there are only datagrams."""

    def __init__(self, carrier, place):
        self.listener, self.rest = None, b""
        if carrier == "udp":
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind(("127.0.0.1", int(place)))
        elif carrier == "tcp":
            self.listen(socket.create_server(("127.0.0.1", int(place))))
        else:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with contextlib.suppress(FileNotFoundError):
                os.remove(place)
            listener.bind(place)
            listener.listen()
            self.listen(listener)

    def listen(self, listener):
        self.listener = listener
        self.socket, _ = listener.accept()

    def pieces(self, size):
        """Whole entries or rows, as they come: nothing stands between them, and a stream may cut them anywhere."""
        while True:
            data = self.socket.recv(65536)
            if not data:
                self.rest = b""
                self.socket, _ = self.listener.accept()  # the sender begins anew
            data = self.rest + data
            whole = len(data) - len(data) % size
            self.rest = data[whole:]
            yield from (data[at : at + size] for at in range(0, whole, size))


class Page:
    """The page by which the sender knows where this receiver listens, and how far it has come."""

    def __init__(self, path, role, address, received):
        head = struct.pack("<8sII44x", b"IPCPPAG1", 1, role)
        page = bytearray(head + struct.pack("<I", crc32c(head)) + bytes(4096 - 64))
        struct.pack_into("<Q", page, 80, os.getpid())
        struct.pack_into("<Q", page, 256, received)
        struct.pack_into("<Q", page, 128, time.time_ns())  # session: another number in each life
        struct.pack_into("<QQ", page, 640, 1, time.monotonic_ns())  # running
        page[1536 : 1536 + len(address)] = address.encode()
        built = f"{path}.{os.urandom(8).hex()}"
        self.fd = os.open(built, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(self.fd, page)
        os.rename(built, path)  # it appears whole

    def show(self, received):
        os.pwrite(self.fd, struct.pack("<Q", received), 256)


def take_lock(path):
    """So that nobody else begins to receive there; held until this process ends."""
    fcntl.flock(lock := open(path), fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def entries(carrier, place, instance, role, lock, how_many):
    held = take_lock(lock)
    spool = Segment(f"/dev/shm/ipc-pipeline@{instance}.spool", SPOOL)
    received = spool.word(HEAD)
    address = f"{carrier}:127.0.0.1:{place}" if carrier in ("tcp", "udp") else carrier + ":"
    # In this order conv would find nobody at the address, and tries again.
    page = Page(f"/dev/shm/ipc-pipeline@{instance}.page.{role}", ["conv", "log", "stat", "report"].index(role), address, received)
    left, jumps = int(how_many), 0
    for data in Inlet(carrier, place).pieces(ENTRY.size):
        entry = ENTRY.unpack(data)
        if crc32c(data[:28]) != entry[7]:
            sys.exit("an entry is not whole")
        if entry[0] <= received or entry[0] > received + 1 and spool.word(TAIL) <= received:
            continue  # it came once more, or too early: what is missing comes again
        jumps += entry[0] > received + 1  # the spool does not have it any more: the record does
        received = entry[0]
        page.show(received)
        if entry[4] == SAMPLE:
            print(entry[0], entry[1], entry[3], entry[2])
            left -= 1
        if left == 0:
            break
    print("jumps", jumps, file=sys.stderr)
    held.close()


def rows(carrier, place, lock, how_many):
    held = take_lock(lock)
    left, newest, snapshot = int(how_many), 0, []
    for row in Inlet(carrier, place).pieces(ROW):
        n, version, _, _, count = struct.unpack_from("<QQIHH", row)
        if crc32c(row[:508]) != struct.unpack_from("<I", row, 508)[0]:
            sys.exit("a row is not whole")
        snapshot = [r for r in snapshot if r[8:16] == row[8:16]] + [row]
        if len(snapshot) < count or version <= newest:
            continue  # not all of it, or it came once more
        newest, first, snapshot = version, snapshot[0], []
        print(n, struct.unpack_from("<Q", first, 24)[0], int.from_bytes(first[32:48], "little", signed=True))
        left -= 1
        if left == 0:
            break
    held.close()


signal.alarm(30)  # it never outlives its test
globals()[sys.argv[1]](*sys.argv[2:])
