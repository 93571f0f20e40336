/* SPDX-License-Identifier: MIT */

/*
 * A PKCS#11 module that forwards to a real one, writes down each call, and misbehaves on cue.
 *
 *   P11_FAKE_MODULE   the real module (SoftHSM by default)
 *   P11_FAKE_LOG      each call is appended here: "PID C_Decrypt mechanism=0x1 rv=0x0"
 *   P11_FAKE_CONTROL  lines of "FUNCTION ACTION [count=N] [skip=N]", looked at before each call; replaced by rename
 *
 * Actions: rv=0x30 return this without calling; say=0x30 call, and then return this; hang for ever; delay=MS first, written
 * down as "PID C_Decrypt... rv=0x0"; flags=0x40000 added to the token's flags (C_GetTokenInfo).  skip: leave the first N
 * calls alone; count: then act on N calls only.  Both count from the moment that this process sees the file.
 */

#include <dlfcn.h>
#include <fcntl.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FAKE_RULES 32
#define FAKE_NO_MECHANISM ((CK_ULONG)-1)

struct fake_rule {
    char function[40];
    int has_rv, hangs;
    unsigned long rv, say, flags, delay_ms;
    long skip, count; /* count -1: for ever */
};

static pthread_once_t fake_once = PTHREAD_ONCE_INIT;
static CK_FUNCTION_LIST *fake_real;
static CK_FUNCTION_LIST fake_list;

static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static struct fake_rule fake_rules[FAKE_RULES];
static size_t fake_rule_count;
static struct stat fake_seen;

static void
fake_parse_line(char *line, struct fake_rule *rule)
{
    char *save = NULL, *word = strtok_r(line, " \t\n", &save);

    *rule = (struct fake_rule){ .count = -1 };
    if (word == NULL)
        return;
    (void)snprintf(rule->function, sizeof(rule->function), "%s", word);
    while ((word = strtok_r(NULL, " \t\n", &save)) != NULL) {
        if (strcmp(word, "hang") == 0)
            rule->hangs = 1;
        else if (sscanf(word, "rv=%lx", &rule->rv) == 1)
            rule->has_rv = 1;
        else if (sscanf(word, "say=%lx", &rule->say) != 1 &&
                 sscanf(word, "flags=%lx", &rule->flags) != 1 &&
                 sscanf(word, "delay=%lu", &rule->delay_ms) != 1 &&
                 sscanf(word, "skip=%ld", &rule->skip) != 1 &&
                 sscanf(word, "count=%ld", &rule->count) != 1)
            abort();
    }
}

/* Lock held. */
static void
fake_read_control(void)
{
    const char *path = getenv("P11_FAKE_CONTROL");
    struct stat now = { 0 };
    char line[256];
    FILE *file;

    if (path == NULL || stat(path, &now) != 0) {
        fake_rule_count = 0;
        fake_seen = now;
        return;
    }
    if (now.st_ino == fake_seen.st_ino && now.st_mtim.tv_sec == fake_seen.st_mtim.tv_sec &&
            now.st_mtim.tv_nsec == fake_seen.st_mtim.tv_nsec)
        return;
    fake_rule_count = 0;
    if ((file = fopen(path, "re")) == NULL)
        abort();
    while (fake_rule_count < FAKE_RULES && fgets(line, sizeof(line), file) != NULL)
        fake_parse_line(line, &fake_rules[fake_rule_count++]);
    (void)fclose(file);
    fake_seen = now;
}

/* What to do about this call; .function is empty for nothing. */
static struct fake_rule
fake_cue(const char *function)
{
    struct fake_rule found = { .count = -1 };

    (void)pthread_mutex_lock(&fake_lock);
    fake_read_control();
    for (size_t i = 0; i < fake_rule_count; i++) {
        struct fake_rule *rule = &fake_rules[i];

        if (strcmp(rule->function, function) != 0 || rule->count == 0)
            continue;
        if (rule->skip > 0) {
            rule->skip--;
            continue;
        }
        if (rule->count > 0)
            rule->count--;
        found = *rule;
        break;
    }
    (void)pthread_mutex_unlock(&fake_lock);
    return found;
}

static void
fake_log(const char *function, CK_ULONG mechanism, CK_RV rv)
{
    const char *path = getenv("P11_FAKE_LOG");
    char line[160], shown[40] = "";
    int fd, len;

    if (path == NULL || (fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) < 0)
        return;
    if (mechanism != FAKE_NO_MECHANISM)
        (void)snprintf(shown, sizeof(shown), " mechanism=0x%lx", mechanism);
    len = snprintf(line, sizeof(line), "%ld %s%s rv=0x%lx\n", (long)getpid(), function, shown, rv);
    if (write(fd, line, (size_t)len) != len)
        abort();
    (void)close(fd);
}

/* Whether the call is answered here; *ret_say: what to say in place of the answer, CKR_OK for nothing else. */
static int
fake_before(const char *function, CK_RV *ret_rv, CK_RV *ret_say, unsigned long *ret_flags)
{
    const struct fake_rule rule = fake_cue(function);

    if (rule.delay_ms > 0) {
        const struct timespec ts = { (time_t)(rule.delay_ms / 1000),
            (long)(rule.delay_ms % 1000) * 1000000L };
        char begun[sizeof(rule.function) + 3];

        (void)snprintf(begun, sizeof(begun), "%s...", function);
        fake_log(begun, FAKE_NO_MECHANISM, CKR_OK);
        (void)nanosleep(&ts, NULL);
    }
    if (rule.hangs) {
        fake_log(function, FAKE_NO_MECHANISM, 0xdead);
        for (;;)
            (void)pause();
    }
    *ret_rv = rule.rv;
    *ret_say = rule.say;
    *ret_flags = rule.flags;
    return rule.has_rv;
}

#define FAKE_CALL(name, mechanism, call)                                                           \
    CK_RV rv = CKR_OK, say = CKR_OK;                                                               \
    unsigned long flags = 0;                                                                       \
    if (!fake_before(#name, &rv, &say, &flags))                                                    \
        rv = fake_real->name call;                                                                 \
    if (say != CKR_OK)                                                                             \
        rv = say;                                                                                  \
    fake_log(#name, mechanism, rv);                                                                \
    (void)flags

#define FAKE(name, params, call)                                                                   \
    static CK_RV fake_##name params                                                                \
    {                                                                                              \
        FAKE_CALL(name, FAKE_NO_MECHANISM, call);                                                  \
        return rv;                                                                                 \
    }

/* With a mechanism m among the parameters. */
#define FAKE_MECHANISM(name, params, call)                                                         \
    static CK_RV fake_##name params                                                                \
    {                                                                                              \
        FAKE_CALL(name, m->mechanism, call);                                                       \
        return rv;                                                                                 \
    }

typedef CK_SESSION_HANDLE S;
typedef CK_OBJECT_HANDLE O;
typedef CK_MECHANISM *M;
typedef CK_BYTE *B;
typedef CK_ULONG U;
typedef CK_ULONG *P;
typedef CK_ATTRIBUTE *A;

FAKE(C_Initialize, (void *args), (args))
FAKE(C_Finalize, (void *reserved), (reserved))
FAKE(C_GetInfo, (CK_INFO * info), (info))
FAKE(C_GetSlotList, (CK_BBOOL present, CK_SLOT_ID *list, P count), (present, list, count))
FAKE(C_CloseSession, (S s), (s))
FAKE(C_CloseAllSessions, (CK_SLOT_ID slot), (slot))
FAKE(C_OpenSession, (CK_SLOT_ID slot, CK_FLAGS f, void *app, CK_NOTIFY notify, S *s),
        (slot, f, app, notify, s))
FAKE(C_GetSessionInfo, (S s, CK_SESSION_INFO *info), (s, info))
FAKE(C_Login, (S s, CK_USER_TYPE user, B pin, U len), (s, user, pin, len))
FAKE(C_Logout, (S s), (s))
FAKE(C_CreateObject, (S s, A template, U count, O *object), (s, template, count, object))
FAKE(C_DestroyObject, (S s, O object), (s, object))
FAKE(C_GetAttributeValue, (S s, O object, A template, U count), (s, object, template, count))
FAKE(C_FindObjectsInit, (S s, A template, U count), (s, template, count))
FAKE(C_FindObjects, (S s, O *objects, U max, P count), (s, objects, max, count))
FAKE(C_FindObjectsFinal, (S s), (s))
FAKE_MECHANISM(C_EncryptInit, (S s, M m, O key), (s, m, key))
FAKE(C_Encrypt, (S s, B in, U in_len, B out, P out_len), (s, in, in_len, out, out_len))
FAKE_MECHANISM(C_DecryptInit, (S s, M m, O key), (s, m, key))
FAKE(C_Decrypt, (S s, B in, U in_len, B out, P out_len), (s, in, in_len, out, out_len))
FAKE_MECHANISM(C_SignInit, (S s, M m, O key), (s, m, key))
FAKE(C_Sign, (S s, B in, U in_len, B out, P out_len), (s, in, in_len, out, out_len))
FAKE_MECHANISM(C_GenerateKey, (S s, M m, A template, U count, O *key), (s, m, template, count, key))
FAKE_MECHANISM(C_GenerateKeyPair,
        (S s, M m, A public, U public_count, A private, U private_count, O *public_key,
                O *private_key),
        (s, m, public, public_count, private, private_count, public_key, private_key))
FAKE_MECHANISM(C_WrapKey, (S s, M m, O under, O key, B out, P len), (s, m, under, key, out, len))
FAKE_MECHANISM(C_UnwrapKey, (S s, M m, O under, B in, U len, A template, U count, O *key),
        (s, m, under, in, len, template, count, key))
FAKE(C_GenerateRandom, (S s, B out, U len), (s, out, len))

static CK_RV
fake_C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    FAKE_CALL(C_GetTokenInfo, FAKE_NO_MECHANISM, (slot, info));
    if (rv == CKR_OK)
        info->flags |= flags;
    return rv;
}

static void
fake_load(void)
{
    const char *path = getenv("P11_FAKE_MODULE");
    void *library = dlopen(path == NULL ? "/usr/lib/softhsm/libsofthsm2.so" : path, RTLD_NOW);
    union {
        void *symbol;
        CK_C_GetFunctionList function;
    } get = { .symbol = library == NULL ? NULL : dlsym(library, "C_GetFunctionList") };

    if (get.symbol == NULL || get.function(&fake_real) != CKR_OK)
        abort();
    /* What is not listed goes straight through. */
    fake_list = *fake_real;
#define PLACE(name) fake_list.name = fake_##name
    PLACE(C_Initialize);
    PLACE(C_Finalize);
    PLACE(C_GetInfo);
    PLACE(C_GetSlotList);
    PLACE(C_GetTokenInfo);
    PLACE(C_OpenSession);
    PLACE(C_CloseSession);
    PLACE(C_CloseAllSessions);
    PLACE(C_GetSessionInfo);
    PLACE(C_Login);
    PLACE(C_Logout);
    PLACE(C_CreateObject);
    PLACE(C_DestroyObject);
    PLACE(C_GetAttributeValue);
    PLACE(C_FindObjectsInit);
    PLACE(C_FindObjects);
    PLACE(C_FindObjectsFinal);
    PLACE(C_EncryptInit);
    PLACE(C_Encrypt);
    PLACE(C_DecryptInit);
    PLACE(C_Decrypt);
    PLACE(C_SignInit);
    PLACE(C_Sign);
    PLACE(C_GenerateKey);
    PLACE(C_GenerateKeyPair);
    PLACE(C_WrapKey);
    PLACE(C_UnwrapKey);
    PLACE(C_GenerateRandom);
#undef PLACE
    fake_list.C_GetFunctionList = C_GetFunctionList;
}

CK_RV
C_GetFunctionList(CK_FUNCTION_LIST **ret_list)
{
    (void)pthread_once(&fake_once, fake_load);
    *ret_list = &fake_list;
    return CKR_OK;
}
