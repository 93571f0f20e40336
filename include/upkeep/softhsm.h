/* SPDX-License-Identifier: MIT */
#ifndef UPKEEP_SOFTHSM_H
#define UPKEEP_SOFTHSM_H

/* Where SoftHSM keeps its tokens: softhsm2.conf(5). */

#include <stdbool.h>
#include <stddef.h>

/* The folder with a folder for each token; false: it cannot be told. */
bool softhsm_folder(char *ret, size_t size);

#endif
