/* SPDX-License-Identifier: MIT */
#include "ca/publish.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>

#include "base/text.h"
#include "ca/publish_int.h"
#include "local_world.h"

/*
 * What the world sees, as programs of others see it: curl, openssl-ocsp(1), ocsptool(1).
 */

#define OUTPUT_MAX 65536

static struct token_dir *token;
static struct hsm *hsm;

struct show {
    struct world w;
    struct ca_publish *publish;
    X509 *good, *revoked, *held, *unknown;
};

/* ---- commands ---- */

/* Runs it, with what it printed, both streams, in *ret_text (static). */
static int CC_PRINTF(2, 3) command(const char **ret_text, const char *fmt, ...)
{
    static char text[OUTPUT_MAX];
    char line[4096];
    size_t len;
    va_list ap;
    FILE *pipe;

    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line) - 6, fmt, ap);
    va_end(ap);
    strcat(line, " 2>&1");
    assert_non_null(pipe = popen(line, "re"));
    len = fread(text, 1, sizeof(text) - 1, pipe);
    text[len] = '\0';
    *ret_text = text;
    return pclose(pipe);
}

static void
write_pem(const struct show *show, const char *name, X509 *certificate)
{
    char path[128];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s.pem", show->w.folder, name);
    assert_non_null(file = fopen(path, "we"));
    assert_int_equal(PEM_write_X509(file, certificate), 1);
    (void)fclose(file);
}

/* ---- the set ---- */

static struct ca_publish *
open_publish(struct show *show, struct ca *ca, size_t cache_max)
{
    const struct ca_publish_settings settings = { .listen = "127.0.0.1:0",
        .cas = &ca,
        .count = 1,
        .folder = show->w.folder,
        .cache_max = cache_max };
    struct ca_publish *publish = NULL;

    MUST(ca_publish_open(&settings, &publish, why));
    return publish;
}

/* Of the CA's name and key, but of no row: it signed it behind the database's back. */
static X509 *
issue_unknown(struct show *show)
{
    struct device d = device_new(NULL);
    struct pki_issuer issuer = { .certificate = world_root(&show->w) };
    X509 *c = NULL;

    MUST(hsm_key_get0_evp(show->w.settings.key, &issuer.key, why));
    MUST(pki_cert_issue(d.plan, (struct cc_bytes){ (const uint8_t *)"\1\2\3\4\5\6\7\10", 8 }, d.key,
            &issuer, &c, why));
    device_free(&d);
    return c;
}

static int
setup(void **state)
{
    struct show *show = calloc(1, sizeof(*show));
    int64_t next;

    world_open(&show->w, hsm);
    world_make_root(&show->w);
    show->good = world_issue(&show->w, "good");
    show->revoked = world_issue(&show->w, "revoked");
    show->held = world_issue(&show->w, "held");
    show->unknown = issue_unknown(show);
    assert_int_equal(world_revoke(&show->w, show->revoked, PKI_REASON_KEY_COMPROMISE, NULL),
            CA_DONE);
    assert_int_equal(world_revoke(&show->w, show->held, PKI_REASON_CERTIFICATE_HOLD, NULL),
            CA_DONE);
    MUST(ca_local_keep_crls(show->w.ca, &next, NULL, why));
    write_pem(show, "ca", world_root(&show->w));
    write_pem(show, "good", show->good);
    write_pem(show, "revoked", show->revoked);
    write_pem(show, "held", show->held);
    write_pem(show, "unknown", show->unknown);
    show->publish = open_publish(show, show->w.ca, 0);
    *state = show;
    return 0;
}

static int
teardown(void **state)
{
    struct show *show = *state;

    ca_publish_close(show->publish);
    X509_free(show->good);
    X509_free(show->revoked);
    X509_free(show->held);
    X509_free(show->unknown);
    world_close(&show->w);
    free(show);
    return 0;
}

static struct ca_publish_stats
stats(const struct show *show)
{
    struct ca_publish_stats now;

    ca_publish_get_stats(show->publish, &now);
    return now;
}

/* ---- files ---- */

/* curl's answer with its header. */
static const char *
fetch(const struct show *show, const char *options, const char *path)
{
    const char *text = NULL;

    if (command(&text, "curl -s -S -i --path-as-is %s 'http://127.0.0.1:%u%s'", options,
                (unsigned)ca_publish_port(show->publish), path) != 0)
        fail_msg("%s: %s", path, text);
    return text;
}

static int
status_of(const char *answer)
{
    int status = 0;

    return sscanf(answer, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

static void
the_files_are_there(void **state)
{
    static const struct {
        const char *file, *type, *command;
    } table[] = {
        { "corp.cer", "application/pkix-cert", "openssl x509 -inform DER -noout -subject -in" },
        { "corp.crl", "application/pkix-crl", "openssl crl -inform DER -noout -issuer -in" },
        { "corp-delta.crl", "application/pkix-crl", "openssl crl -inform DER -noout -issuer -in" },
    };
    struct show *show = *state;
    const char *text = NULL;
    char path[64];

    for (size_t i = 0; i < CC_COUNT(table); i++) {
        (void)snprintf(path, sizeof(path), "/%s", table[i].file);
        text = fetch(show, "-I", path);
        assert_int_equal(status_of(text), 200);
        assert_non_null(strstr(text, table[i].type));
        assert_non_null(strstr(text, "\r\nETag: \""));
        assert_non_null(strstr(text, "\r\nLast-Modified: "));
        assert_non_null(strstr(text, "\r\nExpires: "));
        assert_non_null(strstr(text, "\r\nCache-Control: max-age="));
        assert_int_equal(command(&text, "curl -s -S -f -o %s/got http://127.0.0.1:%u%s",
                                 show->w.folder, (unsigned)ca_publish_port(show->publish), path),
                0);
        if (command(&text, "%s %s/got", table[i].command, show->w.folder) != 0)
            fail_msg("%s: %s", path, text);
        assert_non_null(strstr(text, "Example Root"));
    }
    assert_int_equal(stats(show).files, 2 * CC_COUNT(table));
}

static void
what_is_not_there_is_not_found(void **state)
{
    static const struct {
        const char *options, *path;
        int want;
        const char *want_text;
    } table[] = {
        { "", "/", 404, NULL },
        { "", "/corp", 404, NULL },
        { "", "/corp.pem", 404, NULL },
        { "", "/corp.crl/", 404, NULL },
        { "", "/CORP.crl", 404, NULL },
        { "", "/other.crl", 404, "Cache-Control: no-store" },
        { "", "/../etc/passwd", 400, NULL },
        { "", "/ocsp", 405, "Allow: POST" },
        { "-X DELETE", "/corp.crl", 405, "Allow: GET, HEAD" },
        { "-d x", "/corp.crl", 405, NULL },
        { "-d x", "/ocsp/MEow", 405, NULL },
    };
    struct show *show = *state;

    for (size_t i = 0; i < CC_COUNT(table); i++) {
        const char *text = fetch(show, table[i].options, table[i].path);

        if (status_of(text) != table[i].want ||
                (table[i].want_text != NULL && strstr(text, table[i].want_text) == NULL))
            fail_msg("%s %s: %s", table[i].options, table[i].path, text);
    }
}

/* The value of a field of an answer's header; static. */
static const char *
field(const char *answer, const char *name)
{
    static char value[256];
    const char *at = strstr(answer, name);

    assert_non_null(at);
    at += strlen(name) + 2;
    (void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, "\r\n"), at);
    return value;
}

static void
what_is_known_is_not_sent_again(void **state)
{
    struct show *show = *state;
    struct cadb_crl crl;
    char options[320], tag[256];
    const char *answer;

    (void)snprintf(tag, sizeof(tag), "%s", field(fetch(show, "-I", "/corp.crl"), "ETag"));
    (void)snprintf(options, sizeof(options), "-H 'If-None-Match: \"x\", W/%s'", tag);
    answer = fetch(show, options, "/corp.crl");
    assert_int_equal(status_of(answer), 304);
    assert_string_equal(field(answer, "ETag"), tag);
    assert_int_equal(status_of(fetch(show, "-H 'If-None-Match: \"x\"'", "/corp.crl")), 200);
    assert_int_equal(status_of(fetch(show, "-H 'If-None-Match: *'", "/corp.cer")), 304);

    /* A new one has another tag; it is noticed in a moment. */
    MUST(ca_local_make_crl(show->w.ca, CADB_CRL_FULL, &crl, why));
    for (int64_t end = cc_deadline_in(LONG_MS); cc_deadline_left(end) > 0;)
        if (status_of(answer = fetch(show, options, "/corp.crl")) == 200)
            break;
    assert_int_equal(status_of(answer), 200);
    assert_string_not_equal(field(answer, "ETag"), tag);
}

static void
a_ca_without_crl_has_none(void **state)
{
    struct show *show = *state;
    struct ca_local_settings settings = show->w.settings;
    const struct ca_local_init init = { .subject = "CN=Example Issuing", .intermediate = true };
    struct cc_buf request = CC_BUF_INIT(PKI_CSR_MAX);
    struct ca *waits = NULL;

    settings.name = "waits";
    MUST(ca_local_init(&settings, &init, &request, why));
    MUST(ca_local_open(&settings, &waits, why));
    ca_publish_close(show->publish);
    show->publish = open_publish(show, waits, 0);
    assert_int_equal(status_of(fetch(show, "", "/waits.cer")), 404);
    assert_int_equal(status_of(fetch(show, "", "/waits.crl")), 404);
    assert_int_equal(status_of(fetch(show, "", "/corp.cer")), 404);
    ca_publish_close(show->publish);
    show->publish = NULL;
    ca_close(waits);
    cc_buf_free(&request);
}

/* ---- OCSP ---- */

/* What openssl-ocsp(1) says of one of the certificates; the digest of a CertID has to come first. */
static const char *
ask_by(const struct show *show, const char *digest, const char *options, const char *name)
{
    const char *text = NULL;
    const char *folder = show->w.folder;

    (void)command(&text,
            "openssl ocsp %s -issuer %s/ca.pem -CAfile %s/ca.pem -cert %s/%s.pem"
            " -url http://127.0.0.1:%u/ocsp %s",
            digest, folder, folder, folder, name, (unsigned)ca_publish_port(show->publish),
            options);
    return text;
}

static const char *
ask(const struct show *show, const char *options, const char *name)
{
    return ask_by(show, "-sha1", options, name);
}

static void
openssl_believes_us(void **state)
{
    static const struct {
        const char *name, *want, *want_too;
    } table[] = {
        { "good", "good.pem: good", "Next Update: " },
        { "revoked", "revoked.pem: revoked", "Reason: keyCompromise" },
        { "held", "held.pem: revoked", "Reason: certificateHold" },
        { "unknown", "unknown.pem: unknown", "This Update: " },
    };
    static const char *const options[] = { "-nonce", "-no_nonce" };
    static const char *const digests[] = { "-sha1", "-sha256", "-sha384" };
    struct show *show = *state;

    for (size_t i = 0; i < CC_COUNT(table) * CC_COUNT(digests); i++) {
        size_t at = i / CC_COUNT(digests);
        const char *option = options[i % CC_COUNT(options)];
        const char *text = ask_by(show, digests[i % CC_COUNT(digests)], option, table[at].name);

        if (strstr(text, "Response verify OK") == NULL || strstr(text, table[at].want) == NULL ||
                strstr(text, table[at].want_too) == NULL ||
                (strcmp(option, "-nonce") == 0 && strstr(text, "WARNING: no nonce") != NULL))
            fail_msg("%s %s: %s", option, table[at].name, text);
    }
    assert_int_equal(stats(show).ocsp_answers, CC_COUNT(table) * CC_COUNT(digests));
    assert_int_equal(stats(show).ocsp_failures, 0);
}

static void
gnutls_believes_us(void **state)
{
    static const struct {
        const char *name, *want;
    } table[] = {
        { "good", "Certificate Status: good" },
        { "revoked", "Certificate Status: revoked" },
        { "unknown", "Certificate Status: unknown" },
    };
    static const char *const options[] = { "--nonce", "--no-nonce" };
    struct show *show = *state;
    const char *folder = show->w.folder;
    const char *text = NULL;

    for (size_t i = 0; i < CC_COUNT(table) * CC_COUNT(options); i++) {
        size_t at = i / CC_COUNT(options);

        (void)command(&text,
                "ocsptool --ask=http://127.0.0.1:%u/ocsp %s --load-issuer=%s/ca.pem"
                " --load-cert=%s/%s.pem --load-trust=%s/ca.pem",
                (unsigned)ca_publish_port(show->publish), options[i % CC_COUNT(options)], folder,
                folder, table[at].name, folder);
        if (strstr(text, table[at].want) == NULL || strstr(text, "Success") == NULL)
            fail_msg("%s: %s", table[at].name, text);
    }
}

static void
several_are_answered_at_once(void **state)
{
    struct show *show = *state;
    char more[256];
    const char *text;

    (void)snprintf(more, sizeof(more), "-cert %s/revoked.pem -cert %s/unknown.pem", show->w.folder,
            show->w.folder);
    text = ask(show, more, "good");
    assert_non_null(strstr(text, "Response verify OK"));
    assert_non_null(strstr(text, "good.pem: good"));
    assert_non_null(strstr(text, "revoked.pem: revoked"));
    assert_non_null(strstr(text, "unknown.pem: unknown"));
}

/* Certificates of a CA that is not here. */
static void
the_foreign_is_not_answered(void **state)
{
    struct show *show = *state;
    const char *text = NULL;
    char more[256];

    if (command(&text,
                "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
                " -keyout foreign.key -out foreign.pem -subj /CN=Foreign -days 2",
                show->w.folder) != 0)
        fail_msg("%s", text);
    assert_int_equal(command(&text,
                             "openssl ocsp -issuer %s/foreign.pem -cert %s/foreign.pem -url"
                             " http://127.0.0.1:%u/ocsp",
                             show->w.folder, show->w.folder,
                             (unsigned)ca_publish_port(show->publish)) == 0,
            0);
    assert_non_null(strstr(text, "unauthorized (6)"));
    /* Nor together with one of ours. */
    (void)snprintf(more, sizeof(more), "-issuer %s/foreign.pem -cert %s/foreign.pem",
            show->w.folder, show->w.folder);
    assert_non_null(strstr(ask(show, more, "good"), "unauthorized (6)"));
    assert_int_equal(stats(show).ocsp_failures, 2);
}

/* ---- OCSP over GET ---- */

static void
make_request(const struct show *show, const X509 *certificate, struct cc_buf *ret_base64)
{
    OCSP_REQUEST *request = OCSP_REQUEST_new();
    unsigned char *der = NULL;
    int len;

    assert_non_null(OCSP_request_add0_id(request,
            OCSP_cert_to_id(EVP_sha1(), certificate,
                    world_root((struct world *)(uintptr_t)&show->w))));
    assert_true((len = i2d_OCSP_REQUEST(request, &der)) > 0);
    MUST(cc_base64(der, (size_t)len, ret_base64, why));
    OPENSSL_free(der);
    OCSP_REQUEST_free(request);
}

/* The three bytes that need not, but may be escaped. */
static void
escape(const struct cc_buf *base64, struct cc_buf *ret)
{
    for (size_t i = 0; i < base64->len; i++) {
        char c = (char)base64->data[i];

        if (c == '/' || c == '+' || c == '=')
            MUST(cc_buf_printf(ret, why, c == '+' ? "%%%02x" : "%%%02X", (unsigned)c));
        else
            MUST(cc_buf_add(ret, &c, 1, why));
    }
}

/* The status in an answer that was fetched into a file. */
static int
fetched_status(const struct show *show, const char *path, X509 *certificate)
{
    OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), certificate,
            world_root((struct world *)(uintptr_t)&show->w));
    int status = -1, reason;
    OCSP_RESPONSE *response;
    OCSP_BASICRESP *basic;
    const char *text = NULL;
    char file[128];
    BIO *bio;

    (void)snprintf(file, sizeof(file), "%s/answer", show->w.folder);
    if (command(&text, "curl -s -S -f --path-as-is -o %s 'http://127.0.0.1:%u%s'", file,
                (unsigned)ca_publish_port(show->publish), path) != 0)
        fail_msg("%s: %s", path, text);
    assert_non_null(bio = BIO_new_file(file, "rb"));
    assert_non_null(response = d2i_OCSP_RESPONSE_bio(bio, NULL));
    if (OCSP_response_status(response) == OCSP_RESPONSE_STATUS_SUCCESSFUL) {
        assert_non_null(basic = OCSP_response_get1_basic(response));
        assert_int_equal(OCSP_resp_find_status(basic, id, &status, &reason, NULL, NULL, NULL), 1);
        OCSP_BASICRESP_free(basic);
    } else {
        status = -OCSP_response_status(response);
    }
    OCSP_RESPONSE_free(response);
    OCSP_CERTID_free(id);
    BIO_free(bio);
    return status;
}

static void
get_has_it_in_the_path(void **state)
{
    struct show *show = *state;
    X509 *const certificates[] = { show->good, show->revoked, show->unknown };
    static const int want[] = { V_OCSP_CERTSTATUS_GOOD, V_OCSP_CERTSTATUS_REVOKED,
        V_OCSP_CERTSTATUS_UNKNOWN };

    for (size_t i = 0; i < CC_COUNT(certificates); i++) {
        struct cc_buf base64 = CC_BUF_INIT(4096), escaped = CC_BUF_INIT(4096);
        char path[1024];

        make_request(show, certificates[i], &base64);
        escape(&base64, &escaped);
        (void)snprintf(path, sizeof(path), "/ocsp/%s", cc_buf_str(&base64));
        assert_int_equal(fetched_status(show, path, certificates[i]), want[i]);
        (void)snprintf(path, sizeof(path), "/ocsp/%s", cc_buf_str(&escaped));
        assert_int_equal(fetched_status(show, path, certificates[i]), want[i]);
        (void)snprintf(path, sizeof(path), "/ocsp//%s", cc_buf_str(&escaped));
        assert_int_equal(fetched_status(show, path, certificates[i]), want[i]);
        cc_buf_free(&base64);
        cc_buf_free(&escaped);
    }
    assert_int_equal(stats(show).ocsp_from_cache, 2 * CC_COUNT(certificates));
}

static void
slashes_of_base64_are_none_of_the_path(void **state)
{
    struct show *show = *state;
    static const uint8_t serial[] = { 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff };
    OCSP_REQUEST *request = OCSP_REQUEST_new();
    OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), show->good, world_root(&show->w));
    ASN1_INTEGER *number = NULL;
    struct cc_buf base64 = CC_BUF_INIT(4096);
    unsigned char *der = NULL;
    char path[1024];
    int len;

    /* Bytes of ones are slashes, many in a row. */
    assert_int_equal(OCSP_id_get0_info(NULL, NULL, NULL, &number, id), 1);
    assert_int_equal(ASN1_STRING_set(number, serial, sizeof(serial)), 1);
    OCSP_request_add0_id(request, id);
    assert_true((len = i2d_OCSP_REQUEST(request, &der)) > 0);
    MUST(cc_base64(der, (size_t)len, &base64, why));
    assert_non_null(strstr(cc_buf_str(&base64), "////"));
    (void)snprintf(path, sizeof(path), "/ocsp/%s", cc_buf_str(&base64));
    assert_int_equal(status_of(fetch(show, "", path)), 200);
    assert_int_equal(stats(show).ocsp_answers, 1);
    OPENSSL_free(der);
    OCSP_REQUEST_free(request);
    cc_buf_free(&base64);
}

static void
nonsense_is_malformed(void **state)
{
    static const char *const paths[] = { "/ocsp/x", "/ocsp/%zz", "/ocsp/%00", "/ocsp/MEow",
        "/ocsp/MEow%", "/ocsp/..", "/ocsp/AAAA" };
    struct show *show = *state;

    for (size_t i = 0; i < CC_COUNT(paths); i++)
        if (fetched_status(show, paths[i], show->good) != -OCSP_RESPONSE_STATUS_MALFORMEDREQUEST)
            fail_msg("%s", paths[i]);
    assert_int_equal(status_of(fetch(show, "-d nonsense", "/ocsp")), 200);
    assert_int_equal(stats(show).ocsp_failures, CC_COUNT(paths) + 1);
    assert_int_equal(stats(show).ocsp_answers, 0);
}

/* ---- answers that are kept ---- */

static void
an_answer_serves_again(void **state)
{
    struct show *show = *state;
    struct cc_buf base64 = CC_BUF_INIT(4096);
    char path[1024], options[320], tag[256];
    const char *answer;

    make_request(show, show->good, &base64);
    (void)snprintf(path, sizeof(path), "/ocsp/%s", cc_buf_str(&base64));
    answer = fetch(show, "-I", path);
    assert_string_equal(field(answer, "Content-Type"), "application/ocsp-response");
    assert_non_null(strstr(answer, "\r\nCache-Control: max-age="));
    (void)snprintf(tag, sizeof(tag), "%s", field(answer, "ETag"));
    assert_string_equal(field(fetch(show, "-I", path), "ETag"), tag);
    (void)snprintf(options, sizeof(options), "-H 'If-None-Match: %s'", tag);
    assert_int_equal(status_of(fetch(show, options, path)), 304);
    assert_int_equal(stats(show).ocsp_answers, 3);
    assert_int_equal(stats(show).ocsp_from_cache, 2);

    /* The very same over POST; with a nonce, never. */
    (void)ask(show, "-no_nonce", "good");
    assert_int_equal(stats(show).ocsp_from_cache, 3);
    (void)ask(show, "-nonce", "good");
    (void)ask(show, "-nonce", "good");
    assert_int_equal(stats(show).ocsp_from_cache, 3);
    assert_int_equal(stats(show).ocsp_answers, 6);

    /* Another certificate moves nothing for this one, but for those that are not known. */
    (void)ask(show, "-no_nonce", "unknown");
    X509_free(world_issue(&show->w, "another"));
    cc_clock_set(cc_clock_now_ms(), cc_clock_mono_ms() + PUBLISH_LOOK_MS);
    (void)ask(show, "-no_nonce", "good");
    assert_int_equal(stats(show).ocsp_from_cache, 4);
    (void)ask(show, "-no_nonce", "unknown");
    assert_int_equal(stats(show).ocsp_from_cache, 4);
    cc_clock_real();
    cc_buf_free(&base64);
}

static void
half_its_time_is_enough(void **state)
{
    struct show *show = *state;
    int64_t now = cc_clock_now_ms(), mono = cc_clock_mono_ms();

    cc_clock_set(now, mono);
    (void)ask(show, "-no_nonce", "good");
    cc_clock_set(now + HOUR_MS / 2 - 1, mono);
    (void)ask(show, "-no_nonce", "good");
    assert_int_equal(stats(show).ocsp_from_cache, 1);
    cc_clock_set(now + HOUR_MS / 2, mono);
    (void)ask(show, "-no_nonce", "good");
    assert_int_equal(stats(show).ocsp_from_cache, 1);
    cc_clock_real();
}

static void
a_revocation_is_seen(void **state)
{
    struct show *show = *state;
    int64_t now = cc_clock_now_ms(), mono = cc_clock_mono_ms();

    assert_non_null(strstr(ask(show, "-no_nonce", "good"), "good.pem: good"));
    assert_int_equal(world_revoke(&show->w, show->good, PKI_REASON_SUPERSEDED, NULL), CA_DONE);
    cc_clock_set(now, mono + LONG_MS);
    assert_non_null(strstr(ask(show, "-no_nonce", "good"), "good.pem: revoked"));
    assert_int_equal(ca_release(show->w.ca, serial_of(show->held), cc_deadline_in(LONG_MS), NULL),
            CA_DONE);
    assert_non_null(strstr(ask(show, "-nonce", "held"), "held.pem: good"));
    cc_clock_real();
}

static void
a_full_cache_forgets_the_oldest(void **state)
{
    struct show *show = *state;

    ca_publish_close(show->publish);
    show->publish = open_publish(show, show->w.ca, 2);
    (void)ask(show, "-no_nonce", "good");
    (void)ask(show, "-no_nonce", "revoked");
    (void)ask(show, "-no_nonce", "good");
    (void)ask(show, "-no_nonce", "revoked");
    assert_int_equal(stats(show).ocsp_from_cache, 2);
    (void)ask(show, "-no_nonce", "held");
    (void)ask(show, "-no_nonce", "revoked");
    assert_int_equal(stats(show).ocsp_from_cache, 3);
    (void)ask(show, "-no_nonce", "good");
    assert_int_equal(stats(show).ocsp_from_cache, 3);
    assert_int_equal(stats(show).ocsp_answers, 7);
}

/* Small ids, so that chains are long. */
static void
the_cache_finds_what_it_has(void **state)
{
    enum { MAX = 5, IDS = 40 };
    struct publish_cache *cache = publish_cache_new(MAX, NULL);

    (void)state;
    for (int i = 0; i < IDS; i++) {
        struct publish_answer *answer = calloc(1, sizeof(*answer));

        atomic_init(&answer->owners, 1);
        answer->id[0] = (uint8_t)(i * i);
        answer->id[9] = (uint8_t)i;
        answer->len = (size_t)i;
        publish_cache_add(cache, answer);
        publish_answer_put(answer);
        for (int k = 0; k < IDS; k++) {
            uint8_t id[PUBLISH_ID_LEN] = { (uint8_t)(k * k), [9] = (uint8_t)k };
            struct publish_answer *found = publish_cache_find(cache, id);

            assert_int_equal(found != NULL, k <= i && k > i - MAX);
            assert_true(found == NULL || found->len == (size_t)k);
            publish_answer_put(found);
        }
    }
    publish_cache_free(cache);
    publish_cache_free(NULL);
}

/* ---- without the token ---- */

static void
a_token_that_is_away_is_for_later(void **state)
{
    struct show *show = *state;
    struct hsm_settings away = token_dir_settings(token);
    struct ca_local_settings settings = show->w.settings;
    struct hsm *absent = NULL;
    struct ca *ca = NULL;

    away.uri = "pkcs11:token=absent";
    away.deadline_ms = 300;
    MUST(hsm_open(&away, &absent, why));
    settings.hsm = absent;
    settings.key = world_key(absent, HSM_ROLE_CA, "ca");
    settings.ocsp_key = world_key(absent, HSM_ROLE_OCSP, "ocsp");
    MUST(ca_local_open(&settings, &ca, why));
    ca_publish_close(show->publish);
    show->publish = open_publish(show, ca, 0);
    assert_non_null(strstr(ask(show, "", "good"), "trylater (3)"));
    assert_int_equal(status_of(fetch(show, "-I", "/corp.crl")), 200);
    assert_int_equal(status_of(fetch(show, "-I", "/corp.cer")), 200);
    ca_publish_close(show->publish);
    show->publish = NULL;
    ca_close(ca);
    hsm_close(absent);
}

static void
a_ca_without_ocsp_key_does_not_answer(void **state)
{
    struct show *show = *state;
    struct ca_local_settings settings = show->w.settings;
    struct ca *ca = NULL;

    settings.ocsp_key = NULL;
    MUST(ca_local_open(&settings, &ca, why));
    ca_publish_close(show->publish);
    show->publish = open_publish(show, ca, 0);
    assert_non_null(strstr(ask(show, "", "good"), "unauthorized (6)"));
    ca_publish_close(show->publish);
    show->publish = NULL;
    ca_close(ca);
}

static void
bad_settings(void **state)
{
    struct show *show = *state;
    const struct ca_publish_settings settings = { .listen = "nonsense",
        .cas = &show->w.ca,
        .count = 1,
        .folder = show->w.folder };
    struct ca_publish *publish = NULL;

    assert_int_equal(ca_publish_open(&settings, &publish, NULL), -1);
    assert_null(publish);
    ca_publish_close(NULL);
}

static int
run(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_files_are_there),
        TEST(what_is_not_there_is_not_found),
        TEST(what_is_known_is_not_sent_again),
        TEST(a_ca_without_crl_has_none),
        TEST(openssl_believes_us),
        TEST(gnutls_believes_us),
        TEST(several_are_answered_at_once),
        TEST(the_foreign_is_not_answered),
        TEST(get_has_it_in_the_path),
        TEST(slashes_of_base64_are_none_of_the_path),
        TEST(nonsense_is_malformed),
        TEST(an_answer_serves_again),
        TEST(half_its_time_is_enough),
        TEST(a_revocation_is_seen),
        TEST(a_full_cache_forgets_the_oldest),
        cmocka_unit_test(the_cache_finds_what_it_has),
        TEST(a_token_that_is_away_is_for_later),
        TEST(a_ca_without_ocsp_key_does_not_answer),
        TEST(bad_settings),
    };
    struct hsm_settings settings = token_dir_settings(token);
    struct cc_err err = { 0 };
    int failed;

    if (hsm_open(&settings, &hsm, &err) != 0 || hsm_wait_open(hsm, LONG_MS, &err) != 0) {
        (void)fprintf(stderr, "%s\n", cc_err_text(&err));
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    hsm_close(hsm);
    return failed;
}

int
main(void)
{
    return token_dir_run(world_keys, CC_COUNT(world_keys), &token, run);
}
