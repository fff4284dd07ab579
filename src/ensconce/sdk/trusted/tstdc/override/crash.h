/* SPDX-License-Identifier: Apache-2.0 */
/* musl stops a damaged program with HLT, which is the kernel's and faults with #GP. UD2 faults too,
   and an enclave reports #UD whatever its MISCSELECT. Included before all of musl's files. */
#ifndef TEE_CRASH_H
#define TEE_CRASH_H

__asm__(".macro hlt\n\tud2\n\t.endm");

#endif
