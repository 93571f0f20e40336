/* SPDX-License-Identifier: MIT */
#include <stddef.h>

#include "cli_int.h"
#include "scep_verbs.h"

static int
run(const struct cli_command *command, int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        { "caps", cli_scep_caps_run },
        { "enrol", cli_scep_enrol_run },
        { "renew", cli_scep_renew_run },
        { "cert", cli_scep_cert_run },
        { "crl", cli_scep_crl_run },
        { NULL, NULL },
    };

    return cli_verb(command, argc, argv, verbs);
}

extern const struct cli_command cli_scep;
const struct cli_command cli_scep = {
    .name = "scep",
    .summary = "ask a SCEP server, as a device does",
    .usage = "usage: certconnector scep caps --url URL [--save FILE] [--json]\n"
             "       certconnector scep enrol --url URL --subject NAME --out FILE [--key FILE]\n"
             "                             [--challenge-file FILE] [OPTION...]\n"
             "       certconnector scep renew --url URL --certificate FILE --key FILE --out FILE\n"
             "                             [--new-key FILE] [OPTION...]\n"
             "       certconnector scep cert --url URL --serial HEX --certificate FILE --key FILE\n"
             "                             --out FILE [OPTION...]\n"
             "       certconnector scep crl --url URL --certificate FILE --key FILE --out FILE\n"
             "                             [OPTION...]\n"
             "\n"
             "A client of RFC 8894, to see what a server says and whether it is right.  Keys are\n"
             "files, as a device's would be, and nothing of the configuration is used.  caps\n"
             "shows what the server can and its certificates.  enrol gets a first certificate,\n"
             "renew another one for the same names, cert an issued one by its number, crl the\n"
             "revocation list.  Exit status 1 when the server refuses, with its reason.\n"
             "\n"
             "  --url URL            of the server, http or https\n"
             "  --ca-file FILE       whom to trust for https, PEM (default: the system's)\n"
             "  --timeout TIME       for each answer (default 30s)\n"
             "  --json               one JSON object\n"
             "  --save FILE          the server's certificates, PEM\n"
             "  --fingerprint HEX    SHA-256 of the CA's certificate, as caps shows it: the\n"
             "                       certificates of the server must be that one's\n"
             "  --subject NAME       as RFC 4514 writes it: CN=Device 7,O=Contoso\n"
             "  --dns NAME, --email ADDRESS, --upn NAME, --uri URI   alternative names\n"
             "  --key FILE           PEM; enrol makes it when it is not there\n"
             "  --new-key FILE       for the new certificate; made when it is not there\n"
             "                       (default: the old key again)\n"
             "  --key-type TYPE      rsa2048 (default), rsa3072, rsa4096\n"
             "  --challenge-file FILE   the challenge password (default: asked for on a\n"
             "                       terminal, else none)\n"
             "  --certificate FILE   the one that signs the request, PEM or DER\n"
             "  --serial HEX         of the certificate that is wanted\n"
             "  --out FILE           where the certificate or CRL goes, PEM\n"
             "  --poll SECONDS       asks again so often while the request is pending\n"
             "  --cipher CIPHER      aes256 (default), aes128, 3des\n"
             "  --digest DIGEST      sha256 (default), sha512, sha1\n"
             "  --oaep               RSAES-OAEP instead of PKCS #1 v1.5\n"
             "  --get                sends requests by GET\n"
             "  --save-reply FILE    the server's last answer, as it came\n",
    .run = run,
};
