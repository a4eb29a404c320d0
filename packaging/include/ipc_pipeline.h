/* The shared formats of ipc-pipeline for programs in C: what docs/formats.md says, in structs. All numbers are little-endian.
 *
 * A reader maps /dev/shm/ipc-pipeline.spool (of a user's instance: ipc-pipeline@NAME.spool) read-only. It disturbs nobody: the
 * pipeline does not know of it and never waits for it. What it may believe:
 *
 *   head = ipcp_head(spool);                      everything up to head is accepted
 *   copy the entry of a seq in (tail, head] out of its slot;
 *   it counts if seq and CRC of the copy are right and ipcp_tail(spool), asked for AFTER the copy, is still below seq:
 *   a slot is only written again when its entry is durable (seq <= tail), and then it is in the record.
 */
#ifndef IPC_PIPELINE_H
#define IPC_PIPELINE_H

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
    uint64_t t_ns;    /* ns since the epoch began; by kind, see docs/formats.md */
    int32_t value;    /* of a sample its raw code */
    uint16_t channel; /* 0..31 */
    uint8_t kind;     /* enum ipcp_kind */
    uint8_t flags;
    uint32_t epoch;
    uint32_t crc; /* CRC-32C of the 28 bytes before it */
};

/* The first page of the spool; entry s stands in entries[s % capacity] behind it. */
struct ipcp_spool {
    char magic[8]; /* IPCPSPL1 */
    uint32_t layout, header_len, entry_len, entry_ver;
    uint64_t capacity; /* a power of two */
    uint64_t log_id;
    uint32_t epoch, reserved;
    uint64_t base;
    uint32_t reserved2, crc; /* CRC-32C of the 60 bytes before it */
    uint64_t start_wall_ns, start_mono_ns, pid, generation;
    uint8_t gap1[128 - 96];
    uint64_t head; /* highest accepted seq */
    uint8_t gap2[256 - 136];
    uint64_t tail; /* highest durable seq that conv has seen */
    uint8_t gap3[384 - 264];
    uint64_t retired; /* not 0: another spool has the name now */
    uint8_t gap4[4096 - 392];
    struct ipcp_entry entries[];
};

#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
_Static_assert(sizeof(struct ipcp_entry) == 32, "an entry has 32 bytes");
_Static_assert(sizeof(struct ipcp_spool) == 4096, "entries begin at 4096");
#endif

static inline uint64_t ipcp_head(const struct ipcp_spool *spool) {
    return __atomic_load_n(&spool->head, __ATOMIC_ACQUIRE);
}

/* To be asked for after entries were copied. */
static inline uint64_t ipcp_tail(const struct ipcp_spool *spool) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&spool->tail, __ATOMIC_RELAXED);
}

static inline uint32_t ipcp_crc32c(const void *bytes, uint32_t len) {
    const uint8_t *b = (const uint8_t *)bytes;
    uint32_t crc = 0xffffffff;
    while (len--) {
        crc ^= *b++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return ~crc;
}

/* Copies entry `seq`, which is accepted. 1: it is that entry; 0: it has been overwritten, so it is in the record. */
static inline int ipcp_read(const struct ipcp_spool *spool, uint64_t seq, struct ipcp_entry *entry) {
    const uint64_t *from = (const uint64_t *)&spool->entries[seq & (spool->capacity - 1)];
    uint64_t words[4];
    for (int i = 0; i < 4; i++) words[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    memcpy(entry, words, sizeof words);
    return ipcp_tail(spool) < seq && entry->seq == seq && entry->crc == ipcp_crc32c(entry, 28);
}

#ifdef __cplusplus
}
#endif
#endif
