/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "hsm/hsm.h"
#include "hsm/wire.h"

/* The client against a token process that has no token and misbehaves on demand: see fake_token.c. */

/* A deadline must be missed by who hangs and by nobody else, however slow the machine is. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define DEADLINE_MS 12000
#else
#define DEADLINE_MS 6000
#endif
#define LONG_MS 60000 /* what happens for certain must not fail on a slow machine */
#define SLACK_MS 10000

/* States as on_state told them. */
struct watch {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum hsm_state states[64];
    size_t count;
    struct cc_err last;
};

struct rig {
    char folder[64];
    struct watch watch;
    struct hsm_settings settings;
    struct hsm *hsm;
};

static void
on_state(void *arg, enum hsm_state state, const struct cc_err *err)
{
    struct watch *watch = arg;

    (void)pthread_mutex_lock(&watch->lock);
    if (watch->count < CC_COUNT(watch->states))
        watch->states[watch->count++] = state;
    cc_err_clear(&watch->last);
    if (err != NULL)
        watch->last = *err;
    (void)pthread_cond_broadcast(&watch->changed);
    (void)pthread_mutex_unlock(&watch->lock);
}

/* Waits until that many states were told, and returns the last of them. */
static enum hsm_state
watch_wait(struct watch *watch, size_t count)
{
    struct timespec until;
    enum hsm_state state;
    int rc = 0;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LONG_MS / 1000;
    (void)pthread_mutex_lock(&watch->lock);
    while (watch->count < count && rc == 0)
        rc = pthread_cond_timedwait(&watch->changed, &watch->lock, &until);
    assert_true(watch->count >= count);
    state = watch->states[count - 1];
    (void)pthread_mutex_unlock(&watch->lock);
    return state;
}

static char *
rig_path(const struct rig *rig, const char *name)
{
    static char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", rig->folder, name);
    return path;
}

static void
rig_write(const struct rig *rig, const char *name, const char *text)
{
    struct cc_err err = { 0 };

    if (cc_file_replace(rig_path(rig, name), text, strlen(text), 0600, &err) != 0)
        fail_msg("%s", err.text);
}

static void
rig_script(const struct rig *rig, const char *script)
{
    if (script == NULL)
        (void)unlink(rig_path(rig, "script"));
    else
        rig_write(rig, "script", script);
}

static size_t
rig_starts(const struct rig *rig)
{
    struct stat st;

    return stat(rig_path(rig, "starts"), &st) == 0 ? (size_t)st.st_size : 0;
}

static void
rig_key(const struct rig *rig, const char *name, EVP_PKEY *pkey)
{
    FILE *f = fopen(rig_path(rig, name), "we");

    assert_non_null(f);
    assert_non_null(pkey);
    assert_int_equal(PEM_write_PrivateKey(f, pkey, NULL, NULL, 0, NULL, NULL), 1);
    (void)fclose(f);
    EVP_PKEY_free(pkey);
}

static int
rig_setup(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));

    assert_non_null(rig);
    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/cc-hsm-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    (void)pthread_mutex_init(&rig->watch.lock, NULL);
    (void)pthread_cond_init(&rig->watch.changed, NULL);
    rig_key(rig, "rsa.pem", EVP_RSA_gen(2048));
    rig_key(rig, "ec.pem", EVP_EC_gen("P-256"));
    rig->settings = (struct hsm_settings){
        .helper = TEST_FAKE_TOKEN,
        .module = "fake",
        .uri = "pkcs11:token=fake",
        .pin = "file:/none",
        .sessions = 4,
        .deadline_ms = DEADLINE_MS,
        .state_dir = rig->folder,
        .on_state = on_state,
        .on_state_arg = &rig->watch,
    };
    *state = rig;
    return 0;
}

static int
rig_teardown(void **state)
{
    struct rig *rig = *state;
    char command[128];

    hsm_close(rig->hsm);
    (void)snprintf(command, sizeof(command), "rm -rf %s", rig->folder);
    assert_int_equal(system(command), 0);
    (void)pthread_mutex_destroy(&rig->watch.lock);
    (void)pthread_cond_destroy(&rig->watch.changed);
    free(rig);
    return 0;
}

static void
rig_open(struct rig *rig)
{
    struct cc_err err = { 0 };

    if (hsm_open(&rig->settings, &rig->hsm, &err) != 0 ||
            hsm_wait_open(rig->hsm, LONG_MS, &err) != 0)
        fail_msg("%s", err.text);
}

static struct hsm_key *
rig_get(struct rig *rig, enum hsm_role role, const char *uri)
{
    struct hsm_key *key = NULL;
    struct cc_err err = { 0 };

    if (hsm_key_get0(rig->hsm, role, uri, &key, &err) != 0)
        fail_msg("%s", err.text);
    return key;
}

static uint64_t
rig_restarts(struct rig *rig)
{
    struct hsm_status status;

    hsm_get_status(rig->hsm, &status);
    return status.restarts;
}

static void
assert_fault(const struct cc_err *err, enum hsm_fault fault)
{
    if (err->domain != CC_DOM_TOKEN || err->code != fault)
        fail_msg("fault %d wanted, but %s %ld: %s", fault, cc_err_domain_name(err->domain),
                err->code, err->text);
}

/* A signature through OpenSSL, verified by the software key. */
static int
sign_once(struct hsm_key *key, struct cc_err *err)
{
    EVP_PKEY *pkey = NULL, *public_key = NULL;
    EVP_MD_CTX *ctx = NULL;
    uint8_t sig[1024];
    size_t len = sizeof(sig);
    int rc = -1;

    if (hsm_key_get0_evp(key, &pkey, err) != 0 || hsm_key_get1_public(key, &public_key, err) != 0)
        return -1;
    ctx = EVP_MD_CTX_new();
    assert_non_null(ctx);
    if (EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, pkey) <= 0 ||
            EVP_DigestSign(ctx, sig, &len, (const uint8_t *)"abc", 3) <= 0) {
        cc_err_set_openssl(err, "sign");
        hsm_err_resolve(err);
        goto out;
    }
    (void)EVP_MD_CTX_reset(ctx);
    assert_true(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, public_key) > 0);
    rc = EVP_DigestVerify(ctx, sig, len, (const uint8_t *)"abc", 3) == 1
                 ? 0
                 : cc_err_set(err, CC_DOM_INTERNAL, 0, "a signature that does not verify");
out:
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(public_key);
    return rc;
}

static void
assert_signs(struct hsm_key *key)
{
    struct cc_err err = { 0 };

    if (sign_once(key, &err) != 0)
        fail_msg("%s", err.text);
}

/* ---- opening ---- */

static void
test_open(void **state)
{
    struct rig *rig = *state;
    struct hsm_status status;
    struct hsm_key *rsa, *ec;

    rig_open(rig);
    assert_int_equal(watch_wait(&rig->watch, 1), HSM_STATE_OPEN);
    rsa = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa");
    ec = rig_get(rig, HSM_ROLE_OCSP, "pkcs11:object=ec");
    assert_signs(rsa);
    assert_signs(ec);
    assert_ptr_equal(rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa"), rsa);
    assert_ptr_not_equal(rig_get(rig, HSM_ROLE_IDENTITY, "pkcs11:object=rsa"), rsa);
    assert_int_equal(hsm_key_role(ec), HSM_ROLE_OCSP);
    assert_string_equal(hsm_key_uri(ec), "pkcs11:object=ec");

    hsm_get_status(rig->hsm, &status);
    assert_int_equal(status.state, HSM_STATE_OPEN);
    assert_string_equal(status.label, "fake label");
    assert_string_equal(status.profile, "generic");
    assert_int_equal(status.sessions, 4);
    assert_int_equal(status.operations, 4);
    assert_int_equal(status.failures, 0);
    assert_int_equal(status.restarts, 0);
    assert_true(status.pid > 0);
    assert_int_equal(kill((pid_t)status.pid, 0), 0);
}

static void
test_open_refused(void **state)
{
    static const struct {
        const char *label, *helper, *module, *uri, *pin, *script;
        unsigned sessions;
        enum cc_err_domain want_domain;
        const char *want_text;
    } table[] = {
        { "no helper", "/none/helper", "fake", "pkcs11:token=a", "file:/a", NULL, 0, CC_DOM_SYSTEM,
                "/none/helper" },
        { "helper not a program", "/etc/passwd", "fake", "pkcs11:token=a", "file:/a", NULL, 0,
                CC_DOM_SYSTEM, "/etc/passwd" },
        { "no module", TEST_FAKE_TOKEN, "/none/module.so", "pkcs11:token=a", "file:/a", NULL, 0,
                CC_DOM_SYSTEM, "/none/module.so" },
        { "module missing", TEST_FAKE_TOKEN, NULL, "pkcs11:token=a", "file:/a", NULL, 0,
                CC_DOM_CONFIG, "module" },
        { "not a URI", TEST_FAKE_TOKEN, "fake", "token=a", "file:/a", NULL, 0, CC_DOM_CONFIG,
                "RFC 7512" },
        { "unknown attribute", TEST_FAKE_TOKEN, "fake", "pkcs11:tokne=a", "file:/a", NULL, 0,
                CC_DOM_CONFIG, "RFC 7512" },
        { "too many sessions", TEST_FAKE_TOKEN, "fake", "pkcs11:token=a", "file:/a", NULL, 64,
                CC_DOM_CONFIG, "64 sessions" },
        { "refused by the process", TEST_FAKE_TOKEN, "fake", "pkcs11:token=a", "file:/a",
                "setup refuse", 0, CC_DOM_TOKEN, "refused as scripted" },
    };
    struct rig *rig = *state;

    for (size_t i = 0; i < CC_COUNT(table); i++) {
        struct hsm_settings settings = rig->settings;
        struct cc_err err = { 0 };
        struct hsm *hsm = NULL;

        settings.helper = table[i].helper;
        settings.module = table[i].module;
        settings.uri = table[i].uri;
        settings.pin = table[i].pin;
        settings.sessions = table[i].sessions;
        rig_script(rig, table[i].script);
        if (hsm_open(&settings, &hsm, &err) == 0)
            fail_msg("%s: opened", table[i].label);
        assert_null(hsm);
        if (err.domain != table[i].want_domain || strstr(err.text, table[i].want_text) == NULL)
            fail_msg("%s: %s: %s", table[i].label, cc_err_domain_name(err.domain), err.text);
    }
}

/* What does not fit into its field would be a malformed frame, at which a token process ends, for ever and ever. */
static void
test_texts_too_long(void **state)
{
    struct rig *rig = *state;
    char text[5000];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (size_t i = 0; i < 6; i++) {
        struct hsm_settings settings = rig->settings;
        const char **fields[] = { &settings.module, &settings.init_args, &settings.uri,
            &settings.pin, &settings.profile, &settings.state_dir };
        struct cc_err err = { 0 };
        struct hsm *hsm = NULL;

        *fields[i] = text;
        assert_int_equal(hsm_open(&settings, &hsm, &err), -1);
        assert_int_equal(err.domain, CC_DOM_CONFIG);
        assert_non_null(strstr(err.text, "longer than"));
    }
    assert_int_equal(rig_starts(rig), 0);
}

/* Whoever puts a PIN into a URI is told so without its being repeated, well-formed or not. */
static void
test_pin_in_uri(void **state)
{
    static const char *const uris[] = { "pkcs11:object=rsa?pin-value=canary",
        "pkcs11:object=r sa?pin-value=canary" };
    struct rig *rig = *state;

    rig_open(rig);
    for (size_t i = 0; i < CC_COUNT(uris); i++) {
        struct hsm_settings settings = rig->settings;
        struct hsm_key *key = NULL;
        struct cc_err err = { 0 };
        struct hsm *hsm = NULL;

        assert_int_equal(hsm_key_get0(rig->hsm, HSM_ROLE_CA, uris[i], &key, &err), -1);
        assert_non_null(strstr(err.text, "pin-value"));
        assert_null(strstr(err.text, "canary"));
        cc_err_clear(&err);
        settings.uri = uris[i];
        assert_int_equal(hsm_open(&settings, &hsm, &err), -1);
        assert_null(strstr(err.text, "canary"));
    }
}

/* A helper that only ends is tried again and again, more and more slowly, and closing does not wait for it. */
static void
test_open_helper_ends(void **state)
{
    struct rig *rig = *state;
    struct cc_err err = { 0 };
    int64_t begun;

    rig->settings.helper = "/bin/false";
    assert_int_equal(hsm_open(&rig->settings, &rig->hsm, &err), 0);
    assert_int_equal(watch_wait(&rig->watch, 1), HSM_STATE_LOST);
    assert_int_equal(hsm_wait_open(rig->hsm, 50, &err), -1);
    assert_fault(&err, HSM_FAULT_UNAVAILABLE);
    assert_non_null(strstr(err.text, "ended with status 1"));
    begun = cc_clock_mono_ms();
    hsm_close(rig->hsm);
    rig->hsm = NULL;
    assert_true(cc_clock_mono_ms() - begun < SLACK_MS);
}

/* Who closes while the first process is slow to start does not wait for it. */
static void
test_close_while_starting(void **state)
{
    struct rig *rig = *state;
    struct cc_err err = { 0 };
    int64_t begun;

    rig->settings.deadline_ms = 500;
    rig_script(rig, "setup hang");
    assert_int_equal(hsm_open(&rig->settings, &rig->hsm, &err), 0);
    begun = cc_clock_mono_ms();
    hsm_close(rig->hsm);
    rig->hsm = NULL;
    assert_true(cc_clock_mono_ms() - begun < SLACK_MS);
}

static void
test_states(void **state)
{
    struct rig *rig = *state;
    struct cc_err err = { 0 };

    rig_script(rig, "state pin");
    assert_int_equal(hsm_open(&rig->settings, &rig->hsm, &err), 0);
    assert_int_equal(hsm_wait_open(rig->hsm, LONG_MS, &err), -1);
    assert_fault(&err, HSM_FAULT_PIN_REFUSED);
    assert_non_null(strstr(err.text, "C_Login: as scripted"));
    assert_int_equal(watch_wait(&rig->watch, 1), HSM_STATE_PIN_REFUSED);
    assert_fault(&rig->watch.last, HSM_FAULT_PIN_REFUSED);

    rig_script(rig, "state lost");
    assert_int_equal(watch_wait(&rig->watch, 2), HSM_STATE_LOST);
    cc_err_clear(&err);
    assert_int_equal(hsm_wait_open(rig->hsm, 10, &err), -1);
    assert_fault(&err, HSM_FAULT_UNAVAILABLE);

    rig_script(rig, NULL);
    assert_int_equal(watch_wait(&rig->watch, 3), HSM_STATE_OPEN);
    cc_err_clear(&err);
    assert_int_equal(hsm_wait_open(rig->hsm, 10, &err), 0);

    hsm_close(rig->hsm);
    rig->hsm = NULL;
    assert_int_equal(watch_wait(&rig->watch, 4), HSM_STATE_CLOSED);
    assert_int_equal(rig_starts(rig), 1);
}

/* However long the reason, it is told and no more. */
static void
test_state_wordy(void **state)
{
    struct rig *rig = *state;
    struct hsm_status status;
    struct cc_err err = { 0 };

    rig_script(rig, "state wordy");
    assert_int_equal(hsm_open(&rig->settings, &rig->hsm, &err), 0);
    assert_int_equal(watch_wait(&rig->watch, 1), HSM_STATE_LOST);
    rig_script(rig, NULL);
    assert_int_equal(watch_wait(&rig->watch, 2), HSM_STATE_OPEN);
    hsm_get_status(rig->hsm, &status);
    assert_int_equal(strspn(status.last_error, "w"), sizeof(status.last_error) - 1);
    assert_int_equal(rig_starts(rig), 1);
}

/* ---- supervision ---- */

/* A module that does not come back from opening the token: every operation is answered, but none will ever work. */
static void
test_stuck_while_opening(void **state)
{
    struct rig *rig = *state;
    struct hsm_key *key;

    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa");
    assert_signs(key);
    rig_script(rig, "once state stuck");
    assert_int_equal(watch_wait(&rig->watch, 2), HSM_STATE_LOST);
    assert_non_null(strstr(rig->watch.last.text, "has not come back"));
    assert_signs(key);
    assert_int_equal(rig_starts(rig), 2);
}

/* Each makes the process useless under an operation; the operation succeeds all the same, on the next one. */
static void
test_lost_once(void **state)
{
    static const char *const actions[] = { "die", "hang", "empty", "huge", "status", "domain",
        "short", "nofields", "field", "trailing" };
    struct rig *rig = *state;
    struct hsm_key *key;

    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa");
    assert_signs(key);
    for (size_t i = 0; i < CC_COUNT(actions); i++) {
        char script[64];

        (void)snprintf(script, sizeof(script), "once sign %s", actions[i]);
        rig_script(rig, script);
        assert_signs(key);
        if (rig_starts(rig) != i + 2)
            fail_msg("%s: %zu starts", actions[i], rig_starts(rig));
        assert_int_equal(rig_restarts(rig), i + 1);
    }
    assert_int_equal(hsm_key_outages(key), 0);
}

/* What happens every time is an error in the end, within the deadline; and afterwards all is well again. */
static void
test_lost_always(void **state)
{
    static const char *const actions[] = { "die", "hang", "trailing", "domain" };
    struct rig *rig = *state;
    struct hsm_key *key;

    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=ec");
    assert_signs(key);
    for (size_t i = 0; i < CC_COUNT(actions); i++) {
        struct cc_err err = { 0 };
        const size_t before = rig_starts(rig);
        const int64_t begun = cc_clock_mono_ms();
        char script[64];

        (void)snprintf(script, sizeof(script), "sign %s", actions[i]);
        rig_script(rig, script);
        assert_int_equal(sign_once(key, &err), -1);
        assert_fault(&err, HSM_FAULT_UNAVAILABLE);
        assert_int_equal(hsm_key_outages(key), i + 1);
        assert_true(cc_clock_mono_ms() - begun < DEADLINE_MS + SLACK_MS);
        rig_script(rig, NULL);
        assert_signs(key);
        /* three tries at the most */
        assert_in_range(rig_starts(rig) - before, 1, 3);
    }
}

static void
test_killed_while_idle(void **state)
{
    struct rig *rig = *state;
    struct hsm_status status;
    struct hsm_key *key;

    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa");
    assert_signs(key);
    hsm_get_status(rig->hsm, &status);
    assert_int_equal(kill((pid_t)status.pid, SIGKILL), 0);
    assert_int_equal(watch_wait(&rig->watch, 2), HSM_STATE_LOST);
    assert_int_equal(watch_wait(&rig->watch, 3), HSM_STATE_OPEN);
    assert_signs(key);
    hsm_get_status(rig->hsm, &status);
    assert_non_null(strstr(status.last_error, "signal 9"));
    assert_int_equal(status.restarts, 1);
}

/* Stopping is not done when kill() returns: another thread of the process may run on for a moment. */
static void
stop_process(pid_t pid)
{
    int64_t deadline = cc_deadline_in(LONG_MS);
    char path[64], line[512], process = '?';

    assert_int_equal(kill(pid, SIGSTOP), 0);
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    while (process != 'T' && cc_deadline_left(deadline) > 0) {
        FILE *file = fopen(path, "re");

        assert_non_null(file);
        assert_non_null(fgets(line, sizeof(line), file));
        (void)fclose(file);
        process = strrchr(line, ')')[2];
    }
    assert_int_equal(process, 'T');
}

static void
test_stopped(void **state)
{
    struct rig *rig = *state;
    struct hsm_status status;
    struct hsm_key *key;
    pid_t old;

    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa");
    assert_signs(key);
    hsm_get_status(rig->hsm, &status);
    old = (pid_t)status.pid;
    stop_process(old);
    assert_signs(key);
    assert_int_equal(kill(old, 0), -1);
    assert_int_equal(errno, ESRCH);
}

/* The new process is told which key it was before. */
static void
test_key_replaced(void **state)
{
    struct rig *rig = *state;
    struct cc_err err = { 0 };
    struct hsm_status status;
    struct hsm_key *key;

    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa");
    assert_signs(key);
    hsm_get_status(rig->hsm, &status);
    rig_key(rig, "rsa.pem", EVP_RSA_gen(2048));
    assert_int_equal(kill((pid_t)status.pid, SIGKILL), 0);
    assert_int_equal(sign_once(key, &err), -1);
    assert_fault(&err, HSM_FAULT_KEY_REPLACED);
    assert_int_equal(hsm_key_outages(key), 1);
}

struct told {
    unsigned count;
    struct cc_err last;
    const struct hsm_key *key;
};

/* Called from the one thread that these tests have. */
static void
on_key(void *arg, const struct hsm_key *key, const struct cc_err *err)
{
    struct told *told = arg;

    told->count++;
    told->last = *err;
    told->key = key;
}

static void
assert_told(const struct told *told, unsigned want_count, const struct hsm_key *key,
        enum hsm_fault want)
{
    assert_int_equal(told->count, want_count);
    assert_ptr_equal(told->key, key);
    assert_fault(&told->last, want);
}

/* Whoever must do something about a key hears of it once, and again when it had worked meanwhile. */
static void
test_key_faults_are_told_once(void **state)
{
    struct rig *rig = *state;
    EVP_PKEY *old_key = EVP_RSA_gen(2048);
    struct cc_err err = { 0 };
    struct told told = { 0 };
    struct hsm_key *key;

    assert_int_equal(EVP_PKEY_up_ref(old_key), 1);
    rig_key(rig, "rsa.pem", old_key);
    rig->settings.on_key = on_key;
    rig->settings.on_key_arg = &told;
    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa");
    assert_signs(key);
    rig_script(rig, "once sign away");
    assert_int_equal(sign_once(key, &err), -1);
    assert_int_equal(told.count, 0);

    rig_key(rig, "rsa.pem", EVP_RSA_gen(2048));
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(sign_once(key, &err), -1);
    assert_told(&told, 1, key, HSM_FAULT_KEY_REPLACED);
    assert_int_equal(unlink(rig_path(rig, "rsa.pem")), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(sign_once(key, &err), -1);
    assert_told(&told, 2, key, HSM_FAULT_KEY_NOT_FOUND);

    rig_key(rig, "rsa.pem", old_key);
    assert_signs(key);
    assert_int_equal(unlink(rig_path(rig, "rsa.pem")), 0);
    assert_int_equal(sign_once(key, &err), -1);
    assert_told(&told, 3, key, HSM_FAULT_KEY_NOT_FOUND);
}

/* ---- keys ---- */

static void
test_key_refused(void **state)
{
    struct rig *rig = *state;
    struct cc_err err = { 0 };
    struct hsm_key *key = NULL;

    rig_open(rig);
    assert_int_equal(hsm_key_get0(rig->hsm, HSM_ROLE_CA, "object=rsa", &key, &err), -1);
    assert_int_equal(err.domain, CC_DOM_CONFIG);
    assert_null(key);

    rig_script(rig, "once addkey refuse");
    cc_err_clear(&err);
    key = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa");
    assert_int_equal(sign_once(key, &err), -1);
    assert_fault(&err, HSM_FAULT_INPUT);
    assert_signs(rig_get(rig, HSM_ROLE_CA, "pkcs11:object=ec"));

    cc_err_clear(&err);
    assert_int_equal(sign_once(rig_get(rig, HSM_ROLE_CA, "pkcs11:object=none"), &err), -1);
    assert_fault(&err, HSM_FAULT_KEY_NOT_FOUND);
}

static void
test_roles(void **state)
{
    struct rig *rig = *state;
    struct hsm_key *seal, *sign, *import;
    struct cc_buf out = CC_BUF_INIT(1024);
    struct cc_secret *secret = NULL;
    struct hsm_reencrypt request = { 0 };
    struct cc_err err = { 0 };
    EVP_PKEY *pkey = NULL;
    bool on_token = false;

    rig_open(rig);
    seal = rig_get(rig, HSM_ROLE_SEAL, "pkcs11:object=seal");
    sign = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa");
    import = rig_get(rig, HSM_ROLE_PFX_IMPORT, "pkcs11:object=rsa");

    assert_int_equal(hsm_key_get0_evp(seal, &pkey, &err), -1);
    assert_fault(&err, HSM_FAULT_ROLE);
    cc_err_clear(&err);
    assert_int_equal(hsm_seal(sign, cc_bytes_of_str("a"), cc_bytes_of_str("b"), &out, &err), -1);
    assert_fault(&err, HSM_FAULT_ROLE);
    cc_err_clear(&err);
    assert_int_equal(hsm_unseal(sign, cc_bytes_of_str("a"), cc_bytes_of_str("b"), &secret, &err),
            -1);
    assert_fault(&err, HSM_FAULT_ROLE);
    cc_err_clear(&err);
    assert_int_equal(hsm_key_reencrypt(sign, &request, &out, &on_token, &err), -1);
    assert_fault(&err, HSM_FAULT_ROLE);
    cc_err_clear(&err);
    assert_int_equal(sign_once(import, &err), -1);
    assert_fault(&err, HSM_FAULT_ROLE);
    assert_int_equal(out.len, 0);
    assert_null(secret);
    cc_buf_free(&out);

    for (int role = 0; role < HSM_ROLE_COUNT; role++)
        assert_int_equal(hsm_role_parse(hsm_role_name((enum hsm_role)role)), role);
    assert_int_equal(hsm_role_parse("CA"), -1);
}

static void
test_seal(void **state)
{
    struct rig *rig = *state;
    struct cc_buf sealed = CC_BUF_INIT((128 * 1024));
    struct cc_secret *plain = NULL;
    struct cc_err err = { 0 };
    struct hsm_key *key;
    static uint8_t big[65521];

    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_SEAL, "pkcs11:object=seal");
    assert_int_equal(
            hsm_seal(key, cc_bytes_of_str("4711"), cc_bytes_of_str("secret"), &sealed, &err), 0);
    assert_int_equal(hsm_unseal(key, cc_bytes_of_str("4711"), cc_buf_bytes(&sealed), &plain, &err),
            0);
    assert_int_equal(cc_secret_len(plain), 6);
    assert_memory_equal(cc_secret_data(plain), "secret", 6);
    cc_secret_free(plain);
    plain = NULL;
    assert_int_equal(hsm_unseal(key, cc_bytes_of_str("4712"), cc_buf_bytes(&sealed), &plain, &err),
            -1);
    assert_fault(&err, HSM_FAULT_DECRYPT);
    assert_null(plain);

    cc_err_clear(&err);
    cc_buf_reset(&sealed);
    assert_int_equal(hsm_seal(key, cc_bytes_of_str("1"), (struct cc_bytes){ big, sizeof(big) - 1 },
                             &sealed, &err),
            0);
    assert_int_equal(hsm_unseal(key, cc_bytes_of_str("1"), cc_buf_bytes(&sealed), &plain, &err), 0);
    assert_int_equal(cc_secret_len(plain), sizeof(big) - 1);
    cc_secret_free(plain);
    assert_int_equal(hsm_seal(key, cc_bytes_of_str("1"), (struct cc_bytes){ big, sizeof(big) },
                             &sealed, &err),
            -1);
    assert_fault(&err, HSM_FAULT_INPUT);
    cc_buf_free(&sealed);
}

static void
test_random(void **state)
{
    static const struct {
        size_t len;
        int want;
    } table[] = { { 0, -1 }, { 1, 0 }, { 16, 0 }, { 4096, 0 }, { 4097, -1 } };
    struct rig *rig = *state;
    uint8_t a[4097], b[4097];

    rig_open(rig);
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        struct cc_err err = { 0 };

        assert_int_equal(hsm_random(rig->hsm, a, table[i].len, &err), table[i].want);
        if (table[i].want != 0)
            assert_fault(&err, HSM_FAULT_INPUT);
    }
    assert_int_equal(hsm_random(rig->hsm, a, 16, NULL), 0);
    assert_int_equal(hsm_random(rig->hsm, b, 16, NULL), 0);
    assert_memory_not_equal(a, b, 16);
}

static void
test_reencrypt(void **state)
{
    static const char want[] = "\0\0" /* number */ "\1\0\4" /* mode, enveloped, padding */
                               "\0\0\0\3ABC\0\0\0\2DE\3\1\0\0\0\1F\0\0\0\2ab";
    struct rig *rig = *state;
    struct hsm_reencrypt request = { .mode = HSM_REENCRYPT_TOKEN,
        .padding = PKI_PADDING_OAEP_SHA512,
        .ciphertext = cc_bytes_of_str("ABC"),
        .recipient = cc_bytes_of_str("DE"),
        .form = PKI_PASSWORD_PKCS1,
        .cipher = PKI_CIPHER_DES_EDE3,
        .pfx = cc_bytes_of_str("F"),
        .thumbprint = "ab" };
    struct cc_buf out = CC_BUF_INIT(1024);
    struct cc_err err = { 0 };
    bool on_token = false;
    struct hsm_key *key;

    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_PFX_IMPORT, "pkcs11:object=rsa");
    assert_int_equal(cc_buf_add_str(&out, "+", &err), 0);
    if (hsm_key_reencrypt(key, &request, &out, &on_token, &err) != 0)
        fail_msg("%s", err.text);
    assert_true(on_token);
    assert_int_equal(out.len, sizeof(want));
    assert_memory_equal(out.data + 1, want, sizeof(want) - 1);

    rig_script(rig, "reencrypt refuse");
    on_token = false;
    assert_int_equal(hsm_key_reencrypt(key, &request, &out, &on_token, &err), -1);
    assert_fault(&err, HSM_FAULT_INPUT);
    assert_false(on_token);
    assert_int_equal(out.len, sizeof(want));
    cc_buf_free(&out);
}

/* ---- keys of devices ---- */

static int
make_device_key(struct hsm_key *seal, struct cc_buf *first, struct cc_buf *second,
        struct cc_err *err)
{
    cc_buf_reset(first);
    cc_buf_reset(second);
    return hsm_device_key_new(seal, PKI_EC_P384, HSM_GENERATE_TOKEN, cc_bytes_of_str("AB"), first,
            second, err);
}

static void
assert_is(const struct cc_buf *buf, const char *want, size_t len)
{
    assert_int_equal(buf->len, len);
    assert_memory_equal(buf->data, want, len);
}

/* Nothing is mixed up on the way: the fake gives back what it was given. */
static void
test_device_key(void **state)
{
    static const char want_new[] = "\0\0" /* number */ "\4\1\0\0\0\2AB";
    static const char want_csr[] = "\0\0\0\0\0\2AB\0\0\0\3CDE\0\0\0\1F\0\0\0\0";
    static const char want_pfx[] = "\0\0\0\0\0\2AB\0\0\0\3CDE\0\0\0\1G\0\0\0\2HI\0\0\0\1n"
                                   "\1\0\0\0\1R\3\1";
    const struct hsm_device_pfx parts = { .context = cc_bytes_of_str("AB"),
        .sealed = cc_bytes_of_str("CDE"),
        .certificate = cc_bytes_of_str("G"),
        .chain = cc_bytes_of_str("HI"),
        .friendly_name = "n",
        .encryption = PKI_PFX_COMPAT,
        .recipient = cc_bytes_of_str("R"),
        .form = PKI_PASSWORD_PKCS1,
        .cipher = PKI_CIPHER_DES_EDE3 };
    struct cc_buf first = CC_BUF_INIT(1024), second = CC_BUF_INIT(1024);
    struct rig *rig = *state;
    struct cc_err err = { 0 };
    struct hsm_key *seal;

    rig_open(rig);
    seal = rig_get(rig, HSM_ROLE_SEAL, "pkcs11:object=seal");
    assert_int_equal(make_device_key(seal, &first, &second, &err), 0);
    assert_is(&first, want_new, sizeof(want_new) - 1);
    assert_is(&second, "spki", 4);
    /* appended */
    assert_int_equal(hsm_device_key_csr(seal, parts.context, parts.sealed, cc_bytes_of_str("F"),
                             (struct cc_bytes){ NULL, 0 }, &second, &err),
            0);
    assert_int_equal(second.len, 4 + sizeof(want_csr) - 1);
    assert_memory_equal(second.data + 4, want_csr, sizeof(want_csr) - 1);
    cc_buf_reset(&first);
    cc_buf_reset(&second);
    assert_int_equal(hsm_device_key_pfx(seal, &parts, &first, &second, &err), 0);
    assert_is(&first, want_pfx, sizeof(want_pfx) - 1);
    assert_is(&second, "password", 8);

    rig_script(rig, "devicepfx refuse");
    assert_int_equal(hsm_device_key_pfx(seal, &parts, &first, &second, &err), -1);
    assert_fault(&err, HSM_FAULT_INPUT);
    assert_is(&second, "password", 8);
    cc_buf_free(&first);
    cc_buf_free(&second);
}

/* A pair that a process died over is made by the next one. */
static void
test_device_key_lost_once(void **state)
{
    static const char *const actions[] = { "die", "empty", "nofields", "field", "trailing" };
    struct cc_buf first = CC_BUF_INIT(1024), second = CC_BUF_INIT(1024);
    struct rig *rig = *state;
    struct hsm_key *seal;

    rig_open(rig);
    seal = rig_get(rig, HSM_ROLE_SEAL, "pkcs11:object=seal");
    for (size_t i = 0; i < CC_COUNT(actions); i++) {
        struct cc_err err = { 0 };
        char script[64];

        (void)snprintf(script, sizeof(script), "once devicenew %s", actions[i]);
        rig_script(rig, script);
        if (make_device_key(seal, &first, &second, &err) != 0)
            fail_msg("%s: %s", actions[i], err.text);
        assert_is(&second, "spki", 4);
        assert_int_equal(rig_starts(rig), i + 2);
    }
    cc_buf_free(&first);
    cc_buf_free(&second);
}

/* The search for primes has the whole deadline, and one process at the most is ended for it. */
static void
test_device_key_takes_long(void **state)
{
    struct cc_buf first = CC_BUF_INIT(1024), second = CC_BUF_INIT(1024);
    struct rig *rig = *state;
    struct cc_err err = { 0 };
    struct hsm_key *seal;
    int64_t begun;

    rig_open(rig);
    seal = rig_get(rig, HSM_ROLE_SEAL, "pkcs11:object=seal");
    assert_int_equal(make_device_key(seal, &first, &second, &err), 0);
    rig_script(rig, "devicenew hang");
    begun = cc_clock_mono_ms();
    assert_int_equal(make_device_key(seal, &first, &second, &err), -1);
    assert_fault(&err, HSM_FAULT_UNAVAILABLE);
    /* the clock of the deadline may be a tick behind */
    assert_in_range(cc_clock_mono_ms() - begun, DEADLINE_MS - 10, DEADLINE_MS + SLACK_MS);
    rig_script(rig, NULL);
    assert_int_equal(make_device_key(seal, &first, &second, &err), 0);
    assert_int_equal(rig_starts(rig), 2);
    cc_buf_free(&first);
    cc_buf_free(&second);
}

/* Peers' and configuration's texts do not end the process under the others. */
static void
test_long_texts_of_keys(void **state)
{
    struct rig *rig = *state;
    struct hsm_reencrypt request = { .mode = HSM_REENCRYPT_HOST };
    struct cc_buf out = CC_BUF_INIT(1024);
    struct cc_err err = { 0 };
    struct hsm_key *key = NULL;
    bool on_token = false;
    char uri[1200], thumbprint[129];

    rig_open(rig);
    (void)snprintf(uri, sizeof(uri), "pkcs11:object=%01100d", 0);
    assert_int_equal(hsm_key_get0(rig->hsm, HSM_ROLE_CA, uri, &key, &err), -1);
    assert_int_equal(err.domain, CC_DOM_CONFIG);

    cc_err_clear(&err);
    (void)snprintf(thumbprint, sizeof(thumbprint), "%0128d", 0);
    request.thumbprint = thumbprint;
    key = rig_get(rig, HSM_ROLE_PFX_IMPORT, "pkcs11:object=rsa");
    assert_int_equal(hsm_key_reencrypt(key, &request, &out, &on_token, &err), -1);
    assert_fault(&err, HSM_FAULT_INPUT);
    assert_int_equal(rig_restarts(rig), 0);
    cc_buf_free(&out);
}

static void
test_health(void **state)
{
    static const struct {
        enum hsm_role role;
        const char *uri, *spoil;
    } table[] = {
        { HSM_ROLE_CA, "pkcs11:object=rsa", "sign wrong" },
        { HSM_ROLE_OCSP, "pkcs11:object=ec", "sign wrong" },
        { HSM_ROLE_PFX_IMPORT, "pkcs11:object=rsa", "decrypt wrong" },
        { HSM_ROLE_SCEP_RA_ENCRYPT, "pkcs11:object=rsa", "decrypt wrong" },
        { HSM_ROLE_SEAL, "pkcs11:object=seal", "unseal wrong" },
    };
    struct rig *rig = *state;

    rig_open(rig);
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        struct hsm_key *key = rig_get(rig, table[i].role, table[i].uri);
        struct cc_err err = { 0 };

        if (hsm_key_health(key, &err) != 0)
            fail_msg("%s", err.text);
        rig_script(rig, table[i].spoil);
        assert_int_equal(hsm_key_health(key, &err), -1);
        assert_fault(&err, HSM_FAULT_KEY_REPLACED);
        rig_script(rig, NULL);
    }
}

/* ---- errors through OpenSSL ---- */

static void
test_errors(void **state)
{
    static const struct {
        const char *script;
        enum cc_err_domain want_domain;
        long want_code;
        const char *want_text;
        uint64_t want_outages;
    } table[] = {
        { "sign ckr", CC_DOM_PKCS11, 0x30, "C_Sign: CKR_DEVICE_ERROR", 0 },
        { "sign away", CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "token away", 1 },
        { "sign refuse", CC_DOM_TOKEN, HSM_FAULT_INPUT, "refused as scripted", 0 },
    };
    struct rig *rig = *state;
    struct hsm_key *key;
    uint64_t before;

    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa");
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        struct cc_err err = { 0 };

        before = hsm_key_outages(key);
        rig_script(rig, table[i].script);
        assert_int_equal(sign_once(key, &err), -1);
        if (i == 0) /* the key could not even be read before */
            rig_script(rig, NULL);
        assert_int_equal(err.domain, table[i].want_domain);
        assert_int_equal(err.code, table[i].want_code);
        assert_non_null(strstr(err.text, table[i].want_text));
        assert_non_null(strstr(err.text, "pkcs11:object=rsa"));
        assert_int_equal(hsm_key_outages(key) - before, table[i].want_outages);
    }
    assert_int_equal(rig_restarts(rig), 0);

    struct cc_err other = { .domain = CC_DOM_OPENSSL, .code = ERR_PACK(ERR_LIB_RSA, 0, 5) };
    hsm_err_resolve(&other);
    assert_int_equal(other.domain, CC_DOM_OPENSSL);
    hsm_err_resolve(NULL);
}

/* ---- content-encryption keys ---- */

static size_t
transport_encrypt(struct hsm_key *key, const uint8_t *content_key, size_t len, uint8_t ret[512])
{
    EVP_PKEY *public_key = NULL;
    EVP_PKEY_CTX *ctx;
    struct cc_err err = { 0 };
    size_t ret_len = 512;

    if (hsm_key_get1_public(key, &public_key, &err) != 0)
        fail_msg("%s", err.text);
    ctx = EVP_PKEY_CTX_new(public_key, NULL);
    assert_true(EVP_PKEY_encrypt_init(ctx) > 0);
    assert_true(EVP_PKEY_encrypt(ctx, ret, &ret_len, content_key, len) > 0);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(public_key);
    return ret_len;
}

static void
test_content_key(void **state)
{
    static const uint8_t content_key[HSM_CONTENT_KEY_MAX] = "a content-encryption key";
    static const size_t lens[] = { HSM_CONTENT_KEY_MIN, 24, 32, HSM_CONTENT_KEY_MAX };
    static uint8_t endless[WIRE_FRAME_MAX + 1];
    struct rig *rig = *state;
    struct hsm_key_transport transport = { 0 };
    struct cc_err err = { 0 };
    struct hsm_status status;
    struct hsm_key *key;
    uint8_t encrypted[512], out[HSM_CONTENT_KEY_MAX];

    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_SCEP_RA_ENCRYPT, "pkcs11:object=rsa");
    for (size_t i = 0; i < CC_COUNT(lens); i++) {
        transport.encrypted.data = encrypted;
        transport.encrypted.len = transport_encrypt(key, content_key, lens[i], encrypted);
        if (hsm_key_open_content_key(key, &transport, out, lens[i], &err) != 0)
            fail_msg("%s", err.text);
        assert_memory_equal(out, content_key, lens[i]);
        transport.encrypted.len--;
        assert_int_equal(hsm_key_open_content_key(key, &transport, out, lens[i], &err), 0);
        assert_memory_not_equal(out, content_key, lens[i]);
    }
    /* More than a frame holds is a bad ciphertext like any other. */
    transport.encrypted = (struct cc_bytes){ endless, sizeof(endless) };
    assert_int_equal(hsm_key_open_content_key(key, &transport, out, 16, &err), 0);
    transport.encrypted = (struct cc_bytes){ 0 };
    assert_int_equal(hsm_key_open_content_key(key, &transport, out, 16, &err), 0);
    hsm_get_status(rig->hsm, &status);
    assert_int_equal(status.failures, 0);
    assert_int_equal(hsm_key_outages(key), 0);
    assert_int_equal(rig_starts(rig), 1);
}

/* Nothing is written then, and the token is not even asked for what is not allowed. */
static void
test_content_key_fails(void **state)
{
    static const struct {
        enum hsm_role role;
        const char *script;
        size_t len;
        enum hsm_fault want;
        uint64_t want_outages;
    } table[] = {
        { HSM_ROLE_SCEP_RA_ENCRYPT, "contentkey away", 32, HSM_FAULT_UNAVAILABLE, 1 },
        { HSM_ROLE_PFX_IMPORT, "contentkey die", 32, HSM_FAULT_UNAVAILABLE, 1 },
        { HSM_ROLE_SCEP_RA_SIGN, "contentkey die", 32, HSM_FAULT_ROLE, 0 },
        { HSM_ROLE_CA, "contentkey die", 32, HSM_FAULT_ROLE, 0 },
        { HSM_ROLE_PFX_IMPORT, "contentkey hang", HSM_CONTENT_KEY_MIN - 1, HSM_FAULT_INPUT, 0 },
        { HSM_ROLE_PFX_IMPORT, "contentkey hang", HSM_CONTENT_KEY_MAX + 1, HSM_FAULT_INPUT, 0 },
    };
    static const uint8_t untouched[HSM_CONTENT_KEY_MAX + 1];
    struct rig *rig = *state;

    rig_open(rig);
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        struct hsm_key *key = rig_get(rig, table[i].role, "pkcs11:object=rsa");
        const struct hsm_key_transport transport = { .encrypted = { untouched,
                                                             sizeof(untouched) } };
        const uint64_t before = hsm_key_outages(key);
        uint8_t out[sizeof(untouched)] = { 0 };
        struct cc_err err = { 0 };

        rig_script(rig, table[i].script);
        assert_int_equal(hsm_key_open_content_key(key, &transport, out, table[i].len, &err), -1);
        assert_fault(&err, table[i].want);
        assert_memory_equal(out, untouched, sizeof(out));
        assert_int_equal(hsm_key_outages(key) - before, table[i].want_outages);
    }
}

/* An answer of another length, or with something behind it, is none. */
static void
test_content_key_senseless(void **state)
{
    static const char *const actions[] = { "nofields", "field", "trailing", "short" };
    static const uint8_t content_key[32] = "a content-encryption key";
    struct rig *rig = *state;
    struct hsm_key_transport transport = { 0 };
    struct cc_err err = { 0 };
    struct hsm_key *key;
    uint8_t encrypted[512], out[32];

    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_SCEP_RA_ENCRYPT, "pkcs11:object=rsa");
    transport.encrypted.data = encrypted;
    transport.encrypted.len = transport_encrypt(key, content_key, sizeof(out), encrypted);
    for (size_t i = 0; i < CC_COUNT(actions); i++) {
        char script[64];

        (void)snprintf(script, sizeof(script), "once contentkey %s", actions[i]);
        rig_script(rig, script);
        if (hsm_key_open_content_key(key, &transport, out, sizeof(out), &err) != 0)
            fail_msg("%s: %s", actions[i], err.text);
        assert_memory_equal(out, content_key, sizeof(out));
        assert_int_equal(rig_restarts(rig), i + 1);
    }
}

/* ---- several of everything ---- */

struct crowd {
    struct hsm_key *key;
    unsigned rounds;
    unsigned failed;
    struct cc_err err;
};

static void *
crowd_sign(void *arg)
{
    struct crowd *crowd = arg;

    for (unsigned i = 0; i < crowd->rounds; i++)
        if (sign_once(crowd->key, &crowd->err) != 0)
            crowd->failed++;
    return NULL;
}

static void
crowd_run(struct hsm_key *key, unsigned threads, unsigned rounds)
{
    struct crowd crowd[16];
    pthread_t ids[16];

    for (unsigned i = 0; i < threads; i++) {
        crowd[i] = (struct crowd){ .key = key, .rounds = rounds };
        assert_int_equal(pthread_create(&ids[i], NULL, crowd_sign, &crowd[i]), 0);
    }
    for (unsigned i = 0; i < threads; i++)
        (void)pthread_join(ids[i], NULL);
    for (unsigned i = 0; i < threads; i++)
        if (crowd[i].failed != 0)
            fail_msg("thread %u: %u failed: %s", i, crowd[i].failed, crowd[i].err.text);
}

/* More callers than sessions wait their turn; keys named while others work are known in time. */
static void
test_more_callers_than_sessions(void **state)
{
    struct rig *rig = *state;

    rig->settings.sessions = 1;
    rig->settings.deadline_ms = LONG_MS;
    rig_open(rig);
    crowd_run(rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa"), 8, 5);
    crowd_run(rig_get(rig, HSM_ROLE_OCSP, "pkcs11:object=ec"), 8, 5);
}

/* One operation that hangs takes no other with it. */
static void
test_hang_among_others(void **state)
{
    struct rig *rig = *state;
    struct hsm_key *key;

    rig->settings.deadline_ms = 5 * DEADLINE_MS;
    rig->settings.sessions = 2;
    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=ec");
    assert_signs(key);
    rig_script(rig, "once sign hang");
    crowd_run(key, 8, 5);
    assert_int_equal(rig_restarts(rig), 1);
}

/* ---- whose turn it is ---- */

#define QUEUE_MAX 96

/* Callers that have joined the line one after the other, while the token process stands still. */
struct queue {
    struct rig *rig;
    pid_t pid;
    struct queued {
        struct rig *rig;
        enum hsm_work work;
        struct hsm_key *key; /* signs, or makes a key if it seals; NULL: a random number of ... */
        size_t len;
        int rc;
        struct cc_err err;
        pthread_t id;
    } callers[QUEUE_MAX];
    size_t count;
};

static int
queued_call(struct queued *caller)
{
    struct cc_buf first = CC_BUF_INIT(1024), second = CC_BUF_INIT(1024);
    uint8_t random[4096];
    int rc;

    if (caller->key == NULL)
        return hsm_random(caller->rig->hsm, random, caller->len, &caller->err);
    if (hsm_key_role(caller->key) != HSM_ROLE_SEAL)
        return sign_once(caller->key, &caller->err);
    rc = make_device_key(caller->key, &first, &second, &caller->err);
    cc_buf_free(&first);
    cc_buf_free(&second);
    return rc;
}

static void *
queued_run(void *arg)
{
    struct queued *caller = arg;

    assert_int_equal(hsm_work_for(caller->work), HSM_WORK_BY_KEY);
    caller->rc = queued_call(caller);
    return NULL;
}

/* Waits until so many callers have a session, and so many are in line. */
static void
queue_wait(struct queue *queue, unsigned busy, unsigned waiting)
{
    const int64_t deadline = cc_deadline_in(LONG_MS);
    struct hsm_status status;

    do {
        hsm_get_status(queue->rig->hsm, &status);
        if (status.busy == busy && status.waiting == waiting)
            return;
        (void)usleep(1000);
    } while (cc_deadline_left(deadline) > 0);
    fail_msg("%u busy and %u in line instead of %u and %u", status.busy, status.waiting, busy,
            waiting);
}

static struct queued *
queue_add(struct queue *queue, enum hsm_work work)
{
    struct queued *caller = &queue->callers[queue->count++];

    assert_true(queue->count <= QUEUE_MAX);
    *caller = (struct queued){ .rig = queue->rig, .work = work, .len = queue->count };
    return caller;
}

static void
queue_go(struct queued *caller)
{
    assert_int_equal(pthread_create(&caller->id, NULL, queued_run, caller), 0);
}

/* With one session: a first caller has it, all others wait. */
static void
queue_join(struct queue *queue, enum hsm_work work, struct hsm_key *key)
{
    struct queued *caller = queue_add(queue, work);

    caller->key = key;
    queue_go(caller);
    queue_wait(queue, 1, (unsigned)queue->count - 1);
}

/* Whether each thread of the process stands still. */
static bool
is_stopped(pid_t pid)
{
    char path[300];
    struct dirent *entry;
    bool stopped = true;
    DIR *dir;

    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    assert_non_null(dir = opendir(path));
    while ((entry = readdir(dir)) != NULL) {
        char state = 'T';
        FILE *f;

        (void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", (int)pid, entry->d_name);
        if (entry->d_name[0] == '.' || (f = fopen(path, "re")) == NULL)
            continue;
        stopped = stopped && fscanf(f, "%*d (%*[^)]) %c", &state) == 1 && state == 'T';
        (void)fclose(f);
    }
    (void)closedir(dir);
    return stopped;
}

static void
queue_begin(struct queue *queue, struct rig *rig)
{
    const int64_t deadline = cc_deadline_in(LONG_MS);
    struct hsm_status status;

    hsm_get_status(rig->hsm, &status);
    *queue = (struct queue){ .rig = rig, .pid = (pid_t)status.pid };
    assert_int_equal(kill(queue->pid, SIGSTOP), 0);
    while (!is_stopped(queue->pid) && cc_deadline_left(deadline) > 0)
        (void)usleep(1000);
    assert_true(is_stopped(queue->pid));
}

/* Lets the token process go on, and all callers end. */
static void
queue_end(struct queue *queue)
{
    assert_int_equal(kill(queue->pid, SIGCONT), 0);
    for (size_t i = 0; i < queue->count; i++)
        (void)pthread_join(queue->callers[i].id, NULL);
    for (size_t i = 0; i < queue->count; i++)
        if (queue->callers[i].rc != 0)
            fail_msg("caller %zu: %s", i, queue->callers[i].err.text);
}

/* The lines of the fake token's trace. */
static size_t
read_trace(const struct rig *rig, char ret_lines[QUEUE_MAX][16])
{
    FILE *f = fopen(rig_path(rig, "trace"), "re");
    size_t count = 0;

    assert_non_null(f);
    while (count < QUEUE_MAX && fscanf(f, "%15s", ret_lines[count]) == 1)
        count++;
    (void)fclose(f);
    return count;
}

/* One letter a caller, in the order in which they were served; within a letter, who came first must be first. */
static void
assert_order(struct queue *queue, const char *want)
{
    static const char letters[] = "ERoa";
    char lines[QUEUE_MAX][16], got[QUEUE_MAX + 1] = "";
    long last[HSM_WORK_BY_KEY] = { 0 };
    const size_t count = read_trace(queue->rig, lines);

    assert_int_equal(count, queue->count);
    for (size_t i = 0; i < count; i++) {
        const long len = strtol(lines[i], NULL, 10);
        const enum hsm_work work = queue->callers[len - 1].work;

        got[i] = letters[work];
        if (len < last[work])
            fail_msg("caller %ld was served behind caller %ld", len, last[work]);
        last[work] = len;
    }
    assert_string_equal(got, want);
}

static void
queue_join_many(struct queue *queue, enum hsm_work work, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        queue_join(queue, work, NULL);
}

static void
rig_open_one_session(struct rig *rig)
{
    rig->settings.sessions = 1;
    rig->settings.deadline_ms = 2 * LONG_MS;
    rig_open(rig);
    rig_write(rig, "trace", "");
}

/* The more urgent first, whoever came first; and each that was passed over 8 times next. */
static void
test_urgent_first_and_none_starved(void **state)
{
    struct rig *rig = *state;
    struct queue queue;

    rig_open_one_session(rig);
    queue_begin(&queue, rig);
    queue_join_many(&queue, HSM_WORK_ENROLMENT, 1);
    queue_join_many(&queue, HSM_WORK_AHEAD, 1);
    queue_join_many(&queue, HSM_WORK_ORDINARY, 4);
    queue_join_many(&queue, HSM_WORK_REVOCATION, 3);
    queue_join_many(&queue, HSM_WORK_ENROLMENT, 20);
    queue_end(&queue);
    assert_order(&queue, "E"
                         "EEEEEEEERo"
                         "EEEEEEEERo"
                         "EEEE"
                         "R"
                         "oo"
                         "a");
}

/* Keys made ahead wait longer, but not for ever. */
static void
test_work_ahead_is_not_starved(void **state)
{
    char want[QUEUE_MAX] = "";
    struct rig *rig = *state;
    struct queue queue;

    rig_open_one_session(rig);
    queue_begin(&queue, rig);
    queue_join_many(&queue, HSM_WORK_ORDINARY, 1);
    queue_join_many(&queue, HSM_WORK_AHEAD, 2);
    queue_join_many(&queue, HSM_WORK_ORDINARY, 70);
    queue_end(&queue);
    memset(want, 'o', queue.count);
    want[65] = 'a';
    want[72] = 'a';
    assert_order(&queue, want);
}

/* What a thread does not say, its key does. */
static void
test_urgency_by_key(void **state)
{
    static const char *const want[] = { "first", "ra", "ocsp", "crl", "ca" };
    struct hsm_key *first, *ca, *crl, *ocsp, *ra;
    char lines[QUEUE_MAX][16];
    struct rig *rig = *state;
    struct queue queue;

    for (size_t i = 0; i < CC_COUNT(want); i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "%s.pem", want[i]);
        rig_key(rig, name, EVP_EC_gen("P-256"));
    }
    rig_open_one_session(rig);
    assert_signs(first = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=first"));
    assert_signs(ca = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=ca"));
    assert_signs(crl = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=crl"));
    assert_signs(ocsp = rig_get(rig, HSM_ROLE_OCSP, "pkcs11:object=ocsp"));
    assert_signs(ra = rig_get(rig, HSM_ROLE_SCEP_RA_SIGN, "pkcs11:object=ra"));
    rig_write(rig, "trace", "");
    queue_begin(&queue, rig);
    queue_join(&queue, HSM_WORK_BY_KEY, first);
    queue_join(&queue, HSM_WORK_BY_KEY, ca);
    queue_join(&queue, HSM_WORK_BY_KEY, ocsp);
    queue_join(&queue, HSM_WORK_REVOCATION, crl);
    queue_join(&queue, HSM_WORK_BY_KEY, ra);
    queue_end(&queue);
    assert_int_equal(read_trace(rig, lines), CC_COUNT(want));
    for (size_t i = 0; i < CC_COUNT(want); i++)
        assert_string_equal(lines[i], want[i]);
}

/* Of two sessions one is left to who needs it for a moment, however many keys are to be made. */
static void
test_lengthy_work_leaves_a_session(void **state)
{
    struct cc_buf first = CC_BUF_INIT(1024), second = CC_BUF_INIT(1024);
    struct rig *rig = *state;
    struct cc_err err = { 0 };
    struct hsm_key *seal;
    struct queue queue;

    rig->settings.sessions = 2;
    rig->settings.deadline_ms = 2 * LONG_MS;
    rig_open(rig);
    seal = rig_get(rig, HSM_ROLE_SEAL, "pkcs11:object=seal");
    assert_int_equal(make_device_key(seal, &first, &second, &err), 0);
    cc_buf_free(&first);
    cc_buf_free(&second);
    queue_begin(&queue, rig);
    for (int i = 0; i < 3; i++) {
        struct queued *caller = queue_add(&queue, HSM_WORK_BY_KEY);

        caller->key = seal;
        queue_go(caller);
    }
    queue_wait(&queue, 1, 2);
    queue_go(queue_add(&queue, HSM_WORK_BY_KEY));
    queue_go(queue_add(&queue, HSM_WORK_BY_KEY));
    queue_wait(&queue, 2, 3);
    queue_end(&queue);
    queue_wait(&queue, 0, 0);
}

/* Who relied on OpenSSL to load its default provider by itself can do so after us too; who did not is not bothered. */
static void
test_default_provider(void **state)
{
    static const struct {
        const char *loaded;
        bool want_default;
    } table[] = { { NULL, true }, { "default", true }, { "base", false } };
    struct rig *rig = *state;

    for (size_t i = 0; i < CC_COUNT(table); i++) {
        OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
        OSSL_PROVIDER *loaded = NULL;
        EVP_MD *md;

        assert_non_null(libctx);
        if (table[i].loaded != NULL)
            assert_non_null(loaded = OSSL_PROVIDER_load(libctx, table[i].loaded));
        rig->settings.libctx = libctx;
        rig_open(rig);
        assert_signs(rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa"));
        hsm_close(rig->hsm);
        rig->hsm = NULL;
        md = EVP_MD_fetch(libctx, "SHA512", NULL);
        assert_int_equal(md != NULL, table[i].want_default);
        EVP_MD_free(md);
        if (loaded != NULL)
            (void)OSSL_PROVIDER_unload(loaded);
        OSSL_LIB_CTX_free(libctx);
    }
}

static unsigned
count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    (void)closedir(dir);
    return n;
}

static void
test_nothing_left(void **state)
{
    struct rig *rig = *state;
    struct hsm_key *key;
    unsigned open_before, before;
    struct hsm_status status;

    rig_open(rig);
    hsm_close(rig->hsm);
    before = count_descriptors();
    rig_open(rig);
    key = rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa");
    assert_signs(key);
    open_before = count_descriptors();
    for (int i = 0; i < 5; i++) {
        rig_script(rig, "once sign die");
        assert_signs(key);
    }
    assert_int_equal(count_descriptors(), open_before);
    hsm_get_status(rig->hsm, &status);
    hsm_close(rig->hsm);
    rig->hsm = NULL;
    assert_int_equal(count_descriptors(), before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void
test_two_at_once(void **state)
{
    struct rig *rig = *state;
    struct hsm_settings settings = rig->settings;
    struct cc_err err = { 0 };
    struct hsm *second = NULL;
    struct hsm_key *key = NULL;

    rig_open(rig);
    settings.on_state = NULL;
    assert_int_equal(hsm_open(&settings, &second, &err), 0);
    assert_int_equal(hsm_key_get0(second, HSM_ROLE_CA, "pkcs11:object=ec", &key, &err), 0);
    assert_signs(key);
    assert_signs(rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa"));
    hsm_close(second);
    assert_signs(rig_get(rig, HSM_ROLE_CA, "pkcs11:object=rsa"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open),
        TEST(test_open_refused),
        TEST(test_texts_too_long),
        TEST(test_pin_in_uri),
        TEST(test_open_helper_ends),
        TEST(test_close_while_starting),
        TEST(test_states),
        TEST(test_state_wordy),
        TEST(test_stuck_while_opening),
        TEST(test_lost_once),
        TEST(test_lost_always),
        TEST(test_killed_while_idle),
        TEST(test_stopped),
        TEST(test_key_replaced),
        TEST(test_key_faults_are_told_once),
        TEST(test_key_refused),
        TEST(test_roles),
        TEST(test_seal),
        TEST(test_random),
        TEST(test_reencrypt),
        TEST(test_device_key),
        TEST(test_device_key_lost_once),
        TEST(test_device_key_takes_long),
        TEST(test_long_texts_of_keys),
        TEST(test_health),
        TEST(test_errors),
        TEST(test_content_key),
        TEST(test_content_key_fails),
        TEST(test_content_key_senseless),
        TEST(test_more_callers_than_sessions),
        TEST(test_hang_among_others),
        TEST(test_urgent_first_and_none_starved),
        TEST(test_work_ahead_is_not_starved),
        TEST(test_urgency_by_key),
        TEST(test_lengthy_work_leaves_a_session),
        TEST(test_default_provider),
        TEST(test_nothing_left),
        TEST(test_two_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
