/* SPDX-License-Identifier: MIT */
#ifndef TEST_TOKEN_DIR_H
#define TEST_TOKEN_DIR_H

/*
 * A real token of a test's own, in a temporary folder, provisioned with tools that are not ours and then made
 * unwritable, as an instance must find it: a SoftHSM token that is written at login is destroyed by a SIGKILL at the
 * wrong moment.  Run as root, the tests therefore go on in a child process of the user nobody.
 *
 * SoftHSM by default; NSS's softokn with TEST_TOKEN=nss in the environment.
 */

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hsm/hsm.h"

#define SOFTHSM_MODULE "/usr/lib/softhsm/libsofthsm2.so"
#define NSS_MODULE "libsoftokn3.so"
#define TOKEN_PIN "648219"
#define TOKEN_NOBODY 65534

struct token_key {
    const char *label, *type; /* type as pkcs11-tool names it; "AES:32" for a secret key */
};

struct token_dir {
    char path[64];
    char helper[128], pin[128], init_args[256];
    bool nss;
};

static inline void CC_PRINTF(1, 2) token_shell(const char *fmt, ...)
{
    char command[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(command, sizeof(command), fmt, ap);
    va_end(ap);
    if (system(command) != 0) {
        (void)fprintf(stderr, "failed: %s\n", command);
        exit(1);
    }
}

static inline void
token_write(const struct token_dir *dir, const char *name, const char *text)
{
    char path[160];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", dir->path, name);
    if ((f = fopen(path, "we")) == NULL || fputs(text, f) < 0 || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

static inline void
token_provision_softhsm(struct token_dir *dir, const struct token_key *keys, size_t count)
{
    char text[256];

    (void)snprintf(text, sizeof(text),
            "directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n",
            dir->path);
    token_write(dir, "softhsm2.conf", text);
    (void)snprintf(text, sizeof(text), "%s/softhsm2.conf", dir->path);
    (void)setenv("SOFTHSM2_CONF", text, 1);
    token_shell("mkdir %s/tokens && softhsm2-util --init-token --free --label test"
                " --pin " TOKEN_PIN " --so-pin 12345678 >/dev/null",
            dir->path);
    for (size_t i = 0; i < count; i++)
        token_shell("pkcs11-tool --module " SOFTHSM_MODULE " --token-label test --login"
                    " --pin " TOKEN_PIN " --key-type %s --label %s --id %02zx %s >/dev/null",
                keys[i].type, keys[i].label, i + 1,
                strncmp(keys[i].type, "AES", 3) == 0 ? "--keygen"
                                                     : "--keypairgen --usage-sign --usage-decrypt");
}

/* None of NSS's tools makes a secret key that has an id. */
static inline void
token_nss_secret_key(const struct token_dir *dir, const struct token_key *key, size_t number)
{
    token_shell("python3 " TEST_DATA "/../integration/p11.py " NSS_MODULE " \"%s\" test " TOKEN_PIN
                " aes256:%s:%02zx",
            dir->init_args, key->label, number);
}

/* "rsa:2048" or "EC:prime256v1" as openssl-req(1) has it. */
static inline void
token_nss_key(const struct token_dir *dir, const struct token_key *key)
{
    char option[64];

    if (strncmp(key->type, "EC:", 3) == 0)
        (void)snprintf(option, sizeof(option), "ec -pkeyopt ec_paramgen_curve:%s", key->type + 3);
    else
        (void)snprintf(option, sizeof(option), "%s", key->type);
    token_shell("cd %s && openssl req -x509 -newkey %s -nodes -keyout k.pem -out c.pem -subj /CN=%s"
                " -days 2 2>/dev/null && openssl pkcs12 -export -inkey k.pem -in c.pem -name %s"
                " -passout pass:x -out k.p12 && pk12util -i k.p12 -d sql:. -k pin -W x >/dev/null"
                " && rm k.pem c.pem k.p12",
            dir->path, option, key->label, key->label);
}

static inline void
token_nss_init_args(struct token_dir *dir, const char *flags)
{
    (void)snprintf(dir->init_args, sizeof(dir->init_args),
            "configdir='sql:%s' certPrefix='' keyPrefix='' secmod='secmod.db'"
            " dbTokenDescription='test' flags=%s",
            dir->path, flags);
}

/* With few iterations, or every use of a key would take a quarter of a second. */
static inline void
token_provision_nss(struct token_dir *dir, const struct token_key *keys, size_t count)
{
    (void)setenv("NSS_MIN_MP_PBE_ITERATION_COUNT", "1", 1);
    (void)setenv("NSS_MAX_MP_PBE_ITERATION_COUNT", "1", 1);
    token_shell("certutil -N -d sql:%s -f %s/pin", dir->path, dir->path);
    token_nss_init_args(dir, "");
    for (size_t i = 0; i < count; i++)
        if (strncmp(keys[i].type, "AES", 3) == 0)
            token_nss_secret_key(dir, &keys[i], i + 1);
        else
            token_nss_key(dir, &keys[i]);
    token_nss_init_args(dir, "readOnly");
}

static inline void
token_provision(struct token_dir *dir, const struct token_key *keys, size_t count)
{
    token_write(dir, "pin", TOKEN_PIN "\n");
    if (dir->nss)
        token_provision_nss(dir, keys, count);
    else
        token_provision_softhsm(dir, keys, count);
}

/* The helper goes along, because the user nobody need not be able to read the place where we were built. */
static inline void
token_seal_off(struct token_dir *dir)
{
    token_shell("cp %s %s/", TEST_BIN "/certconnector-token", dir->path);
    token_shell("chmod -R a-w,a+rX %s", dir->path);
    token_shell("chmod o-rwx %s/pin", dir->path);
    if (geteuid() == 0)
        token_shell("chgrp -R 65534 %s", dir->path);
}

static inline struct hsm_settings
token_dir_settings(struct token_dir *dir)
{
    (void)snprintf(dir->helper, sizeof(dir->helper), "%s/certconnector-token", dir->path);
    (void)snprintf(dir->pin, sizeof(dir->pin), "file:%s/pin", dir->path);
    return (struct hsm_settings){
        .helper = dir->helper,
        .module = dir->nss ? NSS_MODULE : SOFTHSM_MODULE,
        .init_args = dir->nss ? dir->init_args : NULL,
        .uri = "pkcs11:token=test",
        .pin = dir->pin,
        .deadline_ms = 60000, /* these are not tests of speed */
        .allow_raw_rsa = true,
    };
}

static inline int
token_become_nobody(void)
{
    if (geteuid() != 0)
        return 0;
    if (setgroups(0, NULL) != 0 || setgid(TOKEN_NOBODY) != 0 || setuid(TOKEN_NOBODY) != 0)
        return -1;
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* or the leak checker cannot look at us */
}

static inline int
token_dir_run(const struct token_key *keys, size_t count, struct token_dir **ret, int (*run)(void))
{
    static struct token_dir dir = { .path = "/tmp/cc-token-XXXXXX" };
    int status = 0;
    pid_t pid;

    dir.nss = getenv("TEST_TOKEN") != NULL && strcmp(getenv("TEST_TOKEN"), "nss") == 0;
    if (mkdtemp(dir.path) == NULL)
        return 1;
    *ret = &dir;
    token_provision(&dir, keys, count);
    token_seal_off(&dir);
    if ((pid = fork()) == 0)
        exit(token_become_nobody() == 0 ? run() : 1);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        status = 1;
    token_shell("chmod -R u+w %s && rm -rf %s", dir.path, dir.path);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

#endif
