/* SPDX-License-Identifier: MIT */
#include "check_int.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/clock.h"
#include "base/file.h"
#include "pki/cert.h"

#define FILE_MAX ((size_t)1 << 20)

static X509 *
read_certificate(const char *path, struct cc_err *err)
{
    struct cc_buf file = CC_BUF_INIT(FILE_MAX);
    BIO *bio = NULL;
    X509 *certificate = NULL;

    if (cc_file_read(path, &file, err) == 0) {
        if (file.len <= INT_MAX && (bio = BIO_new_mem_buf(file.data, (int)file.len)) != NULL)
            certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (certificate == NULL)
            cc_err_set_openssl(err, "%s has no certificate in PEM", path);
    }
    BIO_free(bio);
    cc_buf_free(&file);
    ERR_clear_error();
    return certificate;
}

static bool
judge_dates(struct check *c, const struct check_certificate *file, X509 *certificate)
{
    struct upkeep_finding *f;
    int64_t from, to;

    if (pki_cert_validity(certificate, &from, &to, NULL) != 0 || to > cc_clock_now_ms())
        return true;
    f = check_say(c, file->check_expired, UPKEEP_ERROR, "%s %s has expired", file->what,
            file->path);
    upkeep_cause(f, "%s", file->when_expired);
    upkeep_cure(f,
            "have a new one issued for the same key, and put it into %s, or into a file that %s names",
            file->path, file->setting);
    return false;
}

/* Whether a certificate is of the key with this URI; true where that cannot be told. */
static bool
is_of_key(struct check *c, enum hsm_role role, const char *uri, X509 *certificate)
{
    struct hsm_key *key = NULL;
    EVP_PKEY *public_key = NULL;
    bool right;

    if (hsm_key_get0(c->hsm, role, uri, &key, NULL) != 0 ||
            hsm_key_get1_public(key, &public_key, NULL) != 0)
        return true;
    right = EVP_PKEY_eq(public_key, X509_get0_pubkey(certificate)) == 1;
    EVP_PKEY_free(public_key);
    return right;
}

static bool
judge_key(struct check *c, const struct check_certificate *file, X509 *certificate)
{
    struct upkeep_finding *f;

    if (c->hsm == NULL || file->uri == NULL || is_of_key(c, file->role, file->uri, certificate) ||
            (file->other_uri != NULL && is_of_key(c, file->role, file->other_uri, certificate)))
        return true;
    f = check_say(c, file->check_key, UPKEEP_ERROR, "%s %s is of another key than %s", file->what,
            file->path, file->uri);
    upkeep_cause(f, "%s", file->when_of_another);
    upkeep_cure(f,
            "put the certificate of this key into the file, or name the key that it belongs to: the %s key",
            hsm_role_name(file->role));
    return false;
}

void
check_certificate(struct check *c, const struct check_certificate *file)
{
    struct upkeep_finding *f;
    struct cc_err err = { 0 };
    X509 *certificate;
    bool good;

    if (file->path == NULL)
        return;
    if ((certificate = read_certificate(file->path, &err)) == NULL) {
        f = check_say(c, file->check, UPKEEP_ERROR, "%s %s cannot be read", file->what, file->path);
        upkeep_cause(f, "%s", cc_err_text(&err));
        upkeep_cure(f,
                "put the certificate there, in PEM, readable for the daemon's user, or correct %s",
                file->setting);
        return;
    }
    good = judge_dates(c, file, certificate);
    good = judge_key(c, file, certificate) && good;
    if (good)
        check_say(c, file->check, UPKEEP_OK, "%s %s is good", file->what, file->path);
    X509_free(certificate);
}
