/* SPDX-License-Identifier: MIT */
#include "password.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "pki/password.h"

/* One line from the terminal without its echo; the terminal is put back in every case. */
static struct cc_secret *
read_prompt(const char *prompt, struct cc_err *err)
{
    struct cc_secret *line = NULL;
    struct termios before, silent;
    size_t len = 0;
    int fd, rc = -1;

    if ((fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)) == -1) {
        cc_err_set_errno(err, errno, "no terminal to ask for a password on; give a password file");
        return NULL;
    }
    if (tcgetattr(fd, &before) == -1 || (line = cc_secret_new(PKI_PASSWORD_MAX, err)) == NULL) {
        cc_err_set_errno(err, errno, "terminal");
        goto out;
    }
    silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    (void)tcsetattr(fd, TCSAFLUSH, &silent);
    rc = cc_fd_write_all(fd, prompt, strlen(prompt), err);
    while (rc == 0 && len < PKI_PASSWORD_MAX && read(fd, cc_secret_data(line) + len, 1) == 1 &&
            cc_secret_data(line)[len] != '\n')
        len++;
    (void)tcsetattr(fd, TCSAFLUSH, &before);
    if (rc == 0)
        rc = cc_fd_write_all(fd, "\n", 1, err);
    cc_secret_truncate(line, len);
out:
    (void)close(fd);
    if (rc != 0) {
        cc_secret_free(line);
        line = NULL;
    }
    return line;
}

struct cc_secret *
cli_password_read(const char *source, const char *prompt, struct cc_err *err)
{
    int64_t fd;

    if (strcmp(source, "prompt") == 0)
        return read_prompt(prompt, err);
    if (cc_starts_with(source, "fd:")) {
        if (cc_parse_int(source + 3, 0, 65535, &fd, err) == -1)
            return NULL;
        return cc_secret_read_fd((int)fd, err);
    }
    return cc_secret_load(source, err);
}

int
cli_encoding_parse(const char *name)
{
    static const char *const names[] = { "auto", "utf-8", "latin-1" };

    for (size_t i = 0; i < CC_COUNT(names); i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    return -1;
}

/* Characters of one or two bytes; what needs more lies above U+00FF anyway. */
static int
utf8_to_latin1(const struct cc_secret *password, struct cc_secret *out, struct cc_err *err)
{
    const uint8_t *in = (const uint8_t *)cc_secret_str(password);
    size_t len = cc_secret_len(password), used = 0;

    for (size_t i = 0; i < len; i++) {
        if (in[i] < 0x80) {
            cc_secret_data(out)[used++] = in[i];
        } else if ((in[i] == 0xc2 || in[i] == 0xc3) && i + 1 < len) {
            cc_secret_data(out)[used++] = (uint8_t)((in[i] & 3) << 6 | (in[i + 1] & 0x3f));
            i++;
        } else {
            return cc_err_set(err, CC_DOM_INPUT, 0,
                    "the password has a character that cannot be delivered (only ISO 8859-1 can); give the PFX another");
        }
    }
    cc_secret_truncate(out, used);
    return 0;
}

struct cc_secret *
cli_password_to_latin1(const struct cc_secret *password, enum cli_encoding encoding,
        struct cc_err *err)
{
    const char *text = cc_secret_str(password);
    size_t len = cc_secret_len(password);
    bool utf8 = cc_is_utf8(text, len);
    struct cc_secret *out;

    if (encoding == CLI_ENCODING_UTF8 && !utf8) {
        cc_err_set(err, CC_DOM_INPUT, 0, "the password is not UTF-8");
        return NULL;
    }
    if (encoding == CLI_ENCODING_LATIN1 || !utf8)
        return cc_secret_copy(text, len, err);
    if ((out = cc_secret_new(len, err)) != NULL && utf8_to_latin1(password, out, err) == -1) {
        cc_secret_free(out);
        out = NULL;
    }
    return out;
}
