/* SPDX-License-Identifier: Apache-2.0 */
/* What AWS-LC asks of a system, as an enclave has it: the processor's features, random numbers,
   locks and the last error. */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>

#include "crypto/internal.h"
#include "crypto/fipsmodule/evp/internal.h"
#include "crypto/rand_extra/internal.h"
#include "crypto/rsa_extra/internal.h"
#include "crypto/ube/fork_ube_detect.h"
#include "sgx_attributes.h"
#include "sgx_spinlock.h"
#include "sgx_trts.h"
#include "trts.h"

/* CPUID leaf 1, EDX and ECX, and leaf 7, EBX and ECX. */
enum { LEAF1_EDX, LEAF1_ECX, LEAF7_EBX, LEAF7_ECX };

/* Every processor with SGX has these, whatever the host says: PCLMULQDQ, SSSE3, SSE4.1, SSE4.2,
   MOVBE, POPCNT, AES, RDRAND; in EDX FXSR, SSE, SSE2. They make the code take no path whose time
   depends on secrets, and they let it run where XFRM has no AVX. */
#define ALWAYS_EDX (1u << 24 | 1u << 25 | 1u << 26)
#define ALWAYS_ECX \
    (1u << 1 | 1u << 9 | 1u << 19 | 1u << 20 | 1u << 22 | 1u << 23 | 1u << 25 | 1u << 30)

/* Conservative or repurposed bits, as AWS-LC's own reading of CPUID sets them. */
#define EDX_HYPER_THREADING (1u << 28)
#define EDX_RC4_REPRESENTATION (1u << 20)
#define EDX_IS_INTEL (1u << 30)
#define ECX_XOP (1u << 11)

/* What needs more state than XFRM may have. */
#define AVX_ECX (1u << 28 | 1u << 12 | 1u << 29)                           /* AVX, FMA, F16C */
#define AVX_EBX (1u << 5)                                                  /* AVX2 */
#define AVX_LEAF7_ECX (1u << 9 | 1u << 10)                                 /* VAES, VPCLMULQDQ */
#define AVX512_EBX (1u << 16 | 1u << 17 | 1u << 21 | 1u << 28 | 1u << 30 | 1u << 31)
#define AVX512_ECX (1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14)

#define HAS_STATE(xfrm, state) (((xfrm) & (state)) == (state))

uint32_t OPENSSL_ia32cap_P[4] = {ALWAYS_EDX | EDX_HYPER_THREADING | EDX_IS_INTEL, ALWAYS_ECX};
uint8_t OPENSSL_cpucap_initialized = 1;

/* Take the host's word for what is faster: if it lies, an instruction faults and the enclave ends. */
void tee_crypto_start(const uint32_t cpuid[8][4], uint64_t xfrm)
{
    uint32_t found[4] = {cpuid[1][3], cpuid[1][2], cpuid[7][1], cpuid[7][2]};
    if (!HAS_STATE(xfrm, SGX_XFRM_AVX)) {
        found[LEAF1_ECX] &= ~AVX_ECX;
        found[LEAF7_EBX] &= ~AVX_EBX;
        found[LEAF7_ECX] &= ~AVX_LEAF7_ECX;
    }
    if (!HAS_STATE(xfrm, SGX_XFRM_AVX512)) {
        found[LEAF7_EBX] &= ~AVX512_EBX;
        found[LEAF7_ECX] &= ~AVX512_ECX;
    }
    found[LEAF1_EDX] |= ALWAYS_EDX | EDX_HYPER_THREADING | EDX_IS_INTEL;
    found[LEAF1_EDX] &= ~EDX_RC4_REPRESENTATION;
    found[LEAF1_ECX] |= ALWAYS_ECX;
    found[LEAF1_ECX] &= ~ECX_XOP;
    memcpy(OPENSSL_ia32cap_P, found, sizeof found);
}

/* RDRAND is a generator of the processor's own; another on top would add nothing to trust. */
int RAND_bytes(uint8_t *buffer, size_t size)
{
    if (size != 0 && sgx_read_rand(buffer, size) != SGX_SUCCESS) tee_abort();
    return 1;
}

int RAND_bytes_with_user_prediction_resistance(uint8_t *buffer, size_t size,
                                               const uint8_t user[RAND_PRED_RESISTANCE_LEN])
{
    (void)user;
    return RAND_bytes(buffer, size);
}

/* An enclave is never forked, so blinding need not look for it. */
uint64_t CRYPTO_get_fork_ube_generation(void)
{
    return 1;
}

/* All that AWS-LC does under a lock is short. */
static sgx_spinlock_t *lock_of(void *mutex)
{
    return (sgx_spinlock_t *)mutex;
}

static_assert(sizeof(CRYPTO_MUTEX) >= sizeof(sgx_spinlock_t), "a lock fits");
static_assert(sizeof(CRYPTO_once_t) >= sizeof(uint32_t), "a state fits");

void CRYPTO_MUTEX_init(CRYPTO_MUTEX *lock)
{
    *lock_of(lock) = SGX_SPINLOCK_INITIALIZER;
}

void CRYPTO_MUTEX_lock_read(CRYPTO_MUTEX *lock)
{
    sgx_spin_lock(lock_of(lock));
}

void CRYPTO_MUTEX_lock_write(CRYPTO_MUTEX *lock)
{
    sgx_spin_lock(lock_of(lock));
}

void CRYPTO_MUTEX_unlock_read(CRYPTO_MUTEX *lock)
{
    sgx_spin_unlock(lock_of(lock));
}

void CRYPTO_MUTEX_unlock_write(CRYPTO_MUTEX *lock)
{
    sgx_spin_unlock(lock_of(lock));
}

void CRYPTO_MUTEX_cleanup(CRYPTO_MUTEX *lock)
{
    (void)lock;
}

void CRYPTO_once(CRYPTO_once_t *once, void (*initialise)(void))
{
    enum { NEW, RUNNING, DONE };
    uint32_t *state = (uint32_t *)once, expected = NEW;
    if (__atomic_load_n(state, __ATOMIC_ACQUIRE) == DONE) return;
    if (__atomic_compare_exchange_n(state, &expected, RUNNING, 0, __ATOMIC_ACQUIRE,
                                    __ATOMIC_ACQUIRE)) {
        initialise();
        __atomic_store_n(state, DONE, __ATOMIC_RELEASE);
    }
    while (__atomic_load_n(state, __ATOMIC_ACQUIRE) != DONE) __asm__ __volatile__("pause");
}

/* The last error is enough for the library's own decisions. A queue would be allocated anew for
   each ECALL of an unbound thread, and a host could fill the heap with failures. */
static _Thread_local uint32_t last_error;

void ERR_put_error(int library, int unused, int reason, const char *file, unsigned line)
{
    (void)unused, (void)file, (void)line;
    last_error = ERR_PACK(library, reason);
}

uint32_t ERR_get_error(void)
{
    uint32_t error = last_error;
    last_error = 0;
    return error;
}

uint32_t ERR_peek_error(void)
{
    return last_error;
}

uint32_t ERR_peek_last_error(void)
{
    return last_error;
}

void ERR_clear_error(void)
{
    last_error = 0;
}

/* Objects have no data of applications. */
void CRYPTO_new_ex_data(CRYPTO_EX_DATA *data)
{
    data->sk = NULL;
}

void CRYPTO_free_ex_data(CRYPTO_EX_DATA_CLASS *class, void *object, CRYPTO_EX_DATA *data)
{
    (void)class, (void)object, (void)data;
}

/* Nor is there another engine than this code. */
typedef struct ec_key_method_st EC_KEY_METHOD;
const EC_KEY_METHOD *ENGINE_get_EC(const ENGINE *engine)
{
    (void)engine;
    return NULL;
}

const RSA_METHOD *ENGINE_get_RSA(const ENGINE *engine)
{
    (void)engine;
    return NULL;
}

/* No RSA key has parameters for PSS. */
void RSASSA_PSS_PARAMS_free(RSASSA_PSS_PARAMS *parameters)
{
    (void)parameters;
}

/* No hash context belongs to an HMAC key, so none is started as one. */
int used_for_hmac(EVP_MD_CTX *context)
{
    (void)context;
    return 0;
}

int HMAC_Init_ex(HMAC_CTX *context, const void *key, size_t size, const EVP_MD *hash,
                 ENGINE *engine)
{
    (void)context, (void)key, (void)size, (void)hash, (void)engine;
    return 0;
}

/* Only the test of RSA keys that a validated module has to make calls what follows. Nothing here
   asks for that test; if anything did, these let it fail. */
EVP_PKEY *EVP_PKEY_new(void)
{
    return NULL;
}

void EVP_PKEY_free(EVP_PKEY *key)
{
    (void)key;
}

int EVP_PKEY_set1_RSA(EVP_PKEY *key, RSA *rsa)
{
    (void)key, (void)rsa;
    return 0;
}

int EVP_DigestSignInit(EVP_MD_CTX *context, EVP_PKEY_CTX **key_context, const EVP_MD *hash,
                       ENGINE *engine, EVP_PKEY *key)
{
    (void)context, (void)key_context, (void)hash, (void)engine, (void)key;
    return 0;
}

int EVP_DigestSign(EVP_MD_CTX *context, uint8_t *signature, size_t *size, const uint8_t *data,
                   size_t data_size)
{
    (void)context, (void)signature, (void)size, (void)data, (void)data_size;
    return 0;
}

int EVP_DigestVerifyInit(EVP_MD_CTX *context, EVP_PKEY_CTX **key_context, const EVP_MD *hash,
                         ENGINE *engine, EVP_PKEY *key)
{
    (void)context, (void)key_context, (void)hash, (void)engine, (void)key;
    return 0;
}

int EVP_DigestVerify(EVP_MD_CTX *context, const uint8_t *signature, size_t size,
                     const uint8_t *data, size_t data_size)
{
    (void)context, (void)signature, (void)size, (void)data, (void)data_size;
    return 0;
}
