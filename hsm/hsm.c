/* SPDX-License-Identifier: MIT */
#include "hsm/hsm.h"

#include <errno.h>
#include <limits.h>
#include <p11-kit/uri.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/text.h"
#include "hsm/hsm_int.h"

#define DEFAULT_DEADLINE_MS 10000
#define DEFAULT_SESSIONS_LEAST 4
#define SESSIONS_MAX (WIRE_CHANNELS_MAX - 1) /* one channel is the supervisor's */
#define HELPER_NAME "certconnector-token"

void
hsm_wake(struct hsm *hsm)
{
    const uint64_t one = 1;

    while (write(hsm->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* ---- settings ---- */

/* Too long a text would be a malformed frame to the token process, which ends at one. */
static int
text_check(const char *what, const char *text, size_t size, struct cc_err *err)
{
    if (text == NULL || strlen(text) < size)
        return 0;
    return cc_err_set(err, CC_DOM_CONFIG, 0, "%s is longer than %zu bytes", what, size - 1);
}

/* RFC 7512; what it names is found out later, by the token process.  One with a PIN inside is not repeated. */
int
hsm_uri_check(const char *uri, struct cc_err *err)
{
    P11KitUri *parsed;
    int rc;

    if (text_check("a PKCS#11 URI", uri, WIRE_URI_SIZE, err) != 0)
        return -1;
    if (strstr(uri, "pin-value") != NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "a PIN does not belong into a PKCS#11 URI (pin-value)");
    if ((parsed = p11_kit_uri_new()) == NULL)
        return cc_err_nomem(err);
    rc = p11_kit_uri_parse(uri, P11_KIT_URI_FOR_ANY, parsed);
    if (rc == P11_KIT_URI_OK && p11_kit_uri_any_unrecognized(parsed))
        rc = P11_KIT_URI_UNEXPECTED;
    p11_kit_uri_free(parsed);
    if (rc != P11_KIT_URI_OK)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "\"%s\" is not a PKCS#11 URI as in RFC 7512", uri);
    return 0;
}

static int
settings_check(const struct hsm_settings *settings, struct cc_err *err)
{
    if (settings->module == NULL || settings->uri == NULL || settings->pin == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "a token needs a module, a URI and a PIN reference");
    if (settings->sessions > SESSIONS_MAX)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "%u sessions: at most %d", settings->sessions,
                SESSIONS_MAX);
    if (settings->deadline_ms < 0)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "a deadline below zero");
    if (text_check("the module's path", settings->module, WIRE_PATH_SIZE, err) != 0 ||
            text_check("the initialisation string", settings->init_args, WIRE_PATH_SIZE, err) !=
                    0 ||
            text_check("the PIN's reference", settings->pin, WIRE_REFERENCE_SIZE, err) != 0 ||
            text_check("the profile's name", settings->profile, WIRE_PROFILE_SIZE, err) != 0 ||
            text_check("the state folder's path", settings->state_dir, WIRE_PATH_SIZE, err) != 0)
        return -1;
    if (strchr(settings->module, '/') != NULL && access(settings->module, R_OK) != 0)
        return cc_err_set_errno(err, errno, "PKCS#11 module %s", settings->module);
    return hsm_uri_check(settings->uri, err);
}

int
hsm_helper_find(char ret_path[PATH_MAX], struct cc_err *err)
{
    const ssize_t n = readlink("/proc/self/exe", ret_path, PATH_MAX - 1);
    char *slash;

    if (n < 0)
        return cc_err_set_errno(err, errno, "/proc/self/exe");
    ret_path[n] = '\0';
    if ((slash = strrchr(ret_path, '/')) == NULL ||
            (size_t)(slash + 1 - ret_path) + sizeof(HELPER_NAME) > PATH_MAX)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "no folder in %s", ret_path);
    memcpy(slash + 1, HELPER_NAME, sizeof(HELPER_NAME));
    return 0;
}

static int
copy_text(char **ret, const char *text, const char *otherwise, struct cc_err *err)
{
    *ret = cc_strdup(text != NULL ? text : otherwise, err);
    return *ret != NULL ? 0 : -1;
}

static unsigned
sessions_auto(void)
{
    const long n = sysconf(_SC_NPROCESSORS_ONLN);

    if (n < DEFAULT_SESSIONS_LEAST)
        return DEFAULT_SESSIONS_LEAST;
    return n > SESSIONS_MAX ? SESSIONS_MAX : (unsigned)n;
}

static int
settings_copy(struct hsm *hsm, const struct hsm_settings *settings, struct cc_err *err)
{
    char beside[PATH_MAX] = "";

    if (settings->helper == NULL && hsm_helper_find(beside, err) != 0)
        return -1;
    if (copy_text(&hsm->helper, settings->helper, beside, err) != 0 ||
            copy_text(&hsm->module, settings->module, "", err) != 0 ||
            copy_text(&hsm->init_args, settings->init_args, "", err) != 0 ||
            copy_text(&hsm->uri, settings->uri, "", err) != 0 ||
            copy_text(&hsm->pin, settings->pin, "", err) != 0 ||
            copy_text(&hsm->profile, settings->profile, "auto", err) != 0 ||
            copy_text(&hsm->state_dir, settings->state_dir, "", err) != 0)
        return -1;
    hsm->sessions = settings->sessions != 0 ? settings->sessions : sessions_auto();
    hsm->deadline_ms = settings->deadline_ms != 0 ? settings->deadline_ms : DEFAULT_DEADLINE_MS;
    hsm->allow_raw_rsa = settings->allow_raw_rsa;
    hsm->libctx = settings->libctx;
    hsm->on_state = settings->on_state;
    hsm->on_state_arg = settings->on_state_arg;
    hsm->on_key = settings->on_key;
    hsm->on_key_arg = settings->on_key_arg;
    hsm->pin_memory = settings->pin_memory;
    return 0;
}

/* ---- opening and closing ---- */

static void
hsm_free(struct hsm *hsm)
{
    if (hsm == NULL)
        return;
    for (size_t i = 0; i < hsm->key_count; i++)
        hsm_key_free(hsm->keys[i]);
    hsm_provider_unload(hsm);
    if (hsm->wake_fd >= 0)
        (void)close(hsm->wake_fd);
    (void)pthread_cond_destroy(&hsm->changed);
    (void)pthread_mutex_destroy(&hsm->lock);
    free(hsm->helper);
    free(hsm->module);
    free(hsm->init_args);
    free(hsm->uri);
    free(hsm->pin);
    free(hsm->profile);
    free(hsm->state_dir);
    free(hsm);
}

static struct hsm *
hsm_new(const struct hsm_settings *settings, struct cc_err *err)
{
    struct hsm *hsm = calloc(1, sizeof(*hsm));

    if (hsm == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    if (cc_cond_init(&hsm->changed, err) != 0) {
        free(hsm);
        return NULL;
    }
    (void)pthread_mutex_init(&hsm->lock, NULL);
    hsm_lines_init(hsm);
    hsm->process.pidfd = -1;
    hsm->wake_fd = -1;
    hsm->status.since_ms = cc_clock_now_ms();
    for (unsigned i = 0; i < WIRE_CHANNELS_MAX; i++)
        hsm->channels[i].fd = -1;
    if (settings_copy(hsm, settings, err) != 0)
        goto fail;
    hsm->status.sessions = hsm->sessions;
    if ((hsm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        cc_err_set_errno(err, errno, "eventfd");
        goto fail;
    }
    if (access(hsm->helper, X_OK) != 0) {
        cc_err_set_errno(err, errno, "token process %s", hsm->helper);
        goto fail;
    }
    if (hsm_provider_load(hsm, err) != 0)
        goto fail;
    return hsm;
fail:
    hsm_free(hsm);
    return NULL;
}

/* Waits for what the first process says to the settings; one that says nothing is the supervisor's business. */
static int
hsm_await_verdict(struct hsm *hsm, struct cc_err *err)
{
    const struct timespec until = cc_cond_time(hsm->deadline_ms);
    struct cc_err verdict;
    int rc = 0;

    (void)pthread_mutex_lock(&hsm->lock);
    while (!hsm->judged && rc == 0)
        rc = pthread_cond_timedwait(&hsm->changed, &hsm->lock, &until);
    hsm->judged = true; /* what comes later is no verdict any more, but a failure like others */
    verdict = hsm->verdict;
    (void)pthread_mutex_unlock(&hsm->lock);
    if (verdict.domain == CC_DOM_NONE)
        return 0;
    return cc_err_set(err, verdict.domain, verdict.code, "%s", verdict.text);
}

/* Signals are for the threads of who opened us. */
static int
hsm_start_supervisor(struct hsm *hsm, struct cc_err *err)
{
    sigset_t all, before;
    int rc;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&hsm->supervisor, NULL, hsm_supervise, hsm);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return cc_err_set_errno(err, rc, "thread of the token");
    (void)pthread_setname_np(hsm->supervisor, "hsm");
    return 0;
}

int
hsm_open(const struct hsm_settings *settings, struct hsm **ret_hsm, struct cc_err *err)
{
    struct hsm *hsm;

    if (settings_check(settings, err) != 0 || (hsm = hsm_new(settings, err)) == NULL)
        return cc_err_in(err, "open the token");
    if (hsm_pins_start(hsm, err) != 0 || hsm_start_supervisor(hsm, err) != 0) {
        hsm_pins_stop(hsm);
        hsm_free(hsm);
        return cc_err_in(err, "open the token");
    }
    if (hsm_await_verdict(hsm, err) != 0) {
        hsm_close(hsm);
        return cc_err_in(err, "open the token");
    }
    *ret_hsm = hsm;
    return 0;
}

void
hsm_close(struct hsm *hsm)
{
    if (hsm == NULL)
        return;
    (void)pthread_mutex_lock(&hsm->lock);
    hsm->stopping = true;
    hsm_condemn_locked(hsm, "");
    hsm_line_wake_locked(hsm);
    (void)pthread_mutex_unlock(&hsm->lock);
    (void)pthread_join(hsm->supervisor, NULL);
    hsm_pins_stop(hsm);
    if (hsm->on_state != NULL)
        hsm->on_state(hsm->on_state_arg, HSM_STATE_CLOSED, NULL);
    hsm_free(hsm);
}

/* ---- status ---- */

int
hsm_wait_open(struct hsm *hsm, int64_t timeout_ms, struct cc_err *err)
{
    const struct timespec until = cc_cond_time(timeout_ms);
    enum hsm_state state;
    char why[sizeof(hsm->status.last_error)];
    int rc = 0;

    (void)pthread_mutex_lock(&hsm->lock);
    while (hsm->status.state != HSM_STATE_OPEN && hsm->status.state != HSM_STATE_PIN_REFUSED &&
            rc == 0)
        rc = pthread_cond_timedwait(&hsm->changed, &hsm->lock, &until);
    state = hsm->status.state;
    (void)cc_strcpy(why, sizeof(why), hsm->status.last_error);
    (void)pthread_mutex_unlock(&hsm->lock);

    if (state == HSM_STATE_OPEN)
        return 0;
    if (state == HSM_STATE_PIN_REFUSED)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED, "%s",
                why[0] != '\0' ? why : "the token refused the PIN");
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
            "the token is not open after %lld ms%s%s", (long long)timeout_ms,
            why[0] != '\0' ? ": " : "", why);
}

void
hsm_get_status(struct hsm *hsm, struct hsm_status *ret)
{
    (void)pthread_mutex_lock(&hsm->lock);
    *ret = hsm->status;
    (void)pthread_mutex_unlock(&hsm->lock);
}

size_t
hsm_get_measured(struct hsm *hsm, struct hsm_measured ret[HSM_MEASURED_MAX])
{
    size_t count = 0;

    for (uint8_t op = 0; op < HSM_MEASURED_MAX; op++) {
        struct hsm_measured *one = &ret[count];

        one->operation = wire_op_name(op);
        one->failures = atomic_load(&hsm->measures[op].failures);
        cc_histogram_get(&hsm->measures[op].time, &one->time);
        count += one->time.total > 0;
    }
    return count;
}
