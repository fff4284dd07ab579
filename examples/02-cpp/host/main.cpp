// SPDX-License-Identifier: Apache-2.0
// The untrusted side: it moves what the owners give, and would see it only encrypted in earnest.
#include <iostream>
#include <string>

#include "enclave_u.h"
#include "sgx_urts.h"

void log_line(const char *text)
{
    std::cout << "  the enclave says: " << text << std::endl;
}

namespace {

class Enclave {
public:
    explicit Enclave(const std::string &file)
    {
        status_ = sgx_create_enclave(file.c_str(), SGX_DEBUG_FLAG, nullptr, nullptr, &id_, nullptr);
    }
    ~Enclave()
    {
        if (status_ == SGX_SUCCESS) sgx_destroy_enclave(id_);
    }
    Enclave(const Enclave &) = delete;

    sgx_status_t status() const { return status_; }
    sgx_enclave_id_t id() const { return id_; }

private:
    sgx_status_t status_;
    sgx_enclave_id_t id_ = 0;
};

// An ECALL has two answers: whether it was made, and what it returned.
void show(const std::string &what, sgx_status_t made, int answer)
{
    std::cout << what << ": " << std::hex << "0x" << (made != SGX_SUCCESS ? made : answer)
              << std::dec << std::endl;
}

}  // namespace

int main(int argc, char **argv)
{
    const Enclave enclave(argc > 1 ? argv[1] : "build/enclave.signed.so");
    if (enclave.status() != SGX_SUCCESS) {
        std::cerr << "the enclave can't be created: 0x" << std::hex << enclave.status() << std::endl;
        return 1;
    }
    int answer = 0;
    uint32_t count = 0;
    sgx_status_t made = add(enclave.id(), &answer, "north clinic", "rs1,rs2,rs3,rs5,rs8,rs13");
    show("north clinic", made, answer);
    made = add(enclave.id(), &answer, "south clinic", "rs2,rs3,rs5,rs7,rs11,rs13");
    show("south clinic", made, answer);
    made = add(enclave.id(), &answer, "village doctor", "rs1,rs99");
    show("village doctor", made, answer);

    made = count_common(enclave.id(), &answer, "north clinic", "south clinic", &count);
    show("north and south", made, answer);
    std::cout << "They share " << count << " variants." << std::endl;
    made = count_common(enclave.id(), &answer, "north clinic", "village doctor", &count);
    show("north and village", made, answer);
    made = count_common(enclave.id(), &answer, "north clinic", "nobody", &count);
    show("north and nobody", made, answer);
    return 0;
}
