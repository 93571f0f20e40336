/* SPDX-License-Identifier: MIT */
/* Who may see the status page: the form, the cookie, and whence forms may come. */
#include "page.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

#include "form.h"
#include "page_style.h"
#include "session.h"

#define TOKEN_MAX 4096
#define COOKIE_MAX 256

static bool
is_secure(const struct call *call)
{
    const struct tenant_settings *settings = call->tenant->settings;

    return settings->tls ||
           (settings->public_url != NULL && cc_starts_with(settings->public_url, "https:"));
}

/* With TLS a name that browsers accept from nobody but this very host. */
static const char *
cookie_name(const struct call *call)
{
    return is_secure(call) ? "__Host-certconnector-session" : "certconnector-session";
}

/* Its value (RFC 6265 section 4.2.1), or "". */
static void
read_cookie(const struct call *call, char ret[AUTH_TOKEN_LEN])
{
    const char *at = http_exchange_header(call->exchange, "Cookie");
    const char *name = cookie_name(call);
    size_t len = strlen(name);

    ret[0] = '\0';
    while (at != NULL && *at != '\0') {
        size_t end = strcspn(at, ";");

        if (strncmp(at, name, len) == 0 && at[len] == '=' && end - len - 1 < AUTH_TOKEN_LEN) {
            memcpy(ret, at + len + 1, end - len - 1);
            ret[end - len - 1] = '\0';
            return;
        }
        at += end;
        at += strspn(at, "; ");
    }
}

/* Sends on to another page; cookie may be NULL.  Ends the call. */
static void
send_to(struct call *call, const char *path, const char *cookie)
{
    struct http_header headers[PAGE_HEADERS + 2];
    size_t count = PAGE_HEADERS;

    page_headers(headers);
    headers[count++] = (struct http_header){ "Location", path };
    if (cookie != NULL)
        headers[count++] = (struct http_header){ "Set-Cookie", cookie };
    call_reply(call, 303, headers, count, NULL, NULL, 0);
}

bool
page_admit(struct call *call)
{
    char name[AUTH_TOKEN_LEN];
    bool good;

    read_cookie(call, name);
    good = name[0] != '\0' && session_is_good(call->tenant->sessions, name);
    OPENSSL_cleanse(name, sizeof(name));
    if (!good)
        send_to(call, "/admin/sign-in", NULL);
    return good;
}

/*
 * A form of ours, and nobody else's: browsers say where one was filled in, by Sec-Fetch-Site or, older ones, by Origin.
 * One that says neither is no browser.  false: the call was ended.
 */
static bool
check_origin(struct call *call)
{
    const char *site = http_exchange_header(call->exchange, "Sec-Fetch-Site");
    const char *origin = http_exchange_header(call->exchange, "Origin");
    struct cc_buf base = CC_BUF_INIT(1024);
    bool good = false;

    if (call_read_base_url(call, &base, NULL) == 0)
        good = site != NULL ? strcmp(site, "same-origin") == 0
                            : origin != NULL && strcasecmp(origin, cc_buf_str(&base)) == 0;
    cc_buf_free(&base);
    if (!good)
        page_sign_in_form(call, 403, "That form did not come from this page.");
    return good;
}

void
page_sign_in(struct call *call)
{
    page_sign_in_form(call, 200, NULL);
}

/* Ends the call. */
static void
begin_session(struct call *call)
{
    char name[AUTH_TOKEN_LEN], cookie[COOKIE_MAX];
    bool secure = is_secure(call);
    struct cc_err err = { 0 };

    if (session_begin(call->tenant->sessions, name, &err) != 0) {
        call_reply_failed(call, &err);
        return;
    }
    (void)snprintf(cookie, sizeof(cookie),
            "%s=%s; Path=%s; Max-Age=%d; HttpOnly; SameSite=Strict%s", cookie_name(call), name,
            secure ? "/" : "/admin", SESSION_LIFE_S, secure ? "; Secure" : "");
    send_to(call, "/admin", cookie);
    OPENSSL_cleanse(name, sizeof(name));
    OPENSSL_cleanse(cookie, sizeof(cookie));
}

static bool
is_admin_token(const struct call *call, const char *token)
{
    uint8_t hash[TENANT_HASH_LEN];

    auth_hash_token(token, hash);
    return CRYPTO_memcmp(hash, call->tenant->admin_hash, sizeof(hash)) == 0;
}

/* What is pasted often has a line's end behind it. */
static void
trim(char *text)
{
    size_t len = strlen(text);
    size_t lead = strspn(text, " \t\r\n");

    while (len > lead && strchr(" \t\r\n", text[len - 1]) != NULL)
        len--;
    memmove(text, text + lead, len - lead);
    text[len - lead] = '\0';
}

void
page_take_sign_in(struct call *call)
{
    struct cc_buf token = CC_BUF_INIT(TOKEN_MAX);
    bool found, good;

    if (!check_origin(call))
        return;
    good = form_get(http_exchange_body(call->exchange), "token", &token, &found, NULL) == 0 &&
           found && token.len > 0;
    if (good) {
        trim((char *)token.data);
        good = is_admin_token(call, cc_buf_str(&token));
    }
    cc_buf_wipe(&token);
    if (good)
        begin_session(call);
    else
        page_sign_in_form(call, 403, "That is not the administration token.");
}

void
page_sign_out(struct call *call)
{
    char name[AUTH_TOKEN_LEN], cookie[COOKIE_MAX];
    bool secure = is_secure(call);

    if (!check_origin(call))
        return;
    read_cookie(call, name);
    if (name[0] != '\0')
        session_end(call->tenant->sessions, name);
    OPENSSL_cleanse(name, sizeof(name));
    (void)snprintf(cookie, sizeof(cookie), "%s=; Path=%s; Max-Age=0; HttpOnly; SameSite=Strict%s",
            cookie_name(call), secure ? "/" : "/admin", secure ? "; Secure" : "");
    send_to(call, "/admin/sign-in", cookie);
}
