/* SPDX-License-Identifier: Apache-2.0 */
/* libsgx_dcap_ql: quotes by the platform service, with the status codes of DCAP's library.
 * The platform has no enclaves for quoting that could be loaded, unloaded, or lie at a path: what
 * is said about them is checked and has no effect. */
#include "sgx_dcap_ql_wrapper.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quoting.h"

#define ANSWER __attribute__((visibility("default")))

enum { LONGEST_PATH = 259 }; /* as the vendor's library takes */

static pthread_mutex_t tracing = PTHREAD_MUTEX_INITIALIZER;
static sgx_ql_logging_callback_t trace_callback;

/* Tell whoever wants to know that a call failed, and return why. */
static quote3_error_t failed(const char *call, quote3_error_t status, int error) {
    char text[160];

    pthread_mutex_lock(&tracing);
    sgx_ql_logging_callback_t callback = trace_callback;
    pthread_mutex_unlock(&tracing); /* the callback may set another */
    if (callback) {
        snprintf(text, sizeof text, "%s: 0x%04x%s%s\n", call, (unsigned)status,
                 error < 0 ? ", the platform service: " : "", error < 0 ? strerror(-error) : "");
        callback(SGX_QL_LOG_ERROR, text);
    }
    return status;
}

static quote3_error_t status_of(int error) {
    switch (error) {
    case QUOTE_DONE:
        return SGX_QL_SUCCESS;
    case QUOTE_BAD_REPORT:
        return SGX_QL_INVALID_REPORT;
    case -ENOMEM:
        return SGX_QL_ERROR_OUT_OF_MEMORY;
    case -ETIMEDOUT:
        return SGX_QL_SERVICE_TIMEOUT;
    default:
        return SGX_QL_SERVICE_UNAVAILABLE;
    }
}

/* Programs choose the vendor's daemon by this variable; some calls are not for them then. */
static bool is_out_of_process(void) {
    return getenv("SGX_AESM_ADDR") != NULL;
}

ANSWER quote3_error_t sgx_qe_set_enclave_load_policy(sgx_ql_request_policy_t policy) {
    if (is_out_of_process())
        return failed(__func__, SGX_QL_UNSUPPORTED_MODE, 0);
    if (policy != SGX_QL_PERSISTENT && policy != SGX_QL_EPHEMERAL)
        return failed(__func__, SGX_QL_UNSUPPORTED_LOADING_POLICY, 0);
    return SGX_QL_SUCCESS;
}

ANSWER quote3_error_t sgx_qe_get_target_info(sgx_target_info_t *p_qe_target_info) {
    struct quoter quoter;

    if (!p_qe_target_info)
        return failed(__func__, SGX_QL_ERROR_INVALID_PARAMETER, 0);
    memset(p_qe_target_info, 0, sizeof *p_qe_target_info);
    int socket = quoting_open(&quoter);
    if (socket < 0)
        return failed(__func__, status_of(socket), socket);
    quoting_close(socket);
    *p_qe_target_info = quoter.target;
    return SGX_QL_SUCCESS;
}

ANSWER quote3_error_t sgx_qe_get_quote_size(uint32_t *p_quote_size) {
    struct quoter quoter;

    if (!p_quote_size)
        return failed(__func__, SGX_QL_ERROR_INVALID_PARAMETER, 0);
    int socket = quoting_open(&quoter);
    if (socket < 0)
        return failed(__func__, status_of(socket), socket);
    quoting_close(socket);
    *p_quote_size = quoter.quote_size;
    return SGX_QL_SUCCESS;
}

ANSWER quote3_error_t sgx_qe_get_quote(const sgx_report_t *p_app_report, uint32_t quote_size,
                                       uint8_t *p_quote) {
    struct quoter quoter;

    if (!p_app_report || !p_quote)
        return failed(__func__, SGX_QL_ERROR_INVALID_PARAMETER, 0);
    int socket = quoting_open(&quoter);
    if (socket < 0)
        return failed(__func__, status_of(socket), socket);
    if (quote_size < quoter.quote_size) {
        quoting_close(socket);
        return failed(__func__, SGX_QL_ERROR_INVALID_PARAMETER, 0);
    }
    int error = quoting_make(socket, p_app_report, NULL, p_quote, quoter.quote_size);
    quoting_close(socket);
    return error ? failed(__func__, status_of(error), error) : SGX_QL_SUCCESS;
}

ANSWER quote3_error_t sgx_qe_cleanup_by_policy(void) {
    return is_out_of_process() ? failed(__func__, SGX_QL_UNSUPPORTED_MODE, 0) : SGX_QL_SUCCESS;
}

ANSWER quote3_error_t sgx_ql_set_path(sgx_ql_path_type_t path_type, const char *p_path) {
    if (is_out_of_process())
        return failed(__func__, SGX_QL_UNSUPPORTED_MODE, 0);
    if ((unsigned)path_type > SGX_QL_IDE_PATH || !p_path || !*p_path ||
        strnlen(p_path, LONGEST_PATH + 1) > LONGEST_PATH)
        return failed(__func__, SGX_QL_ERROR_INVALID_PARAMETER, 0);
    return SGX_QL_SUCCESS;
}

ANSWER quote3_error_t sgx_ql_set_trace_callback(sgx_ql_logging_callback_t logger,
                                                sgx_ql_log_level_t loglevel) {
    const bool wanted = (unsigned)loglevel <= SGX_QL_LOG_TRACE; /* errors belong to every level */

    pthread_mutex_lock(&tracing);
    trace_callback = wanted ? logger : NULL;
    pthread_mutex_unlock(&tracing);
    return SGX_QL_SUCCESS;
}
