/* SPDX-License-Identifier: Apache-2.0 */
#include "smallest_t.h"

int add(int left, int right) { return (int)((unsigned)left + (unsigned)right); }
