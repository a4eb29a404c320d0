/* The shared formats of ipc-pipeline for programs in C and C++: what ipc-pipeline-formats(5) says, in structs. All numbers are
 * little-endian, as on every machine that the pipeline runs on; arrays named `gap` are zero.
 *
 * A reader maps the segments read-only. It disturbs nobody: the pipeline does not know of it and never waits for it. P is
 * ipc-pipeline, of a user's instance ipc-pipeline@NAME:
 *
 *   /dev/shm/P.spool       struct ipcp_spool and the entries behind it   newest entries, as they are accepted
 *   /dev/shm/P.page.ROLE   struct ipcp_page                              how each daemon stands: conv, log, stat, report
 *   /dev/shm/P.snapshot    struct ipcp_register                          newest statistics
 *
 * First of all ipcp_is_whole(). After that, what may be believed of the spool:
 *
 *   head = ipcp_head(spool);                      everything up to head is accepted
 *   copy the entry of a seq in (tail, head] out of its slot;
 *   it counts if seq and CRC of the copy are right and ipcp_tail(spool), asked for AFTER the copy, is still below seq:
 *   a slot is only written again when its entry is durable (seq <= tail), and then it is in the record.
 *
 * A segment whose name leads to another file by now is out of use: open the name again.
 */
#ifndef IPC_PIPELINE_H
#define IPC_PIPELINE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Kinds of entries. */
enum ipcp_kind {
    IPCP_SAMPLE = 1,
    IPCP_EPOCH = 2,
    IPCP_LOSS = 3,
    IPCP_CLOCK = 4,
    IPCP_CORRUPT = 5,
    IPCP_SOURCE = 6,
    IPCP_GRID = 7
};

/* One entry: in the spool, on every carrier and in the record. */
struct ipcp_entry {
    uint64_t seq;     /* 1, 2, 3 ... over the life of the record */
    uint64_t t_ns;    /* ns since the epoch began; by kind, see ipc-pipeline-formats(5) */
    int32_t value;    /* of a sample its raw code */
    uint16_t channel; /* 0..31 */
    uint8_t kind;     /* enum ipcp_kind */
    uint8_t flags;
    uint32_t epoch;
    uint32_t crc; /* CRC-32C of the 28 bytes before it */
};

/* ---- Carriers ----
 *
 * On each carrier travel whole entries (to log and stat) or whole rows of a snapshot (to report), back to back and nothing else. FIFO
 * and TCP are streams of the same bytes; messages of a POSIX queue have priority 0. Receivers believe nothing because it came:
 * they compare it with the spool, or with the register. What a program needs that listens in the place of ipc-stat or ipc-report
 * stands in ipc-pipeline-formats(5) under "A receiver of your own".
 */

/* The longest message of a POSIX or System V queue, of a socket and of a datagram; of a FIFO it is half of that. */
#define IPCP_MESSAGE_MAX 8192

/* A message of a System V queue, for msgrcv(2). */
struct ipcp_sysv_message {
    long type; /* 1 */
    unsigned char bytes[IPCP_MESSAGE_MAX];
};

/* ---- Spool ---- */

#define IPCP_SPOOL_MAGIC "IPCPSPL1"

/* The three slots below are checked words: `check` is the exclusive or of all others and of this; seq is 0 while one is written. */
#define IPCP_CHECK 0x9E3779B97F4A7C15u

/* Where conv stands. Of the two the one with seq == head and a right check counts. */
struct ipcp_position {
    uint64_t seq, index, tick, samples, full, bad, empty, check;
    uint8_t gap[64];
};

/* Rows dropped since head. Of those with seq == head and a right check the one with the larger n counts. */
struct ipcp_drops {
    uint64_t seq, n, index, check;
    uint8_t gap[96];
};

/* The source in force. Of those with seq <= head and a right check the one with the larger seq counts. */
struct ipcp_source {
    uint64_t seq, identity, origin_ns, period_ps;
    int64_t clock_ms;
    uint64_t zero[2], check;
    uint8_t gap[64];
};

/* The first page of the spool; entry s stands in ipcp_entries(spool)[s % capacity]. */
struct ipcp_spool {
    char magic[8]; /* IPCP_SPOOL_MAGIC */
    uint32_t layout, header_len, entry_len, entry_ver;
    uint64_t capacity; /* a power of two */
    uint64_t log_id;
    uint32_t epoch, gap1;
    uint64_t base;
    uint32_t gap2, crc; /* CRC-32C of the 60 bytes before it */
    uint64_t start_wall_ns, start_mono_ns, pid, generation;
    uint8_t gap3[128 - 96];
    uint64_t head; /* highest accepted seq */
    uint8_t gap4[256 - 136];
    uint64_t tail; /* highest durable seq that conv has seen */
    uint8_t gap5[384 - 264];
    uint64_t retired; /* not 0: another spool has the name now */
    uint8_t gap6[512 - 392];
    struct ipcp_position position[2];
    struct ipcp_drops drops[2];
    struct ipcp_source source[2];
    uint8_t gap7[4096 - 1280];
};

/* ---- Page ---- */

#define IPCP_PAGE_MAGIC "IPCPPAG1"

enum ipcp_role { IPCP_CONV = 0, IPCP_LOG = 1, IPCP_STAT = 2, IPCP_REPORT = 3 };

enum ipcp_state {
    IPCP_STARTING = 0,
    IPCP_RUNNING = 1,
    IPCP_WAITING_FOR_LOG = 2,
    IPCP_WAITING_FOR_CONV = 3,
    IPCP_FULL = 4,
    IPCP_FOREIGN_LOG = 5,
    IPCP_NO_SPOOL = 6,
    IPCP_DISK_FULL = 7,
    IPCP_DISK_SLOW = 8,
    IPCP_DISK_ERROR = 9,
    IPCP_READ_ONLY = 10,
    IPCP_WRONG_ADDRESS = 11,
    IPCP_DRAINING = 12,
    IPCP_ENDED = 13,
    IPCP_WAITING_FOR_STAT = 14
};

/* How one daemon stands; each word is written by it alone. */
struct ipcp_page {
    char magic[8]; /* IPCP_PAGE_MAGIC */
    uint32_t layout;
    uint32_t role; /* enum ipcp_role */
    uint8_t gap1[60 - 16];
    uint32_t crc; /* CRC-32C of the 60 bytes before it */
    uint64_t log_id, epoch, pid, start_wall_ns;
    uint64_t generation; /* of the spool that log has mapped */
    uint64_t table; /* log: CRC-32C of its channel table, and the complement of that in the upper half */
    uint8_t gap2[128 - 112];
    uint64_t session; /* another number in each life */
    uint8_t gap3[256 - 136];
    uint64_t received; /* log, stat: highest seq that has come; report: last snapshot printed */
    uint8_t gap4[384 - 264];
    uint64_t durable, not_durable; /* by ipcp_durable(); log: highest durable seq; stat: highest one in its statistics */
    uint8_t gap5[512 - 400];
    uint64_t waiting;
    uint8_t gap6[640 - 520];
    uint64_t state; /* enum ipcp_state */
    uint64_t beat;  /* CLOCK_MONOTONIC ns: older than a second, and the daemon does not run */
    uint8_t gap7[768 - 656];
    uint64_t record[8];
    uint8_t gap8[1024 - 832];
    uint64_t counters[64]; /* in the order of ipc-pipeline-formats(5) */
    char address[256];     /* where it listens: text, zero padded */
    uint64_t reload_pid, reload_count, reload_result, gap9;
    char reload_text[2016];
    uint8_t gap10[4096 - 3840];
};

/* ---- Snapshot register ---- */

#define IPCP_REGISTER_MAGIC "IPCPSNP1"
#define IPCP_ROWS_MAX 160

/* When the alarms of a channel are on, in codes; all 0: it has none. */
struct ipcp_limits {
    uint8_t high_side, low_side; /* 1: above, 2: below, 0: none */
    uint8_t gap[2];
    uint32_t hits;
    int32_t high_begin, high_end, low_begin, low_end;
    uint64_t rate_codes, rate_seconds;
};

/* What stat says of a channel after entry n, since the start or in one of its windows; also as it travels to report. */
struct ipcp_row {
    uint64_t n, version;
    uint32_t epoch;
    uint16_t channel; /* 65535, with count 0: there is no sample yet */
    uint16_t rows;    /* of the whole snapshot */
    uint64_t count;
    uint64_t sum[2];         /* 128 bits, low half first, two's complement */
    uint64_t sum_squares[2]; /* 128 bits, low half first */
    int32_t min, max, first, last;
    uint64_t t_ns;                                         /* of the last sample */
    uint64_t missed, full, bad, abandoned, corrupt, unread; /* totals of the record up to n */
    uint64_t log_id;
    uint8_t window; /* 0: since the start */
    uint8_t unit;   /* of size, step, from and to: 1 ns, 2 samples */
    uint8_t percentiles, closed, known, has_average;
    uint8_t gap1[2];
    uint64_t size, step, from, to;
    uint32_t percentile[8]; /* in millionths of a percent */
    int32_t percentile_code[8];
    uint64_t weight;
    int64_t average;    /* fading, in units of 2^-32 codes */
    int64_t rate_codes; /* rate of change: so many codes ... */
    uint64_t rate_ns;   /* ... in so many ns; 0: none */
    uint8_t alarms;     /* 1 high, 2 low, 4 rate */
    uint8_t stale;
    uint8_t gap2[6];
    uint64_t alarm_changes, alarm_seq;
    struct ipcp_limits limits;
    uint8_t gap3[508 - 344];
    uint32_t crc; /* CRC-32C of the 508 bytes before it */
};

/* Snapshot number v stands in rows[v & 1]. */
struct ipcp_register {
    char magic[8]; /* IPCP_REGISTER_MAGIC */
    uint32_t layout;
    uint8_t gap1[60 - 12];
    uint32_t crc; /* CRC-32C of the 60 bytes before it */
    uint8_t gap2[128 - 64];
    uint64_t version; /* 0: there is no snapshot yet */
    uint8_t gap3[4096 - 136];
    struct ipcp_row rows[2][IPCP_ROWS_MAX];
};

#ifdef __cplusplus
#define IPCP_ASSERT(what, text) static_assert(what, text)
#else
#define IPCP_ASSERT(what, text) _Static_assert(what, text)
#endif
IPCP_ASSERT(sizeof(struct ipcp_entry) == 32, "an entry has 32 bytes");
IPCP_ASSERT(sizeof(struct ipcp_spool) == 4096, "entries begin at 4096");
IPCP_ASSERT(sizeof(struct ipcp_page) == 4096, "a page has 4096 bytes");
IPCP_ASSERT(sizeof(struct ipcp_row) == 512, "a row has 512 bytes");
IPCP_ASSERT(sizeof(struct ipcp_register) == 167936, "the register has 167936 bytes");

/* ---- Reading ---- */

static inline uint32_t ipcp_crc32c(const void *bytes, size_t len) {
    const uint8_t *b = (const uint8_t *)bytes;
    uint32_t crc = 0xffffffff;
    while (len--) {
        crc ^= *b++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return ~crc;
}

/* Is this the beginning of a segment with this magic? A name that leads to an empty file is not there yet: look at the size first. */
static inline int ipcp_is_whole(const void *segment, const char *magic) {
    uint32_t crc;
    memcpy(&crc, (const char *)segment + 60, sizeof crc);
    return memcmp(segment, magic, 8) == 0 && crc == ipcp_crc32c(segment, 60);
}

/* Copies what somebody else may be writing, word by word; what the copy is worth its CRC says. */
static inline void ipcp_copy(void *to, const void *from, size_t len) {
    const uint64_t *words = (const uint64_t *)from;
    for (size_t i = 0; i < len / 8; i++) {
        uint64_t word = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
        memcpy((char *)to + 8 * i, &word, 8);
    }
}

static inline const struct ipcp_entry *ipcp_entries(const struct ipcp_spool *spool) {
    return (const struct ipcp_entry *)(const void *)((const char *)spool + sizeof *spool);
}

static inline uint64_t ipcp_head(const struct ipcp_spool *spool) {
    return __atomic_load_n(&spool->head, __ATOMIC_ACQUIRE);
}

/* To be asked for after entries were copied. */
static inline uint64_t ipcp_tail(const struct ipcp_spool *spool) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&spool->tail, __ATOMIC_RELAXED);
}

/* Copies entry `seq`, which is accepted. 1: it is that entry; 0: it has been overwritten, so it is in the record. */
static inline int ipcp_read(const struct ipcp_spool *spool, uint64_t seq, struct ipcp_entry *entry) {
    ipcp_copy(entry, &ipcp_entries(spool)[seq & (spool->capacity - 1)], sizeof *entry);
    return ipcp_tail(spool) < seq && entry->seq == seq && entry->crc == ipcp_crc32c(entry, 28);
}

/* 1: this is `durable` of a page; 0: it is just being written, look again. */
static inline int ipcp_durable(const struct ipcp_page *page, uint64_t *seq) {
    *seq = __atomic_load_n(&page->durable, __ATOMIC_ACQUIRE);
    return *seq == ~__atomic_load_n(&page->not_durable, __ATOMIC_ACQUIRE);
}

/* Copies the newest snapshot into rows[IPCP_ROWS_MAX]; its number of rows. 0: there is none yet, or it was overwritten: look again. */
static inline size_t ipcp_snapshot(const struct ipcp_register *from, struct ipcp_row *rows) {
    uint64_t version = __atomic_load_n(&from->version, __ATOMIC_ACQUIRE);
    size_t count = 1;
    for (size_t i = 0; i < count; i++) {
        ipcp_copy(&rows[i], &from->rows[version & 1][i], sizeof *rows);
        if (rows[i].crc != ipcp_crc32c(&rows[i], 508) || rows[i].version != version) return 0;
        count = rows[0].rows;
        if (count > IPCP_ROWS_MAX) return 0;
    }
    return count;
}

#ifdef __cplusplus
}
#endif
#endif
