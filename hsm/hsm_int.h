/* SPDX-License-Identifier: MIT */
#ifndef HSM_INT_H
#define HSM_INT_H

/*
 * The client side of the token, for its own files.
 *
 *   hsm.c        struct hsm: settings, opening, closing, status
 *   supervise.c  the supervisor thread: the token process from start to end, and the next one
 *   spawn.c      the token process: started, ended
 *   pin_memory.c what the token process asks of PINs that other instances share
 *   channel.c    one call: takes a channel, sends, receives, repeats when the process was lost
 *   key.c        keys and what is done with them
 *   device_key.c key pairs of devices, sealed
 *   provider*.c  the keys as OpenSSL sees them
 *   admin.c      provisioning: one call, one process
 *
 * Channel 0 belongs to the supervisor alone: settings, keys and the token's state go over it.  Channels 1 to
 * sessions carry the operations, each taken by one caller at a time.  A process under which anything went wrong (end
 * of file, a missed deadline, an answer that makes no sense) is condemned as a whole: no channel of it is given out
 * any more, its sockets are shut down so that nobody goes on waiting for it, and the supervisor ends it and starts
 * the next.  Descriptors are closed only when no caller holds a channel.
 */

#include <limits.h>
#include <openssl/provider.h>
#include <openssl/types.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "hsm/hsm.h"
#include "hsm/wire.h"

/* ---- the token process ---- */

struct hsm_process {
    pid_t pid; /* 0: none */
    int pidfd; /* readable when it has ended */
};

/*
 * Starts helper with the far ends of so many channels; ret_fds gets our ends.  It inherits the environment as it is
 * (PKCS#11 modules find their configuration there, each by a variable of its own; no secret of ours is ever in it),
 * standard error, and nothing else: signal mask and handlers are reset, and it is in a process group of its own, so
 * that a terminal's interrupt reaches it through us.
 */
CC_MUST int hsm_process_start(const char *helper, unsigned channels, int *ret_fds,
        struct hsm_process *ret_process, struct cc_err *err);

/* The helper beside the running program, wherever that was installed. */
CC_MUST int hsm_helper_find(char ret_path[PATH_MAX], struct cc_err *err);

/* Ends it, with SIGTERM and after grace_ms with SIGKILL, and collects its status.  Nothing for a pid of 0. */
int hsm_process_end(struct hsm_process *process, int64_t grace_ms);

/* ---- struct hsm ---- */

struct hsm_channel {
    int fd;       /* -1: closed */
    bool busy;    /* a caller or the supervisor has it */
    bool lengthy; /* for an operation that takes long */
};

/* A caller in line for a channel.  On its stack. */
struct hsm_waiter {
    TAILQ_ENTRY(hsm_waiter) link;
    const struct hsm_key *key; /* must be known to the process first; may be NULL */
    enum hsm_work work;        /* which line; not HSM_WORK_BY_KEY */
    bool lengthy;              /* it will have its channel for long */
    struct hsm_channel *granted;
    pthread_cond_t turn;
};

TAILQ_HEAD(hsm_line, hsm_waiter);

#define HSM_WORK_LINES HSM_WORK_BY_KEY

struct hsm_key {
    /* Constant. */
    struct hsm *hsm;
    enum hsm_role role;
    char *uri;

    atomic_uint_fast64_t outages; /* see hsm_key_outages() */
    atomic_int told; /* enum hsm_fault that on_key was called with, 0 when the key works */

    /* Guarded by hsm->lock. */
    bool added;            /* the running process knows it, as ... */
    uint16_t number;       /* ... this */
    struct cc_err refusal; /* why the process will not have it */
    uint8_t *spki;         /* pinned, NULL before */
    size_t spki_len;
    EVP_PKEY *public; /* software key of the same */
    EVP_PKEY *pkey;   /* the provider's key */
};

/* A question about a PIN, or what became of one. */
struct hsm_pin_work {
    uint32_t number; /* of the question; 0: the process did not ask it */
    unsigned life;   /* of the process that asked */
    enum wire_pin_question kind;
    struct hsm_pin pin;
    bool token_tells;
    enum hsm_pin_outcome outcome;
    char reason[HSM_PIN_REASON_SIZE];
    bool was_ours; /* of an outcome: nobody else was to try */
};

struct hsm_pin_reply {
    uint32_t number;
    enum hsm_pin_answer answer;
    struct cc_err why;
    uint8_t salt[HSM_PIN_SALT];
    uint32_t iterations;
};

/* Guarded by hsm->lock. */
struct hsm_pins {
    pthread_t thread;
    bool started; /* constant after hsm_open(); false: there is no memory to ask */
    bool stopping;
    pthread_cond_t wanted;
    unsigned life; /* of processes: counted up when one is gone */
    bool has_work, has_reply;
    bool in_hand;               /* a question was fetched and is not answered for good */
    struct hsm_pin_work work;   /* for the thread */
    struct hsm_pin_reply reply; /* for the process */
    bool permitted;             /* the process may be trying this PIN */
    bool lost;                  /* it is gone, and nothing was told */
    struct hsm_pin_work permit;
};

/* Of one kind of operation. */
struct hsm_measure {
    struct cc_histogram time;
    atomic_uint_fast64_t failures;
};

struct hsm {
    struct hsm_measure measures[HSM_MEASURED_MAX]; /* by enum wire_op */

    /* Constant after hsm_open(). */
    char *helper, *module, *init_args, *uri, *pin, *profile, *state_dir;
    unsigned sessions;
    int64_t deadline_ms;
    bool allow_raw_rsa;
    OSSL_LIB_CTX *libctx;
    void (*on_state)(void *arg, enum hsm_state state, const struct cc_err *err);
    void *on_state_arg;
    void (*on_key)(void *arg, const struct hsm_key *key, const struct cc_err *err);
    void *on_key_arg;
    struct hsm_pin_memory pin_memory;
    OSSL_PROVIDER *provider;
    OSSL_PROVIDER *default_provider; /* NULL: was there without us */
    pthread_t supervisor;
    int wake_fd; /* eventfd: something for the supervisor to look at */

    /* The supervisor's own. */
    struct hsm_process process;

    pthread_mutex_t lock;   /* guards all below, and the keys */
    pthread_cond_t changed; /* a state, the verdict on the settings, an idle channel */
    bool stopping;
    bool judged;           /* the first process was started and answered WIRE_SETUP, or did not */
    struct cc_err verdict; /* why these settings can never work */
    bool serving;          /* channels may be taken */
    bool condemned;        /* the running process must go ... */
    char reason[256];      /* ... for this */
    bool state_stale;      /* an operation found the token away: ask the process */
    struct hsm_channel channels[WIRE_CHANNELS_MAX];
    struct hsm_line lines[HSM_WORK_LINES];
    unsigned passed[HSM_WORK_LINES]; /* times in a row that more urgent work went first */
    unsigned lengthy;                /* operations under way that take long */
    struct hsm_key *keys[WIRE_KEYS_MAX];
    size_t key_count;
    struct hsm_status status;
    struct hsm_pins pins;
};

/* The least time that an operation is given before its process is ended for it. */
int64_t hsm_patience_ms(const struct hsm *hsm);

/* Has the supervisor look around. */
void hsm_wake(struct hsm *hsm);

/* The supervisor thread; arg is its struct hsm. */
void *hsm_supervise(void *arg);

/* ---- calls ---- */

/* Reads the results of a reply; what is left in rest is then an error.  May be called again for a repeated call. */
typedef int (*hsm_read_fn)(struct cc_bytes *rest, void *arg, struct cc_err *err);

/*
 * One operation on the token.  call is a frame; where key is given, the two bytes behind the operation are the key's
 * number and are filled in here.  The reply is wiped.
 */
CC_MUST int hsm_call(struct hsm *hsm, struct hsm_key *key, struct cc_buf *call, hsm_read_fn read,
        void *arg, struct cc_err *err);

enum hsm_outcome {
    HSM_ANSWERED, /* with results or an error: err tells */
    HSM_LOST,     /* the process went away */
    HSM_MISSED,   /* no answer in time */
    HSM_SENSELESS /* an answer that cannot be one */
};

/* What a reply says: answered, or senseless. */
enum hsm_outcome hsm_reply_read(struct cc_bytes reply, hsm_read_fn read, void *arg,
        struct cc_err *err);

/* The supervisor's calls, on channel 0.  A notice that came meanwhile makes the state stale. */
CC_MUST int hsm_call_control(struct hsm *hsm, const struct cc_buf *call, int64_t deadline,
        hsm_read_fn read, void *arg, bool *ret_answered, struct cc_err *err);

/* The running process must go; the first reason stays.  LOCKED: hsm->lock. */
void hsm_condemn_locked(struct hsm *hsm, const char *reason);

/* ---- who waits for a channel: line.c.  LOCKED, all that say so: hsm->lock ---- */

void hsm_lines_init(struct hsm *hsm);

/* What the calling thread works for with this key, or NULL; never HSM_WORK_BY_KEY. */
enum hsm_work hsm_work_of(const struct hsm_key *key);

/* first: before those who have not been served yet. */
void hsm_line_join_locked(struct hsm *hsm, struct hsm_waiter *waiter, bool first);

/* Of one that was granted nothing. */
void hsm_line_leave_locked(struct hsm *hsm, struct hsm_waiter *waiter);

/* Gives free channels to those in line. */
void hsm_grant_locked(struct hsm *hsm);

/* A granted channel is free again; nobody is told. */
void hsm_release_locked(struct hsm *hsm, struct hsm_channel *channel);

/* Has those in line see why they need not wait longer. */
void hsm_line_wake_locked(struct hsm *hsm);

/* ---- questions about PINs ---- */

CC_MUST int hsm_pins_start(struct hsm *hsm, struct cc_err *err);
void hsm_pins_stop(struct hsm
                *hsm); /* after the supervisor; tells what is known of attempts under way, once */

/* The supervisor's: carries questions and answers.  -1: the process must go. */
CC_MUST int hsm_pins_serve(struct hsm *hsm, bool asks, int64_t deadline, struct cc_err *err);

bool hsm_pins_in_hand(struct hsm *hsm);    /* a question was fetched that is not answered */
bool hsm_pins_have_reply(struct hsm *hsm); /* to be carried */

/* The process is gone.  LOCKED: hsm->lock. */
void hsm_pins_forget_locked(struct hsm *hsm);

/* ---- keys ---- */

CC_MUST int hsm_uri_check(const char *uri, struct cc_err *err);

void hsm_key_free(struct hsm_key *key);

/* HSM_FAULT_ROLE unless the key's role allows one of these uses (role.h). */
CC_MUST int hsm_key_check_use(const struct hsm_key *key, unsigned use, struct cc_err *err);

/* Begins a call: the operation and the place of the key's number. */
CC_MUST int hsm_key_begin(struct cc_buf *call, enum wire_op op, struct cc_err *err);

/* Results that are one run of bytes: replaces the contents of a struct cc_buf.  A hsm_read_fn. */
int hsm_read_into_buf(struct cc_bytes *rest, void *arg, struct cc_err *err);

/* Puts "doing with key URI" in front of an error; returns -1. */
int hsm_key_in(const struct hsm_key *key, const char *doing, struct cc_err *err);

/* A signature over a digest, or for digest NID_undef over the bytes themselves.  ret_sig is appended to. */
struct hsm_sign {
    enum wire_sign kind;
    int digest_nid, mgf1_nid;
    unsigned salt_len;
    struct cc_bytes tbs;
};
CC_MUST int hsm_key_sign(struct hsm_key *key, const struct hsm_sign *sign, struct cc_buf *ret_sig,
        struct cc_err *err);

/* ret_plain has room for size bytes. */
struct hsm_decrypt {
    enum wire_decrypt kind;
    int digest_nid, mgf1_nid;
    struct cc_bytes label;
    struct cc_bytes ciphertext;
};
CC_MUST int hsm_key_decrypt(struct hsm_key *key, const struct hsm_decrypt *decrypt,
        uint8_t *ret_plain, size_t size, size_t *ret_len, struct cc_err *err);

/* ---- the provider ---- */

/*
 * A failure of the token goes onto OpenSSL's queue as one entry of a library of our own: the reason is the enum
 * hsm_fault, or HSM_REASON_CKR and the CKR_* code, or HSM_REASON_OTHER; the data is the text of the cc_err.
 * cc_err_set_openssl() shows that text, and hsm_err_resolve() finds domain and code again.
 */
#define HSM_REASON_OTHER 100
#define HSM_REASON_CKR 0x1000
#define HSM_REASON_CKR_END 0x1400 /* vendors' own codes are beyond what OpenSSL can hold */

void hsm_err_raise(const struct cc_err *err);

#define HSM_PROVIDER_NAME "certconnector"
#define HSM_PROVIDER_QUERY "provider=" HSM_PROVIDER_NAME

/* Loads our provider, and the default one where it is missing, into hsm->libctx; OpenSSL counts how often. */
CC_MUST int hsm_provider_load(struct hsm *hsm, struct cc_err *err);
void hsm_provider_unload(struct hsm *hsm);

/* An EVP_PKEY of our provider for a key whose public half is this; yours to free. */
CC_MUST int hsm_provider_key(OSSL_LIB_CTX *libctx, struct hsm_key *key, EVP_PKEY *public_key,
        EVP_PKEY **ret_pkey, struct cc_err *err);

#endif
