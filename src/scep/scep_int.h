/* SPDX-License-Identifier: MIT */
#ifndef SCEP_INT_H
#define SCEP_INT_H

/* Shared by the files of room scep. */

#include <openssl/x509.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"
#include "http/client.h"
#include "http/listener.h"
#include "intune/scep.h"
#include "lane.h"
#include "pki/csr.h"
#include "pki/enveloped.h"
#include "pki/scep.h"
#include "scep/scep.h"
#include "store/instance.h"
#include "store/scepdb.h"

#define SCEP_BODY_MAX 65536   /* bytes of a message */
#define SCEP_TARGET_MAX 16384 /* bytes of a URL with a message in it */
#define SCEP_REPLY_MAX ((size_t)10 << 20)
#define SCEP_CRL_MAX ((size_t)8 << 20)
#define SCEP_RETRY_AFTER_S 5
#define SCEP_ENCRYPT_CERTS_MAX 16 /* of one RA key over the years */
#define SCEP_LEASE_MS 60000       /* of an enrolment in one instance's hands */
#define SCEP_HEX_LEN (2 * SCEPDB_ID_LEN + 1)

struct endpoint;
struct task;

/* ---- the RA's certificates (ra.c) ---- */

/* What a profile shows to its clients; constant once made, counted. */
struct ra {
    atomic_uint references;
    X509 *sign;
    EVP_PKEY *sign_key;                    /* borrowed from the token */
    X509 *encrypt[SCEP_ENCRYPT_CERTS_MAX]; /* the present one first */
    size_t encrypt_count;
    STACK_OF(X509) *chain; /* of the CA, the issuing one first */
    struct cc_buf shown;   /* answer to GetCACert */
    const char *shown_type;
    struct cc_buf next; /* certificates of the CA to come, not yet signed; empty: none */
};

/* The present one, to be given back with ra_free(); NULL: there is none yet. */
struct ra *ra_get(struct endpoint *endpoint);
void ra_free(struct ra *ra); /* accepts NULL */

/* Makes or renews it where that is due.  *ret_wait_ms: when to look again. */
CC_MUST int ra_keep(struct endpoint *endpoint, int64_t *ret_wait_ms, struct cc_err *err);

/* ---- a profile ---- */

struct endpoint {
    struct scep *scep;
    struct scep_profile settings; /* its strings are copies */
    const char *name;             /* "" for the path itself */
    unsigned lane;                /* of its CA */
    struct cc_buf caps;           /* answer to GetCACaps */
    pthread_mutex_t lock;
    struct ra *ra; /* guarded by lock */
    struct http_client *hook;
};

/* ---- what became of a message ---- */

enum answer_kind {
    ANSWER_SUCCESS, /* with certificate or crl */
    ANSWER_FAILURE, /* with fail_info and text */
    ANSWER_PENDING,
    ANSWER_LATER,  /* 503 */
    ANSWER_REFUSED /* HTTP status, nothing signed */
};

struct answer {
    enum answer_kind kind;
    X509 *certificate; /* owned */
    X509_CRL *crl;     /* owned */
    int fail_info;
    const char *text; /* constant; failInfoText, or that of an HTTP error */
    unsigned status;
};

struct answer answer_failure(int fail_info, const char *text);
struct answer answer_later(void);
struct answer answer_refused(unsigned status, const char *text);
struct answer answer_copy(const struct answer *answer); /* with references of its own */
void answer_free(struct answer *answer);

/* ---- a message in work (message.c) ---- */

struct task {
    struct lane_visit visit; /* the first member */
    struct lane_call *call;  /* of the thread that works on it; NULL: in no lane */
    struct endpoint *endpoint;
    struct ra *ra;
    struct http_exchange *exchange;
    struct cc_bytes body;
    uint8_t digest
            [SCEPDB_ID_LEN]; /* of the message and where it came to: the same again gets the same answer */
    int64_t begun_ms, deadline;

    struct pki_scep_message message;
    struct pki_enveloped envelope;
    struct cc_secret *content;
    char transaction[4 * PKI_SCEP_TRANSACTION_MAX + 4]; /* printable */

    /* Of PKCSReq and RenewalReq. */
    struct cc_buf csr_der;
    X509_REQ *csr;
    EVP_PKEY *key;
    struct pki_csr_ask *ask;
    struct cc_secret *challenge;
    bool checked; /* the CSR's signature and key */
    bool renewal; /* signed by a certificate of ours */
    bool vouched; /* somebody stands in for the SID in the request */
    uint8_t id[SCEPDB_ID_LEN];
    uint8_t key_hash[SCEPDB_ID_LEN];
    char request_id[SCEP_HEX_LEN]; /* the id, in hexadecimal */
    char ca_request_id[SCEP_HEX_LEN + 8];
    struct pki_plan *plan;
    struct task *next; /* of those that wait for the same */
};

/* One message in its lane, on the stack of its thread: what its CA was seen to do. */
struct lane_call {
    enum lane_verdict verdict;
    struct cc_err err; /* of a failure */
};

/* Each answer of a CA, for its lane: whether it was one, and why not. */
void task_ca_said(struct task *task, enum ca_outcome outcome, const struct cc_err *err);

/* Answers the exchange, at once or when another that does the same work has ended, and frees the task. */
void message_handle(struct endpoint *endpoint, struct http_exchange *exchange,
        struct cc_bytes body);
void task_free(struct task *task);

/* A task without a message, for work that goes on after a crash. */
CC_MUST struct task *task_new_resumed(struct endpoint *endpoint, const struct scepdb_row *row);

/* The names that come of task->id. */
void task_name(struct task *task);

/* task->key_hash: SHA-256 of the SubjectPublicKeyInfo of who signed the message. */
CC_MUST int task_hash_signer(struct task *task, struct cc_err *err);

/* A CSR as it lies in the store. */
CC_MUST int task_unseal_csr(struct task *task, struct cc_bytes sealed, struct cc_err *err);

/* Gives those that waited for the same the same answer. */
void answer_waiting(struct task *take_waiting, const struct answer *answer);

/* Says 4001 of a request that has no row. */
void task_say_failed(const struct task *task, const char *why, const struct cc_err *err);

/* ---- who asks (authorise.c, challenge.c) ---- */

/* Signer against request: 0 with task->renewal, 1 with a failure in *ret_answer. */
CC_MUST int authorise(struct task *task, struct answer *ret_answer);

/* The signer of a query has a good certificate of ours, as its answer costs two operations of the token: 0, or 1 with an
   answer. */
CC_MUST int authorise_query(struct task *task, struct answer *ret_answer);

/* Asks who says of challenges: 0 good, 1 refused or not to be asked, with *ret_answer. */
CC_MUST int challenge_check(struct task *task, struct answer *ret_answer);

/* SHA-256 of a challenge that is good once; len 0 for one that is not. */
struct cc_bytes challenge_hash(const struct task *task, uint8_t ret[SCEPDB_ID_LEN]);

/* ---- enrolment (enrol.c) ---- */

/* From a request that is authorised as far as its signer goes to what the device is told. */
struct answer enrol(struct task *task);

/* Where the CA has no certificate for it yet. */
enum resume {
    RESUME_ASK,    /* the CA is asked */
    RESUME_LOOK,   /* its device is waited for */
    RESUME_GIVE_UP /* it did not come back: the row fails */
};

/* Goes on with what a crash or a CA left: a row that is claimed or pending; the task has its CSR. */
struct answer enrol_resume(struct task *task, const char *pending, enum resume resume);

/* ---- queries (query.c) ---- */

struct answer query_poll(struct task *task);
struct answer query_get_cert(struct task *task);
struct answer query_get_crl(struct task *task);

/* ---- one at a time (flight.c) ---- */

/* Work on a row: false when somebody is at it; then a task (may be NULL) waits for the answer, and is not ours any more. */
bool flight_begin(struct scep *scep, const uint8_t id[SCEPDB_ID_LEN], struct task *take_task);
/* Ends it; those that waited are returned as a list. */
struct task *flight_end(struct scep *scep, const uint8_t id[SCEPDB_ID_LEN]);

/* ---- answers (reply.c) ---- */

/* Sends the answer of a task; the task is not freed. */
void reply_send(struct task *task, const struct answer *answer);
/* Sends what the same message got before; false: it is new, or was forgotten. */
bool reply_repeat(struct scep *scep, struct http_exchange *exchange,
        const uint8_t digest[SCEPDB_ID_LEN]);
void reply_plain(struct http_exchange *exchange, unsigned status, const char *text);
void reply_busy(struct http_exchange *exchange);

/* GetNextCACert (section 4.7.1), appended. */
CC_MUST int reply_next_ca(const struct ra *ra, struct cc_buf *ret, struct cc_err *err);

/* ---- what the service hears (notify.c) ---- */

/* A row that ended: what the service must hear of it, and what the admin event says. */
struct notice;

/* Of a task that ends now; certificate: that of the ending, NULL where there is none.  Yours, until one of the two below takes it. */
CC_MUST int notice_new(const struct task *task, const struct scepdb_ending *ending,
        X509 *certificate, struct notice **ret_notice, struct cc_err *err);
void notice_free(struct notice *notice); /* accepts NULL */

enum notice_verdict { NOTICE_TAKEN, NOTICE_REFUSED, NOTICE_LATER };

/* Tells the service now.  Unless LATER the row is settled when the call returns; refused, it has no certificate any more. */
enum notice_verdict notice_tell_now(struct scep *scep, struct notice *take_notice);

/* Tells it soon, from another thread; a queue that is full leaves it to the store, from where it is taken later. */
void notice_enqueue(struct scep *scep, struct notice *take_notice);

/* The same for one of the store after a crash; silent: its admin event stands. */
void notice_enqueue_again(struct notice *take_notice, bool silent);

CC_MUST int notify_start(struct scep *scep, struct cc_err *err);
void notify_stop(struct scep *scep, int64_t deadline);

/* Another instance is gone: what it had in hand is taken over by the settler. */
void notify_adopt(struct scep *scep);

/* When a row whose notice was enqueued is due in the store, should it not be settled by then. */
int64_t notify_due_ms(struct scep *scep);

/* ---- what is left of a crash (recover.c) ---- */

/* Rows that this instance had in hand when it ended; once, at the start. */
CC_MUST int recover_own(struct scep *scep, struct cc_err *err);

/* Rows that nobody works on: those that have a certificate end, the old ones fail.  Now and then. */
void recover_left(struct scep *scep);

/* A row of the store that outlives its callback, which must not wait for the token; yours to free(), NULL without memory. */
struct scepdb_row *row_copy(const struct scepdb_row *row);

/* Of the store: a notice of a row that is due. */
CC_MUST int notice_of_row(struct scep *scep, const struct scepdb_row *row,
        struct notice **ret_notice, struct cc_err *err);

struct endpoint *endpoint_find(struct scep *scep, const char *name);

/* ---- HTTP (serve.c, get.c) ---- */

void serve(void *arg, struct http_exchange *exchange);

/* The message of a GET: base64 in every form that clients send it in; appended.  -1: it is none. */
CC_MUST int get_decode(const char *raw, struct cc_buf *ret);

/* ---- all of it ---- */

#define CACHE_SIZE 256 /* answers that are kept for repeats */

struct cached {
    uint8_t digest[SCEPDB_ID_LEN];
    struct cc_buf reply;
};

struct flight {
    struct flight *next;
    uint8_t id[SCEPDB_ID_LEN];
    struct task *waiting;
};

struct scep {
    struct hsm *hsm;
    struct intune *intune;
    struct store *store;
    struct eventlog *log;
    struct hsm_key *sign, *encrypt, *seal;
    char *path;
    int64_t deadline_ms, remember_ms;
    struct endpoint *endpoints;
    size_t endpoint_count;
    struct http_listener *listener;
    struct lanes *lanes;

    atomic_uint in_work;
    atomic_ullong bad_messages;
    atomic_ullong answered[SCEP_ANSWERED_KINDS], fail_info[SCEP_FAIL_INFOS];
    struct cc_histogram time;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping; /* guarded by lock; so all below */
    struct flight *flights;
    struct cached cache[CACHE_SIZE];
    size_t cache_next;
    char last_error[256];

    pthread_t ra_thread;
    bool ra_started;
    struct notifier *notifier;
};

/* Waits with the lock held for at most ms; false: we are stopping. */
bool scep_wait(struct scep *scep, int64_t ms);

/* Whether what is done now could be made durable, and told. */
bool scep_can_record(const struct scep *scep);

#endif
