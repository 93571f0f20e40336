/* SPDX-License-Identifier: MIT */
#ifndef UPKEEP_PINS_H
#define UPKEEP_PINS_H

/*
 * What the instances that share a token know of its PINs lies in the store that they share too: from the token's words to
 * the store's.
 */

#include "hsm/hsm.h"
#include "store/store.h"

/* For struct hsm_settings; store must outlive the token. */
struct hsm_pin_memory upkeep_pins_memory(struct store *store);

#endif
