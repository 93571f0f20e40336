/* SPDX-License-Identifier: MIT */
#include <stddef.h>

#include "ca_verbs.h"
#include "cli_int.h"

static int
run(const struct cli_command *command, int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        { "init", cli_ca_init_run },
        { "issue", cli_ca_issue_run },
        { "revoke", cli_ca_revoke_run },
        { "crl", cli_ca_crl_run },
        { "list", cli_ca_list_run },
        { "pending", cli_ca_pending_run },
        { "approve", cli_ca_approve_run },
        { "deny", cli_ca_deny_run },
        { NULL, NULL },
    };

    return cli_verb(command, argc, argv, verbs);
}

extern const struct cli_command cli_ca;
const struct cli_command cli_ca = {
    .name = "ca",
    .summary = "the built-in certification authority",
    .usage = "usage: certconnector ca init --subject NAME [--validity TIME] [--path-length N]\n"
             "                             [--key-type TYPE] [--scep]\n"
             "                             [--if-missing | --intermediate [--out FILE]]\n"
             "       certconnector ca init --certificate FILE [--chain FILE]\n"
             "       certconnector ca issue --csr FILE [--profile NAME] [--subject NAME]\n"
             "                             [--sid SID] [--validity TIME] [--out FILE]\n"
             "       certconnector ca revoke (--serial HEX | --certificate FILE)\n"
             "                             [--reason REASON | --release]\n"
             "       certconnector ca crl [--delta] [--pem] [--out FILE]\n"
             "       certconnector ca list [--state STATE] [--subject TEXT] [--json]\n"
             "       certconnector ca pending [--json]\n"
             "       certconnector ca approve (REQUEST-ID | --all)\n"
             "       certconnector ca deny (REQUEST-ID | --all) [--reason TEXT]\n"
             "\n"
             "init makes the CA of [ca \"NAME\"] with its key in the token: a root that signs\n"
             "itself, or, with --intermediate, a request for the CA above, whose certificate\n"
             "is given to a second init.  issue certifies a request by a profile.  revoke\n"
             "revokes, holds (--reason certificateHold) or releases, and signs a CRL.  crl\n"
             "signs one and writes it.  pending shows what waits for an administrator where\n"
             "[ca] approval is manual; approve and deny decide.  A running connector needs\n"
             "not be told.\n"
             "\n"
             "  --ca NAME           which one, where the configuration has several\n"
             "  --subject NAME      as RFC 4514 writes it: CN=Contoso Root,O=Contoso\n"
             "  --validity TIME     of a root (default 3650d), or at most of a certificate\n"
             "  --path-length N     CAs below this one; without it, any number\n"
             "  --key-type TYPE     makes the key in the token first, if it is not there:\n"
             "                      rsa3072, rsa4096, ecP256, ecP384; needs a token that this\n"
             "                      user may write\n"
             "  --scep              its key serves SCEP clients, too; RSA only\n"
             "  --if-missing        does nothing where the root of this subject is there already\n"
             "  --intermediate      no root\n"
             "  --certificate FILE  PEM or DER\n"
             "  --chain FILE        certificates above it, PEM\n"
             "  --csr FILE          PKCS #10, PEM or DER\n"
             "  --profile NAME      which one, where the configuration has several\n"
             "  --sid SID           for strong mapping, where the profile has it\n"
             "  --serial HEX        as list shows it\n"
             "  --reason REASON     as RFC 5280 spells it (default unspecified)\n"
             "  --release           of a certificate that is on hold\n"
             "  --delta             a delta CRL\n"
             "  --pem               PEM instead of DER\n"
             "  --out FILE          instead of standard output\n"
             "  --state STATE       issued, held, revoked or all (default issued)\n"
             "  --subject TEXT      with list: those whose subject contains it\n"
             "  --all               every request that waits\n"
             "  --reason TEXT       with deny: why, for the record\n"
             "  --json              one JSON object\n"
             "  --config FILE       the configuration (default " CONFIG_DEFAULT_PATH ")\n",
    .run = run,
};
