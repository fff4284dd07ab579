/* SPDX-License-Identifier: Apache-2.0 */
/* A program that gets quotes of its enclave, by both interfaces: quotes ENCLAVE SCENARIO [FILE]. */
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "quoted_u.h"
#include "sgx_dcap_ql_wrapper.h"
#include "sgx_quote_3.h"
#include "sgx_uae_quote_ex.h"
#include "sgx_urts.h"

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            std::_Exit(1);                                                          \
        }                                                                           \
    } while (0)

using Bytes = std::vector<uint8_t>;

static_assert(sizeof(sgx_quote3_t) == 436 && sizeof(sgx_quote_header_t) == 48, "sgx_quote3_t");
static_assert(sizeof(sgx_ql_ecdsa_sig_data_t) == 576, "sgx_ql_ecdsa_sig_data_t");
static_assert(sizeof(sgx_ql_ppid_rsa3072_encrypted_cert_info_t) == 404, "certification data");
static_assert(sizeof(sgx_ql_att_key_id_list_header_t) == 8, "a list of keys");

static sgx_enclave_id_t enclave;

static void write(const std::string &file, const void *data, size_t size)
{
    std::ofstream stream(file, std::ios::binary);
    stream.write(static_cast<const char *>(data), static_cast<std::streamsize>(size));
    CHECK(stream.good());
}

static sgx_report_t report_for(const sgx_target_info_t &target, const char *said)
{
    sgx_report_data_t data = {};
    sgx_report_t report = {};
    int result = -1;
    std::strncpy(reinterpret_cast<char *>(data.d), said, sizeof data.d);
    CHECK(report_for(enclave, &result, &target, &data, &report) == SGX_SUCCESS && result == 0);
    return report;
}

static Bytes by_dcap(const char *said)
{
    sgx_target_info_t target;
    uint32_t size = 0;
    CHECK(sgx_qe_get_target_info(&target) == SGX_QL_SUCCESS);
    const sgx_report_t report = report_for(target, said);
    CHECK(sgx_qe_get_quote_size(&size) == SGX_QL_SUCCESS);
    Bytes quote(size);
    CHECK(sgx_qe_get_quote(&report, size, quote.data()) == SGX_QL_SUCCESS);
    return quote;
}

static Bytes by_quote_ex(const char *said, sgx_qe_report_info_t *info)
{
    sgx_att_key_id_t key;
    sgx_target_info_t target;
    size_t hash_size = 0;
    uint32_t size = 0;
    CHECK(sgx_select_att_key_id(nullptr, 0, &key) == SGX_SUCCESS);
    CHECK(sgx_init_quote_ex(&key, &target, &hash_size, nullptr) == SGX_SUCCESS && hash_size == 32);
    Bytes hash(hash_size);
    CHECK(sgx_init_quote_ex(&key, &target, &hash_size, hash.data()) == SGX_SUCCESS);
    CHECK(sgx_get_quote_size_ex(&key, &size) == SGX_SUCCESS);
    const sgx_report_t report = report_for(target, said);
    Bytes quote(size);
    CHECK(sgx_get_quote_ex(&report, &key, info, quote.data(), size) == SGX_SUCCESS);
    return quote;
}

static void dcap(const std::string &file)
{
    CHECK(sgx_ql_set_path(SGX_QL_QE3_PATH, "/usr/lib/libsgx_qe3.signed.so.1") == SGX_QL_SUCCESS);
    CHECK(sgx_qe_set_enclave_load_policy(SGX_QL_EPHEMERAL) == SGX_QL_SUCCESS);
    const Bytes quote = by_dcap("by dcap_ql");
    auto whole = reinterpret_cast<const sgx_quote3_t *>(quote.data());
    auto signature = reinterpret_cast<const sgx_ql_ecdsa_sig_data_t *>(whole->signature_data);
    auto auth = reinterpret_cast<const sgx_ql_auth_data_t *>(signature->auth_certification_data);
    auto chain = reinterpret_cast<const sgx_ql_certification_data_t *>(auth->auth_data + auth->size);
    CHECK(whole->header.version == 3 && whole->header.att_key_type == SGX_QL_ALG_ECDSA_P256);
    CHECK(chain->cert_key_type == PCK_CERT_CHAIN);
    CHECK(chain->certification_data + chain->size == quote.data() + quote.size());
    write(file, quote.data(), quote.size());
    CHECK(sgx_qe_cleanup_by_policy() == SGX_QL_SUCCESS);
}

/* The QE's REPORT is checked by the enclave; what it says of the quote, by the test. */
static void quote_ex(const std::string &file)
{
    sgx_qe_report_info_t info = {};
    int result = -1;
    std::memset(info.nonce.rand, 0x5a, sizeof info.nonce.rand);
    CHECK(who_am_i(enclave, &result, &info.app_enclave_target_info) == SGX_SUCCESS && result == 0);
    const Bytes quote = by_quote_ex("by quote_ex", &info);
    CHECK(is_from_here(enclave, &result, &info.qe_report) == SGX_SUCCESS && result == 0);
    write(file, quote.data(), quote.size());
    write(file + ".proof", &info.qe_report, sizeof info.qe_report);
}

static void many(const std::string &)
{
    std::vector<std::thread> threads;
    std::atomic<int> made{0};
    for (int each = 0; each < 8; each++)
        threads.emplace_back([each, &made] {
            for (int i = 0; i < 5; i++) {
                const std::string said = std::to_string(each) + "." + std::to_string(i);
                const Bytes quote =
                    each % 2 ? by_dcap(said.c_str()) : by_quote_ex(said.c_str(), nullptr);
                auto whole = reinterpret_cast<const sgx_quote3_t *>(quote.data());
                CHECK(said == reinterpret_cast<const char *>(whole->report_body.report_data.d));
                made++;
            }
        });
    for (std::thread &thread : threads) thread.join();
    CHECK(made == 40);
}

/* A child has no enclave, and can have a REPORT of its parent's quoted. */
static void forks(const std::string &)
{
    sgx_target_info_t target;
    uint32_t size = 0;
    int status = -1;
    CHECK(sgx_qe_get_target_info(&target) == SGX_QL_SUCCESS);
    const sgx_report_t report = report_for(target, "parent");
    const pid_t child = fork();
    if (child == 0) {
        CHECK(sgx_qe_get_quote_size(&size) == SGX_QL_SUCCESS);
        Bytes quote(size);
        CHECK(sgx_qe_get_quote(&report, size, quote.data()) == SGX_QL_SUCCESS);
        std::_Exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    by_dcap("parent still");
}

static std::string told;

static void tell(sgx_ql_log_level_t level, const char *message)
{
    CHECK(level == SGX_QL_LOG_ERROR);
    told = message;
}

static void dcap_refuses(const std::string &)
{
    sgx_target_info_t target = {};
    uint32_t size = 0;
    CHECK(sgx_qe_get_target_info(nullptr) == SGX_QL_ERROR_INVALID_PARAMETER);
    CHECK(sgx_qe_get_quote_size(nullptr) == SGX_QL_ERROR_INVALID_PARAMETER);
    CHECK(sgx_qe_get_quote_size(&size) == SGX_QL_SUCCESS && size > sizeof(sgx_quote3_t));
    Bytes quote(size + 64, 0xcc);
    const sgx_report_t elsewhere = report_for(target, "for nobody");
    CHECK(sgx_qe_get_target_info(&target) == SGX_QL_SUCCESS);
    sgx_report_t report = report_for(target, "for the QE");
    CHECK(sgx_qe_get_quote(nullptr, size, quote.data()) == SGX_QL_ERROR_INVALID_PARAMETER);
    CHECK(sgx_qe_get_quote(&report, size, nullptr) == SGX_QL_ERROR_INVALID_PARAMETER);
    for (uint32_t few : {0u, 1u, size - 1})
        CHECK(sgx_qe_get_quote(&report, few, quote.data()) == SGX_QL_ERROR_INVALID_PARAMETER);
    CHECK(sgx_ql_set_trace_callback(tell, SGX_QL_LOG_ERROR) == SGX_QL_SUCCESS);
    CHECK(sgx_qe_get_quote(&elsewhere, size, quote.data()) == SGX_QL_INVALID_REPORT);
    CHECK(told == "sgx_qe_get_quote: 0xe015\n");
    CHECK(sgx_ql_set_trace_callback(nullptr, SGX_QL_LOG_ERROR) == SGX_QL_SUCCESS);
    report.body.isv_svn ^= 1;
    CHECK(sgx_qe_get_quote(&report, size, quote.data()) == SGX_QL_INVALID_REPORT);
    report.body.isv_svn ^= 1;
    CHECK(quote == Bytes(size + 64, 0xcc)); /* nothing was written so far */
    CHECK(sgx_qe_get_quote(&report, size + 64, quote.data()) == SGX_QL_SUCCESS);
    CHECK(Bytes(quote.end() - 64, quote.end()) == Bytes(64, 0xcc));
    CHECK(sgx_qe_set_enclave_load_policy(static_cast<sgx_ql_request_policy_t>(7)) ==
          SGX_QL_UNSUPPORTED_LOADING_POLICY);
    CHECK(sgx_ql_set_path(SGX_QL_PCE_PATH, nullptr) == SGX_QL_ERROR_INVALID_PARAMETER);
    CHECK(sgx_ql_set_path(SGX_QL_PCE_PATH, std::string(260, 'x').c_str()) ==
          SGX_QL_ERROR_INVALID_PARAMETER);
    CHECK(sgx_ql_set_path(static_cast<sgx_ql_path_type_t>(9), "x") ==
          SGX_QL_ERROR_INVALID_PARAMETER);
    setenv("SGX_AESM_ADDR", "1", 1);
    CHECK(sgx_ql_set_path(SGX_QL_PCE_PATH, "x") == SGX_QL_UNSUPPORTED_MODE);
    CHECK(sgx_qe_set_enclave_load_policy(SGX_QL_PERSISTENT) == SGX_QL_UNSUPPORTED_MODE);
    CHECK(sgx_qe_cleanup_by_policy() == SGX_QL_UNSUPPORTED_MODE);
    CHECK(sgx_qe_get_quote(&report, size, quote.data()) == SGX_QL_SUCCESS);
}

struct List {
    sgx_ql_att_key_id_list_header_t header;
    sgx_att_key_id_ext_t keys[10];
};

static sgx_status_t select_of(const List &list, uint32_t count, sgx_att_key_id_t *key)
{
    const size_t size = sizeof list.header + count * sizeof list.keys[0];
    return sgx_select_att_key_id(reinterpret_cast<const uint8_t *>(&list),
                                 static_cast<uint32_t>(size), key);
}

static void keys(const std::string &)
{
    List list = {};
    sgx_att_key_id_ext_t own = {};
    sgx_att_key_id_t key = {};
    uint32_t count = 0;
    CHECK(sgx_get_supported_att_key_id_num(nullptr) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_get_supported_att_key_id_num(&count) == SGX_SUCCESS && count == 1);
    CHECK(sgx_get_supported_att_key_ids(nullptr, 1) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_get_supported_att_key_ids(&own, 0) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_get_supported_att_key_ids(&own, 2) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_get_supported_att_key_ids(&own, 1) == SGX_SUCCESS);
    CHECK(own.base.algorithm_id == SGX_QL_ALG_ECDSA_P256 && own.base.mrsigner_length == 32);
    CHECK(sgx_select_att_key_id(nullptr, 0, nullptr) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_select_att_key_id(nullptr, 8, &key) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_select_att_key_id(nullptr, 0, &key) == SGX_SUCCESS);
    CHECK(std::memcmp(&key, &own, sizeof own) == 0);

    list.header.num_att_ids = 2;
    list.keys[0].base.algorithm_id = SGX_QL_ALG_EPID;
    list.keys[1] = own;
    list.keys[1].spid[0] = 0x77; /* comes back as it is */
    CHECK(select_of(list, 2, &key) == SGX_SUCCESS);
    CHECK(std::memcmp(&key, &list.keys[1], sizeof key) == 0);
    static const uint8_t vendor[] = {0x8c, 0x4f, 0x57, 0x75, 0xd7, 0x96, 0x50, 0x3e, 0x96, 0x13, 0x7f,
                                     0x77, 0xc6, 0x8a, 0x82, 0x9a, 0x00, 0x56, 0xac, 0x8d, 0xed, 0x70,
                                     0x14, 0x0b, 0x08, 0x1b, 0x09, 0x44, 0x90, 0xc5, 0x7b, 0xff};
    std::memcpy(list.keys[1].base.mrsigner, vendor, sizeof vendor); /* as programs have built in */
    CHECK(select_of(list, 2, &key) == SGX_SUCCESS);
    CHECK(sgx_get_quote_size_ex(&key, &count) == SGX_SUCCESS && count > sizeof(sgx_quote3_t));
    list.keys[1].base.prod_id = 2;
    CHECK(select_of(list, 2, &key) == SGX_ERROR_UNSUPPORTED_ATT_KEY_ID);
    list.keys[1] = own;
    for (uint32_t wrong : {0u, 1u, 3u}) CHECK(select_of(list, wrong, &key) != SGX_SUCCESS);
    list.header.version = 1;
    CHECK(select_of(list, 2, &key) == SGX_ERROR_INVALID_PARAMETER);
    list.header = {0, 0, 1};
    CHECK(select_of(list, 1, &key) == SGX_ERROR_UNSUPPORTED_ATT_KEY_ID); /* EPID */
    list.header.num_att_ids = 0xffffffff;
    CHECK(select_of(list, 10, &key) == SGX_ERROR_INVALID_PARAMETER);
}

static void quote_ex_refuses(const std::string &)
{
    sgx_att_key_id_t key, epid = {};
    sgx_target_info_t target = {};
    sgx_qe_report_info_t info = {};
    uint8_t hash[64];
    size_t hash_size = 0;
    uint32_t size = 0;
    const sgx_report_t elsewhere = report_for(target, "for nobody");
    CHECK(sgx_select_att_key_id(nullptr, 0, &key) == SGX_SUCCESS);

    CHECK(sgx_init_quote_ex(nullptr, &target, &hash_size, nullptr) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_init_quote_ex(&key, nullptr, &hash_size, nullptr) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_init_quote_ex(&key, &target, nullptr, nullptr) == SGX_ERROR_INVALID_PARAMETER);
    for (size_t wrong : {size_t(0), size_t(31), size_t(33), size_t(-1)}) {
        hash_size = wrong;
        CHECK(sgx_init_quote_ex(&key, &target, &hash_size, hash) == SGX_ERROR_INVALID_PARAMETER);
    }
    hash_size = 32;
    CHECK(sgx_init_quote_ex(&epid, &target, &hash_size, hash) == SGX_ERROR_UNSUPPORTED_ATT_KEY_ID);
    CHECK(sgx_init_quote_ex(&key, &target, &hash_size, hash) == SGX_SUCCESS);

    CHECK(sgx_get_quote_size_ex(nullptr, &size) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_get_quote_size_ex(&key, nullptr) == SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_get_quote_size_ex(&epid, &size) == SGX_ERROR_UNSUPPORTED_ATT_KEY_ID);
    CHECK(sgx_get_quote_size_ex(&key, &size) == SGX_SUCCESS);

    const sgx_report_t report = report_for(target, "for the QE");
    Bytes quote(size, 0xcc);
    CHECK(sgx_get_quote_ex(nullptr, &key, nullptr, quote.data(), size) ==
          SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_get_quote_ex(&report, nullptr, nullptr, quote.data(), size) ==
          SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_get_quote_ex(&report, &key, nullptr, nullptr, size) == SGX_ERROR_INVALID_PARAMETER);
    for (uint32_t few : {0u, size - 1})
        CHECK(sgx_get_quote_ex(&report, &key, nullptr, quote.data(), few) ==
              SGX_ERROR_INVALID_PARAMETER);
    CHECK(sgx_get_quote_ex(&report, &epid, nullptr, quote.data(), size) ==
          SGX_ERROR_UNSUPPORTED_ATT_KEY_ID);
    CHECK(sgx_get_quote_ex(&elsewhere, &key, nullptr, quote.data(), size) ==
          SGX_ERROR_MAC_MISMATCH);
    info.app_enclave_target_info.config_svn = 1;
    CHECK(sgx_get_quote_ex(&elsewhere, &key, &info, quote.data(), size) == SGX_ERROR_MAC_MISMATCH);
    CHECK(quote == Bytes(size, 0xcc)); /* nothing was written so far */
    CHECK(sgx_get_quote_ex(&report, &key, nullptr, quote.data(), size) == SGX_SUCCESS);
}

/* Without an enclave, and with a service that is not there or does not answer. */
static void alone(const std::string &)
{
    sgx_target_info_t target;
    sgx_att_key_id_t key;
    std::printf("0x%x 0x%x\n", sgx_qe_get_target_info(&target),
                sgx_select_att_key_id(nullptr, 0, &key));
}

int main(int count, char **arguments)
{
    const struct {
        const char *name;
        void (*run)(const std::string &file);
    } scenarios[] = {{"dcap", dcap},   {"quote-ex", quote_ex},
                     {"many", many},   {"dcap-refuses", dcap_refuses},
                     {"keys", keys},   {"quote-ex-refuses", quote_ex_refuses},
                     {"forks", forks}, {"alone", alone}};
    CHECK(count > 2);
    const std::string scenario = arguments[2];
    if (scenario != "alone")
        CHECK(sgx_create_enclave(arguments[1], 0, nullptr, nullptr, &enclave, nullptr) ==
              SGX_SUCCESS);
    for (const auto &each : scenarios)
        if (scenario == each.name) {
            each.run(count > 3 ? arguments[3] : "");
            std::puts("done");
            return 0;
        }
    return 3;
}
