/* SPDX-License-Identifier: MIT */
#ifndef CLI_SCEP_VERBS_H
#define CLI_SCEP_VERBS_H

/* The verbs of "scep", and what they share: options, the connection to a server, one request and its answer. */

#include "cli_int.h"
#include "http/client.h"
#include "scep_client.h"

int cli_scep_caps_run(const struct cli_command *command, int argc, char **argv);
int cli_scep_enrol_run(const struct cli_command *command, int argc, char **argv);
int cli_scep_renew_run(const struct cli_command *command, int argc, char **argv);
int cli_scep_cert_run(const struct cli_command *command, int argc, char **argv);
int cli_scep_crl_run(const struct cli_command *command, int argc, char **argv);

/* Borrowed from argv. */
struct scep_options {
    const char *url, *ca_file, *timeout;
    const char *unix_socket; /* instead of the URL's host; NULL: that one */
    bool json;
    /* of all but caps */
    const char *fingerprint, *cipher, *digest, *save_reply, *out;
    bool get, oaep;
    /* of enrol and renew */
    const char *poll;
};

/* Rows of a table of options. */
#define SCEP_OPTIONS_SERVER(o)                                                                     \
    { "url", &(o).url, NULL }, { "ca-file", &(o).ca_file, NULL },                                  \
            { "timeout", &(o).timeout, NULL },                                                     \
    {                                                                                              \
        "json", NULL, &(o).json                                                                    \
    }
#define SCEP_OPTIONS_REQUEST(o)                                                                    \
    { "fingerprint", &(o).fingerprint, NULL }, { "cipher", &(o).cipher, NULL },                    \
            { "digest", &(o).digest, NULL }, { "save-reply", &(o).save_reply, NULL },              \
            { "out", &(o).out, NULL }, { "get", NULL, &(o).get },                                  \
    {                                                                                              \
        "oaep", NULL, &(o).oaep                                                                    \
    }

struct scep_session {
    const struct scep_options *options;
    struct http_client *http;
    int64_t timeout_ms, poll_ms; /* poll_ms: 0: does not ask again */
    struct scep_client client;   /* who signs is the verb's to fill in */
    struct scep_transaction transaction;
};

/* Reads the options; CC_DOM_USAGE.  scep_session_close() in every case. */
CC_MUST int scep_session_open(const struct scep_options *options, struct scep_session *ret,
        struct cc_err *err);
void scep_session_close(struct scep_session *session);

/* GetCACaps; appended as it came. */
CC_MUST int scep_session_caps(struct scep_session *session, struct cc_buf *ret, struct cc_err *err);

/* GetCACert into session->client.authority, trusted as far as --fingerprint says. */
CC_MUST int scep_session_authority(struct scep_session *session, struct cc_err *err);

/* One request of a new transaction and its answer, after a PENDING those to CertPoll (poll: IssuerAndSubject, or empty). */
CC_MUST int scep_session_ask(struct scep_session *session, enum pki_scep_type type,
        struct cc_bytes content, struct cc_bytes poll, struct scep_answer *ret, struct cc_err *err);

/* A software key in PEM, unencrypted. */
CC_MUST int scep_read_key(const char *path, EVP_PKEY **ret_key, struct cc_err *err);

/* The only certificate, or the first, of a file; yours to free. */
CC_MUST int scep_read_certificate(const char *path, X509 **ret_certificate, struct cc_err *err);

/* PEM, appended. */
CC_MUST int scep_add_certificate_pem(X509 *certificate, struct cc_buf *ret, struct cc_err *err);

/* What came of it, for people or as JSON; certificate: NULL: none.  Writes nothing but that. */
CC_MUST int scep_show_answer(const struct scep_session *session, const struct scep_answer *answer,
        X509 *certificate, struct cc_err *err);

/* An error unless the answer is SUCCESS: "FAILURE, badRequest: text". */
CC_MUST int scep_answer_error(const struct scep_answer *answer, struct cc_err *err);

/* Subject, serial number, validity, usages and fingerprints; NULL without memory. */
json_object *scep_certificate_json(X509 *certificate);
CC_MUST int scep_print_certificate(X509 *certificate, struct cc_err *err);

#endif
