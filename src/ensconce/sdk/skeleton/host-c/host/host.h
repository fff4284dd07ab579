/* What the host program and its checks share. */
#ifndef HOST_H
#define HOST_H

#include "sgx_urts.h"

/* Load the enclave in a file; end the program with a message where that can't be. */
sgx_enclave_id_t load(const char *file);

#endif
