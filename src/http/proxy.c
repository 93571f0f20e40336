/* SPDX-License-Identifier: MIT */
#include "proxy.h"

#include <string.h>

#include "base/secret.h"

int
proxy_set_user(CURL *easy, const char *user, const char *password, struct cc_err *err)
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
