/* SPDX-License-Identifier: MIT */
#include "library.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>
#include <pthread.h>

#include "base/secret.h"
#include "identity.h"

/* Requests and answers pass through the library's memory, tokens and secrets among them: none of it stays behind. */
static void
wiping_free(void *memory)
{
    if (memory == NULL)
        return;
    cc_wipe(memory, malloc_usable_size(memory));
    free(memory);
}

static void *
wiping_realloc(void *memory, size_t size)
{
    size_t had = memory == NULL ? 0 : malloc_usable_size(memory);
    void *bigger;

    if (size == 0)
        size = 1;
    if ((bigger = malloc(size)) == NULL)
        return NULL;
    if (memory != NULL)
        memcpy(bigger, memory, had < size ? had : size);
    wiping_free(memory);
    return bigger;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode state;

static void
open_once(void)
{
    state = curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, wiping_free, wiping_realloc, strdup,
            calloc);
    if (state == CURLE_OK && identity_library_open() != 0)
        state = CURLE_FAILED_INIT;
}

int
library_open(struct cc_err *err)
{
    pthread_once(&once, open_once);
    if (state != CURLE_OK)
        return cc_err_set(err, CC_DOM_INTERNAL, state, "start libcurl: %s",
                curl_easy_strerror(state));
    return 0;
}
