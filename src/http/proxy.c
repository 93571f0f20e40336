/* SPDX-License-Identifier: MIT */
#include "proxy.h"

#include <string.h>

#include "base/secret.h"

/* Basic authentication; user NULL: none.  password is a reference, or NULL for an empty one. */
static int
set_user(CURL *easy, const char *user, const char *password, struct cc_err *err)
{
    struct cc_secret *secret = NULL;
    CURLcode bad = CURLE_OK;
    int rc = -1;

    if (user == NULL)
        return 0;
    if (password != NULL && (secret = cc_secret_load(password, err)) == NULL)
        return cc_err_in(err, "the proxy's password");
    if (secret != NULL && strlen(cc_secret_str(secret)) != cc_secret_len(secret)) {
        cc_err_set(err, CC_DOM_INPUT, 0, "the proxy's password has a NUL inside");
        goto out;
    }
    bad |= curl_easy_setopt(easy, CURLOPT_PROXYAUTH, (long)CURLAUTH_BASIC);
    bad |= curl_easy_setopt(easy, CURLOPT_PROXYUSERNAME, user);
    bad |= curl_easy_setopt(easy, CURLOPT_PROXYPASSWORD,
            secret != NULL ? cc_secret_str(secret) : "");
    if (bad != CURLE_OK)
        cc_err_nomem(err);
    else
        rc = 0;
out:
    cc_secret_free(secret);
    return rc;
}

int
proxy_set(CURL *easy, const struct proxy_settings *s, struct cc_err *err)
{
    CURLcode bad = CURLE_OK;

    bad |= curl_easy_setopt(easy, CURLOPT_PROXY, s->proxy != NULL ? s->proxy : "");
    bad |= curl_easy_setopt(easy, CURLOPT_NOPROXY, s->no_proxy != NULL ? s->no_proxy : "");
    bad |= curl_easy_setopt(easy, CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (s->ca_file != NULL) {
        bad |= curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, s->ca_file);
        bad |= curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, NULL);
    }
    if (bad != CURLE_OK)
        return cc_err_set(err, CC_DOM_INTERNAL, (long)bad, "libcurl lacks an option");
    return s->proxy != NULL ? set_user(easy, s->user, s->password, err) : 0;
}
