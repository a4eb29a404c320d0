#!/usr/bin/python3
"""A program that is not ours, at the objects of a running pipeline, with what everybody has: posix_ipc, sysv_ipc, the C library.

stranger.py look mq QUEUE                               what the queue is, by reading only
stranger.py junk CARRIER PLACE INSTANCE ROLE HOW_MANY   garbage and forged entries for the role that listens there
stranger.py steal CARRIER PLACE HOW_MANY                takes what is meant for somebody else, and prints the samples in it
stranger.py hold CARRIER PLACE INSTANCE                 holds it, and all of shared memory, and does nothing more
stranger.py pages INSTANCE                              durable of log's page, and the first row of stat's register
stranger.py remove NUMBER                               removes a System V queue
"""
import ctypes, glob, itertools, os, random, signal, socket, struct, sys, time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../config/examples"))
from follow import ENTRY, SAMPLE, Segment, crc32c

MESSAGE = 8192
IPC_NOWAIT = 0o4000
libc = ctypes.CDLL(None, use_errno=True)


class Mq:
    def __init__(self, place, **rights):
        import posix_ipc

        self.full = posix_ipc.BusyError
        self.queue = posix_ipc.MessageQueue(place, **rights)

    def send(self, data):
        self.queue.send(data, timeout=0)

    def take(self):
        return self.queue.receive()[0]


class Sysv:
    """By its key, which stands in a file."""

    full = BlockingIOError

    def __init__(self, place):
        with open(place) as file:
            self.number = self.check(libc.msgget(int(file.read(), 16), 0))

    def send(self, data):
        self.check(libc.msgsnd(self.number, struct.pack("l", 1) + data, ctypes.c_size_t(len(data)), IPC_NOWAIT))

    def take(self):
        message = ctypes.create_string_buffer(struct.calcsize("l") + MESSAGE)
        size = libc.msgrcv(self.number, message, ctypes.c_size_t(MESSAGE), ctypes.c_long(0), 0)
        return message.raw[struct.calcsize("l") :][: self.check(size)]

    def check(self, result):
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result


class Fifo:
    full = BlockingIOError

    def __init__(self, place):
        self.reader = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
        self.writer = os.open(place, os.O_WRONLY | os.O_NONBLOCK)

    def send(self, data):
        os.write(self.writer, data[:4096])

    def take(self):
        os.set_blocking(self.reader, True)
        return os.read(self.reader, 1000)  # no number of whole entries: who reads on is out of step


class Unix:
    full = BlockingIOError

    def __init__(self, place):
        self.place = place
        self.connect()

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(self.place)
        self.socket.setblocking(False)

    def send(self, data):
        try:
            self.socket.send(data)
        except (BrokenPipeError, ConnectionResetError):
            self.connect()  # another connection counts now: ours again


class Tcp:
    def __init__(self, place):
        self.socket = socket.create_connection(("127.0.0.1", int(place)))


CARRIERS = {"mq": Mq, "sysv": Sysv, "fifo": Fifo, "unix": Unix, "tcp": Tcp}


def segment(instance, name, magic):
    return Segment(f"/dev/shm/ipc-pipeline@{instance}.{name}", magic)


def sealed(seq, epoch, value, kind=SAMPLE):
    entry = ENTRY.pack(seq, 0, value, 0, kind, 0, epoch, 0)
    return entry[:28] + struct.pack("<I", crc32c(entry[:28]))


def forgeries(spool, page):
    """What a forger can know: all that is in shared memory."""
    for i in itertools.count():
        first, epoch = page.word(256) + 1, spool.word(40)
        yield [
            os.urandom(random.randrange(1, 600)),
            sealed(first, epoch, -7),
            b"".join(sealed(seq, epoch, 1 << 21) for seq in range(first, first + 64)),
            sealed(first, epoch, -7)[:17],
            sealed(first, epoch + 1, 0, kind=2),
        ][i % 5]


def junk(carrier, place, instance, role, how_many):
    carrier = CARRIERS[carrier](place)
    left = int(how_many)
    spool, page = segment(instance, "spool", b"IPCPSPL1"), segment(instance, "page." + role, b"IPCPPAG1")
    for data in forgeries(spool, page):
        try:
            carrier.send(data)
            left -= 1
        except carrier.full:
            pass
        if left == 0:
            break
        time.sleep(0.001)


def steal(carrier, place, how_many):
    carrier = CARRIERS[carrier](place)
    for _ in range(int(how_many)):
        data = carrier.take()
        for at in range(0, len(data) - 31, 32):
            entry = ENTRY.unpack(data[at : at + 32])
            if entry[4] == SAMPLE and crc32c(data[at : at + 28]) == entry[7]:
                print(entry[0], entry[1], entry[3], entry[2])


def look(_, queue):
    queue = Mq(queue, write=False).queue
    is_ = os.fstat(queue.mqd)
    print(queue.max_messages, queue.max_message_size, is_.st_uid, f"{is_.st_mode & 0o7777:o}")


def hold(carrier, place, instance):
    held = [CARRIERS[carrier](place)]
    held += [Segment(path, open(path, "rb").read(8)) for path in glob.glob(f"/dev/shm/ipc-pipeline@{instance}.*")]
    print("held", len(held), flush=True)
    signal.pause()


def pages(instance):
    log, register = segment(instance, "page.log", b"IPCPPAG1"), segment(instance, "snapshot", b"IPCPSNP1")
    print(log.word(384) if log.word(384) ^ log.word(392) == 2**64 - 1 else "torn", end=" ")
    at = 4096 + 81920 * (register.word(128) & 1)
    row = register.map[at : at + 512]
    assert crc32c(row[:508]) == struct.unpack_from("<I", row, 508)[0]
    print(*struct.unpack_from("<Q", row, 0), *struct.unpack_from("<Q", row, 24), int.from_bytes(row[32:48], "little", signed=True))


def remove(key):
    import sysv_ipc

    sysv_ipc.MessageQueue(int(key, 16)).remove()


signal.alarm(30)  # it never outlives its test
globals()[sys.argv[1]](*sys.argv[2:])
