/* SPDX-License-Identifier: MIT */
#ifndef CLI_CA_VERBS_H
#define CLI_CA_VERBS_H

/* The verbs of "ca", a file each, and what they share. */

#include <openssl/types.h>

#include "authority.h"
#include "cli_int.h"

int cli_ca_init_run(const struct cli_command *command, int argc, char **argv);
int cli_ca_issue_run(const struct cli_command *command, int argc, char **argv);
int cli_ca_revoke_run(const struct cli_command *command, int argc, char **argv);
int cli_ca_crl_run(const struct cli_command *command, int argc, char **argv);
int cli_ca_list_run(const struct cli_command *command, int argc, char **argv);
int cli_ca_pending_run(const struct cli_command *command, int argc, char **argv);
int cli_ca_approve_run(const struct cli_command *command, int argc, char **argv);
int cli_ca_deny_run(const struct cli_command *command, int argc, char **argv);

/* A file of certificates, PEM (one or more) or DER (one); pushed. */
CC_MUST int cli_read_certificates(const char *path, STACK_OF(X509) *ret, struct cc_err *err);

/* To the file, which is replaced, or to standard output for NULL. */
CC_MUST int cli_write_output(const char *path, const void *data, size_t len, struct cc_err *err);

/* "PEM" of an object's DER under a name such as "CERTIFICATE"; appended. */
CC_MUST int cli_add_pem(const char *name, struct cc_bytes der, struct cc_buf *ret,
        struct cc_err *err);

#endif
