/* SPDX-License-Identifier: MIT */
/*
 * raw_token MODULE TOKEN PIN-FILE KEY THREADS SECONDS
 *
 * How many RSA private-key operations a token does in a second when nothing stands before it: C_Decrypt with raw RSA
 * (the operation that an OAEP decryption costs) from THREADS threads, one session each.  Prints the rate.  The
 * yardstick for everything that goes through the connector.
 */

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static CK_FUNCTION_LIST_PTR p11;
static CK_SLOT_ID slot;
static CK_OBJECT_CLASS key_class = CKO_PRIVATE_KEY;
static const char *key_label;
static atomic_bool stop;

static void
check(CK_RV rv, const char *what)
{
    if (rv != CKR_OK) {
        fprintf(stderr, "raw_token: %s: 0x%lx\n", what, rv);
        exit(1);
    }
}

static CK_SLOT_ID
find_token(const char *label)
{
    CK_SLOT_ID slots[64];
    CK_ULONG count = 64;
    size_t len = strlen(label);

    check(p11->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList");
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;

        if (p11->C_GetTokenInfo(slots[i], &info) == CKR_OK &&
                (info.flags & CKF_TOKEN_INITIALIZED) && memcmp(info.label, label, len) == 0 &&
                (len == 32 || info.label[len] == ' '))
            return slots[i];
    }
    fprintf(stderr, "raw_token: no token %s\n", label);
    exit(1);
}

static CK_SESSION_HANDLE
open_session(void)
{
    CK_SESSION_HANDLE session;

    check(p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &session), "C_OpenSession");
    return session;
}

static void
login(CK_SESSION_HANDLE session, const char *pin_file)
{
    char pin[256] = "";
    FILE *file = fopen(pin_file, "re");

    if (file == NULL || fgets(pin, sizeof(pin), file) == NULL) {
        fprintf(stderr, "raw_token: cannot read %s\n", pin_file);
        exit(1);
    }
    fclose(file);
    pin[strcspn(pin, "\n")] = '\0';
    check(p11->C_Login(session, CKU_USER, (CK_UTF8CHAR *)pin, strlen(pin)), "C_Login");
    explicit_bzero(pin, sizeof(pin));
}

static CK_OBJECT_HANDLE
find_key(CK_SESSION_HANDLE session)
{
    CK_ATTRIBUTE wanted[] = {
        { CKA_CLASS, &key_class, sizeof(key_class) },
        { CKA_LABEL, (void *)(uintptr_t)key_label, strlen(key_label) },
    };
    CK_OBJECT_HANDLE key = 0;
    CK_ULONG count = 0;

    check(p11->C_FindObjectsInit(session, wanted, 2), "C_FindObjectsInit");
    check(p11->C_FindObjects(session, &key, 1, &count), "C_FindObjects");
    check(p11->C_FindObjectsFinal(session), "C_FindObjectsFinal");
    if (count != 1) {
        fprintf(stderr, "raw_token: no key %s\n", key_label);
        exit(1);
    }
    return key;
}

static void *
work(void *arg)
{
    unsigned long *done = arg;
    CK_SESSION_HANDLE session = open_session();
    CK_OBJECT_HANDLE key = find_key(session);
    CK_MECHANISM raw = { CKM_RSA_X_509, NULL, 0 };
    CK_BYTE modulus[1024], input[1024], output[1024];
    CK_ATTRIBUTE attribute = { CKA_MODULUS, modulus, sizeof(modulus) };

    check(p11->C_GetAttributeValue(session, key, &attribute, 1), "C_GetAttributeValue");
    memset(input, 7, sizeof(input));
    input[0] = 0;
    while (!atomic_load(&stop)) {
        CK_ULONG len = sizeof(output);

        check(p11->C_DecryptInit(session, &raw, key), "C_DecryptInit");
        check(p11->C_Decrypt(session, input, attribute.ulValueLen, output, &len), "C_Decrypt");
        (*done)++;
    }
    return NULL;
}

static double
seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int
main(int argc, char **argv)
{
    CK_C_INITIALIZE_ARGS args = { .flags = CKF_OS_LOCKING_OK };
    CK_C_GetFunctionList get_list;
    pthread_t threads[64];
    unsigned long done[64] = { 0 }, total = 0;
    int count;
    double begin, length;
    void *module;

    if (argc != 7 || (count = atoi(argv[5])) < 1 || count > 64) {
        fprintf(stderr, "usage: raw_token MODULE TOKEN PIN-FILE KEY THREADS SECONDS\n");
        return 2;
    }
    if ((module = dlopen(argv[1], RTLD_NOW)) == NULL ||
            (get_list = (CK_C_GetFunctionList)(uintptr_t)dlsym(module, "C_GetFunctionList")) ==
                    NULL) {
        fprintf(stderr, "raw_token: %s\n", dlerror());
        return 1;
    }
    check(get_list(&p11), "C_GetFunctionList");
    check(p11->C_Initialize(&args), "C_Initialize");
    slot = find_token(argv[2]);
    login(open_session(), argv[3]);
    key_label = argv[4];

    begin = seconds_now();
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, work, &done[i]) != 0)
            return 1;
    length = atof(argv[6]);
    while (seconds_now() - begin < length)
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    atomic_store(&stop, true);
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        total += done[i];
    }
    printf("%.1f\n", (double)total / (seconds_now() - begin));
    return 0;
}
