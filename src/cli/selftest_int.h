/* SPDX-License-Identifier: MIT */
#ifndef CLI_SELFTEST_INT_H
#define CLI_SELFTEST_INT_H

/*
 * The command selftest, for its own files: one synthetic request of each feature, through as much of the way as can be
 * had.
 *
 *   selftest.c              options, order, end
 *   selftest_report.c       steps: run, measured, shown; signals
 *   selftest_admin.c        the administrator's side of a stand-in service
 *   selftest_certificate.c  the throwaway recipient, CAs, and whether a certificate is the one that was asked for
 *   selftest_pkcs.c, selftest_pfx.c, selftest_scep.c, selftest_revocation.c, selftest_service.c
 *   selftest_clean.c        what is undone at the end, however that came
 *
 * With a stand-in, requests are put into its queues and come back by way of the daemon.  Without, as nobody but Intune
 * can do that with Intune, each feature is tried as far as it goes from here.
 *
 * Everything synthetic bears the GUID of the run.  Keys and passwords live in this process alone.  One thread.
 */

#include <openssl/x509v3.h>

#include "authority.h"
#include "base/secret.h"
#include "base/text.h"
#include "cli_int.h"
#include "http/client.h"
#include "intune/service.h"
#include "scep_verbs.h"
#include "service.h"

#define SELFTEST_CAS_MAX 4
#define SELFTEST_ISSUED_MAX 4
#define SELFTEST_REQUESTS_MAX 4
#define SELFTEST_CALL_MS                                                                           \
    10000 /* one call to stand-in, daemon or CA; an interrupt is seen behind it */

struct selftest;

/* ---- selftest_report.c ---- */

/* It may leave a few words on how it went in st->detail. */
struct selftest_step {
    const char *what;
    int (*run)(struct selftest *st, struct cc_err *err);
};

struct selftest_record {
    const char *feature, *what;
    bool succeeded;
    int64_t duration_ms;
    char text[512]; /* detail or error; "": none */
};

struct selftest_report {
    bool json;
    struct selftest_record *records;
    size_t count;
    char **left; /* behind: what could not be cleaned up */
    size_t left_count;
    int64_t began_ms; /* monotonic */
    int signals;      /* signalfd; -1: none */
    bool stopped;
};

CC_MUST int selftest_report_open(struct selftest_report *report, struct cc_err *err);
void selftest_report_close(struct selftest_report *report);

/* Whether SIGINT or SIGTERM came, for which it waits so long.  From the first on, another ends the process at once. */
bool selftest_stopped(struct selftest *st, int ms);

/* One after the other, until one fails. */
CC_MUST int selftest_run_steps(struct selftest *st, const char *feature,
        const struct selftest_step *steps, size_t count);

/* Also when it was stopped. */
void selftest_run_clean_step(struct selftest *st, const struct selftest_step *step);

/* Something stays behind: what, and what to do about it. */
void selftest_left_behind(struct selftest *st, const char *fmt, ...) CC_PRINTF(2, 3);

/* The end of the output; the exit status. */
int selftest_conclude(struct selftest *st);

/* ---- selftest_admin.c ---- */

struct selftest_admin;

/* token_file: as the stand-in wrote it; url: NULL: where Graph is. */
CC_MUST int selftest_admin_open(const struct config *config, const char *token_file,
        const char *url, struct selftest_admin **ret_admin, struct cc_err *err);
void selftest_admin_close(struct selftest_admin *admin); /* accepts NULL */
const char *selftest_admin_url(const struct selftest_admin *admin);

/* path below /admin/api/; take_body may be NULL.  Any status but 2xx is an error, CC_DOM_HTTP.  ret: initialised before,
   freed by the caller; may be NULL. */
CC_MUST int selftest_admin_send(struct selftest_admin *admin, const char *method, const char *path,
        json_object *take_body, struct http_response *ret, struct cc_err *err);

/* The same with the answer as JSON, yours to put. */
CC_MUST int selftest_admin_call(struct selftest_admin *admin, const char *method, const char *path,
        json_object *take_body, json_object **ret_answer, struct cc_err *err);

/* A text of an object, borrowed; NULL: absent, or no text. */
const char *selftest_text(json_object *obj, const char *name);

/* errorCode and errorMessage of a result as error; -1. */
int selftest_refuse_result(json_object *result, struct cc_err *err);

/* Orders one request; it is cancelled at the end if it is still open then. */
CC_MUST int selftest_order(struct selftest *st, const char *collection, json_object *take_body,
        char ret_id[CC_UUID_LEN], struct cc_err *err);

/* Asks until done() says so: 1 done, 0 not yet, -1 failed.  *ret_answer is yours to put. */
typedef int (*selftest_done_fn)(struct selftest *st, json_object *answer, struct cc_err *err);
CC_MUST int selftest_await(struct selftest *st, const char *path, selftest_done_fn done,
        json_object **ret_answer, struct cc_err *err);

/* The result of a request in a queue; an error when it is a failure.  *ret_result is yours to put. */
CC_MUST int selftest_await_result(struct selftest *st, const char *id, json_object **ret_result,
        struct cc_err *err);

/* ---- selftest_certificate.c ---- */

/* Whom the service has passwords encrypted for: a device that lives as long as the command. */
struct selftest_recipient {
    EVP_PKEY *key;
    X509 *certificate;
    struct cc_buf der;
};

/* A certificate that signs itself, for a week, with the run's subject. */
CC_MUST int selftest_self_signed(struct selftest *st, unsigned key_usages, EVP_PKEY *key,
        X509 **ret_certificate, struct cc_err *err);

/* Makes it; before all features but scep. */
CC_MUST int selftest_recipient(struct selftest *st, struct cc_err *err);

/* The enum pki_keyspec of keys that the profile takes, RSA 2048 where it may be; of RSA alone where rsa; -1: none. */
int selftest_key_kind(const struct config_profile *profile, bool rsa);

/* What an EnvelopedData for the recipient holds. */
CC_MUST int selftest_open_envelope(struct selftest *st, struct cc_bytes der,
        struct cc_secret **ret_content, struct cc_err *err);

/* Key and certificate of a PFX with this password; yours to free. */
CC_MUST int selftest_open_pfx(struct cc_bytes pfx, const struct cc_secret *password,
        EVP_PKEY **ret_key, X509 **ret_certificate, struct cc_err *err);

/* What is asked of it would wait for an administrator. */
#define SELFTEST_APPROVAL "each request waits for an administrator ([ca] approval = manual)"
bool selftest_waits_for_approval(const struct config_ca *ca);

/* 0 for CA_DONE; else -1, and an error in every case. */
int selftest_ca_did(enum ca_outcome outcome, struct cc_err *err);

/* The built-in CA of this name; with its keys only without a stand-in.  Borrowed. */
CC_MUST int selftest_authority(struct selftest *st, const char *name, struct cli_authority **ret,
        struct cc_err *err);

/* It is to be revoked at the end. */
CC_MUST int selftest_note_issued(struct selftest *st, const char *ca, const X509 *certificate,
        struct cc_err *err);

/* Of this key and the run's subject, certified by this CA up to its root, and known there as good. */
CC_MUST int selftest_check_certificate(struct selftest *st, const char *ca, X509 *certificate,
        EVP_PKEY *key, struct cc_err *err);

/* Of the CA and the serial of an issued one. */
struct selftest_issued;
CC_MUST int selftest_status(struct selftest *st, const struct selftest_issued *issued,
        enum ca_status *ret_status, struct cc_err *err);

/* ---- the features ---- */

int selftest_daemon(struct selftest *st);
int selftest_service(struct selftest *st);
int selftest_pkcs(struct selftest *st);
int selftest_pfx(struct selftest *st);
int selftest_scep(struct selftest *st);
int selftest_revocation(struct selftest *st);

/* Has the daemon ask for what is to be revoked. */
CC_MUST int selftest_poll_now(struct selftest *st, struct cc_err *err);

/* A CA and the profile that it has by default; NULL: none. */
const struct config_ca *selftest_pkcs_ca(const struct config *config);
const char *selftest_pkcs_profile(const struct config *config, const struct config_ca *ca);

void selftest_pfx_forget(struct selftest *st);
void selftest_pkcs_forget(struct selftest *st);
void selftest_scep_forget(struct selftest *st);

/* ---- selftest_clean.c ---- */

void selftest_clean(struct selftest *st);

/* ---- everything ---- */

struct selftest_issued {
    const char *ca; /* name, of the configuration */
    uint8_t serial[CADB_SERIAL_MAX];
    size_t serial_len;
    char order[CC_UUID_LEN]; /* for its revocation; "": none */
    bool answered;           /* by the connector */
};

struct selftest {
    const struct cli_command *command;
    const char *config_path, *timeout; /* of the command line */
    int64_t timeout_ms;                /* of one wait */
    struct config *config;
    unsigned features;
    struct selftest_report report;
    char detail[256];

    char run[CC_UUID_LEN], device[CC_UUID_LEN];
    char subject[80]; /* RFC 4514 */
    char user[320];

    struct selftest_admin *admin; /* NULL: not through the service's queue */
    struct cli_service service;
    struct intune *intune; /* the service's */
    json_object *status;   /* of the daemon */
    struct hsm *hsm;       /* NULL: not wanted yet */
    struct pki_plan *plan; /* of the subject */
    struct selftest_recipient recipient;
    struct cli_authority cas[SELFTEST_CAS_MAX];
    size_t ca_count;

    /* What is there because of us. */
    struct selftest_issued issued[SELFTEST_ISSUED_MAX];
    size_t issued_count;
    const char *look_at[SELFTEST_CAS_MAX]; /* CAs that may have issued what never arrived */
    size_t look_at_count;
    char requests[SELFTEST_REQUESTS_MAX][CC_UUID_LEN];
    size_t request_count;
    bool uploaded;                  /* a PFX of the user, maybe */
    char challenge_id[CC_UUID_LEN]; /* "": none that is unused */

    struct {
        const struct config_ca *ca;
        char request[CC_UUID_LEN];
        struct pki_profile *profile;
        struct cc_buf sealed, certificate, pfx, password; /* password: encrypted */
    } pkcs;
    struct {
        char request[CC_UUID_LEN];
        struct cc_secret *password;
        struct cc_buf encrypted;
        char thumbprint[PKI_THUMBPRINT_LEN];
    } pfx;
    struct {
        const struct config_scep *endpoint;
        struct cc_buf url;
        struct scep_options options;
        struct scep_session session;
        bool open;
        struct cc_secret *challenge;
        EVP_PKEY *key;
        X509 *signer, *certificate;
    } scep;
};

/* The CA may issue something that does not arrive here. */
void selftest_look_at(struct selftest *st, const char *ca);

#endif
