// SPDX-License-Identifier: Apache-2.0
// Every template of sgx_random_buffers.h, used as its documentation says.
#include <sgx_random_buffers.h>

#include <set>

#define CHECK(condition) \
    if (!(condition)) return __LINE__

static int alive;

struct key {
    unsigned char bytes[24];
    explicit key(unsigned char fill = 7)
    {
        memset(bytes, fill, sizeof bytes);
        alive++;
    }
    ~key() { alive--; }
};

static const char *where(int)
{
    char here;
    const char *volatile at = &here;
    return at;
}

template <class Buffer>
static bool holds(const Buffer &buffer, const void *object, std::size_t size)
{
    const char *start = reinterpret_cast<const char *>(&buffer), *at = static_cast<const char *>(object);
    return at >= start && at + size <= start + sizeof buffer;
}

static int on_stack()
{
    std::set<const key *> places;
    for (int i = 0; i < 64; i++) {
        randomly_placed_object<key> buffer;
        key *object = buffer.instantiate_object(static_cast<unsigned char>(i));
        CHECK(holds(buffer, object, sizeof *object) && object->bytes[23] == i && alive == 1);
        places.insert(object);
        key stranger;
        CHECK(buffer.destroy(&stranger) == 1 && alive == 2);
        CHECK(buffer.destroy(object) == 0 && alive == 1);
    }
    CHECK(places.size() > 8 && alive == 0);
    return 0;
}

template <class T, std::size_t A>
static int on_heap()
{
    using buffer_type = randomly_placed_buffer<T, A>;
    for (int i = 0; i < 32; i++) {
        auto *buffer = new (3) buffer_type;
        T *array = buffer->instantiate_array(3);
        CHECK(reinterpret_cast<std::size_t>(array) % A == 0);
        CHECK(reinterpret_cast<std::size_t>(buffer) % A == 0);
        CHECK(buffer->destroy(array, 3) == 0);
        buffer->wipe(3);
        delete buffer;
        delete new buffer_type;
    }
    void *room = malloc(randomly_placed_buffer<T, 8>::size(2));
    using placed_type = randomly_placed_buffer<T, 8>;
    auto *placed = new (room) placed_type;
    CHECK(placed->instantiate_array(2) != nullptr);
    placed->~placed_type();
    free(room);
    return 0;
}

int main()
{
    CHECK(on_stack() == 0);
    CHECK((on_heap<long, 8>()) == 0);
    CHECK((on_heap<long, 64>()) == 0);

    unsigned short numbers[64] = {};
    CHECK(random_integers(numbers, sizeof numbers) == numbers);
    CHECK(random_integers(numbers, 3) == nullptr);
    CHECK(std::set<unsigned short>(numbers, numbers + 64).size() > 8);
    unsigned char bytes[67] = {};
    CHECK(random_fill(bytes, 66) == bytes && bytes[66] == 0);
    CHECK(std::set<unsigned char>(bytes, bytes + 66).size() > 8);

    std::set<const char *> frames;
    for (int i = 0; i < 64; i++) frames.insert(random_stack_advance<0x800>(where, i));
    CHECK(frames.size() > 8);
    return 0;
}
