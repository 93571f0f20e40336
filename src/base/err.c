/* SPDX-License-Identifier: MIT */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

#include "base_int.h"

/* Longer than any text that is kept, so that what did not fit shows as cut. */
#define RAW_SIZE 1024

/* However long the cause is, what we were doing gets this much in front of it. */
#define DOING_MIN 128

static const char *
errno_text(int errnum, char *scratch, size_t size)
{
    const char *text = strerrordesc_np(errnum);

    if (text != NULL)
        return text;
    (void)snprintf(scratch, size, "error %d", errnum);
    return scratch;
}

/* suffix: NULL, or what follows ": ". */
static void __attribute__((format(printf, 4, 0))) record(struct cc_err *err,
        enum cc_err_domain domain, long code, const char *fmt, va_list ap, const char *suffix)
{
    char raw[RAW_SIZE];
    size_t len;

    if (err == NULL || err->domain != CC_DOM_NONE)
        return;
    if (vsnprintf(raw, sizeof(raw), fmt, ap) < 0)
        raw[0] = '\0';
    len = strlen(raw);
    if (suffix != NULL)
        (void)snprintf(raw + len, sizeof(raw) - len, ": %s", suffix);
    err->domain = domain;
    err->code = code;
    cc_escape_line(err->text, sizeof(err->text), raw);
}

int
cc_err_set(struct cc_err *err, enum cc_err_domain domain, long code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    record(err, domain, code, fmt, ap, NULL);
    va_end(ap);
    return -1;
}

int
cc_err_set_errno(struct cc_err *err, int errnum, const char *fmt, ...)
{
    char scratch[32];
    va_list ap;

    va_start(ap, fmt);
    record(err, CC_DOM_SYSTEM, errnum, fmt, ap, errno_text(errnum, scratch, sizeof(scratch)));
    va_end(ap);
    return -1;
}

int
cc_err_nomem(struct cc_err *err)
{
    return cc_err_set(err, CC_DOM_INTERNAL, ENOMEM, "out of memory");
}

/* "reason (detail)"; OpenSSL keeps no reason for system errors and the reason of an unloaded provider is gone. */
static void
openssl_text(unsigned long code, const char *data, int flags, char *dst, size_t size)
{
    char scratch[32];
    const char *reason = ERR_reason_error_string(code);
    const char *detail = (flags & ERR_TXT_STRING) != 0 && data != NULL ? data : "";

    if (ERR_SYSTEM_ERROR(code))
        reason = errno_text((int)ERR_GET_REASON(code), scratch, sizeof(scratch));
    if (reason == NULL) {
        (void)snprintf(scratch, sizeof(scratch), "OpenSSL error %lx", code);
        reason = scratch;
    }
    if (detail[0] != '\0')
        (void)snprintf(dst, size, "%s (%s)", reason, detail);
    else
        (void)snprintf(dst, size, "%s", reason);
}

int
cc_err_set_openssl(struct cc_err *err, const char *fmt, ...)
{
    const char *data = NULL;
    int flags = 0;
    unsigned long code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags);
    char reason[RAW_SIZE / 2];
    va_list ap;

    if (code != 0)
        openssl_text(code, data, flags, reason, sizeof(reason));
    va_start(ap, fmt);
    record(err, CC_DOM_OPENSSL, (long)code, fmt, ap, code != 0 ? reason : NULL);
    va_end(ap);
    ERR_clear_error();
    return -1;
}

/* The cause's beginning says most, so that the front is cut first and the cause's end next. */
static void
put_in_front(struct cc_err *err, const char *raw_doing)
{
    char doing[sizeof(err->text)];
    char joined[2 * sizeof(err->text) + 2];
    size_t cause_len = strnlen(err->text, sizeof(err->text) - 1);
    size_t room = sizeof(err->text) - 1 - cause_len;

    room = room > DOING_MIN + 2 ? room - 2 : DOING_MIN;
    cc_escape_line(doing, room + 1 < sizeof(doing) ? room + 1 : sizeof(doing), raw_doing);
    (void)snprintf(joined, sizeof(joined), "%s: %s", doing, err->text);
    cc_escape_line(err->text, sizeof(err->text), joined);
}

int
cc_err_in(struct cc_err *err, const char *fmt, ...)
{
    char raw[RAW_SIZE];
    va_list ap;

    if (err == NULL)
        return -1;
    if (err->domain == CC_DOM_NONE)
        cc_err_set(err, CC_DOM_INTERNAL, 0, "no cause was recorded");
    va_start(ap, fmt);
    if (vsnprintf(raw, sizeof(raw), fmt, ap) < 0)
        raw[0] = '\0';
    va_end(ap);
    put_in_front(err, raw);
    return -1;
}

void
cc_err_clear(struct cc_err *err)
{
    if (err == NULL)
        return;
    err->domain = CC_DOM_NONE;
    err->code = 0;
    err->text[0] = '\0';
}

const char *
cc_err_domain_name(enum cc_err_domain domain)
{
    switch (domain) {
    case CC_DOM_NONE:
        return "none";
    case CC_DOM_SYSTEM:
        return "system";
    case CC_DOM_INTERNAL:
        return "internal";
    case CC_DOM_USAGE:
        return "usage";
    case CC_DOM_CONFIG:
        return "config";
    case CC_DOM_INPUT:
        return "input";
    case CC_DOM_OPENSSL:
        return "openssl";
    case CC_DOM_PKCS11:
        return "pkcs11";
    case CC_DOM_TOKEN:
        return "token";
    case CC_DOM_STORE:
        return "store";
    case CC_DOM_NETWORK:
        return "network";
    case CC_DOM_HTTP:
        return "http";
    case CC_DOM_SERVICE:
        return "service";
    case CC_DOM_CANCELLED:
        return "cancelled";
    }
    return "unknown";
}

const char *
cc_err_text(const struct cc_err *err)
{
    if (err == NULL || err->domain == CC_DOM_NONE)
        return "no error";
    return err->text;
}
