// SPDX-License-Identifier: Apache-2.0
// The type traits that come from our own headers where a compiler lacks them.
#include <tuple>
#include <type_traits>

struct Class {
    int member;
    int method() const;
};
struct FromInt {
    FromInt(int);
};
struct Explicit {
    explicit Explicit(int);
};
struct ToInt {
    operator int() const;
};
struct Base {};
struct Derived : Base {};
struct Hidden : private Base {};
struct Immovable {
    Immovable(const Immovable &) = delete;
};
struct Abstract {
    virtual void f() = 0;
};
using Function = int(int);
using Qualified = int(int) const &;

static_assert(std::is_function<Function>::value, "");
static_assert(std::is_function<Qualified>::value, "");
static_assert(std::is_function<void(...) noexcept>::value, "");
static_assert(!std::is_function<Function *>::value, "");
static_assert(!std::is_function<int &>::value, "");
static_assert(!std::is_function<const int>::value, "");
static_assert(!std::is_function<volatile int>::value, "");
static_assert(!std::is_function<const volatile Class>::value, "");
static_assert(!std::is_function<const int[3]>::value, "");
static_assert(!std::is_function<void>::value, "");

static_assert(std::is_reference<int &>::value && std::is_reference<int &&>::value, "");
static_assert(!std::is_reference<int>::value && !std::is_reference<Function>::value, "");

static_assert(std::is_object<int>::value && std::is_object<Class[2]>::value, "");
static_assert(std::is_object<const Abstract>::value && std::is_object<Class *>::value, "");
static_assert(!std::is_object<void>::value && !std::is_object<const void>::value, "");
static_assert(!std::is_object<int &>::value && !std::is_object<Function>::value, "");

static_assert(std::is_member_pointer<int Class::*>::value, "");
static_assert(std::is_member_pointer<int (Class::*const)() const>::value, "");
static_assert(!std::is_member_pointer<int *>::value, "");
static_assert(std::is_member_object_pointer<int Class::*volatile>::value, "");
static_assert(!std::is_member_object_pointer<int (Class::*)()>::value, "");
static_assert(std::is_member_function_pointer<int (Class::*)() const &>::value, "");
static_assert(!std::is_member_function_pointer<int Class::*>::value, "");

static_assert(std::is_convertible<int, long>::value, "");
static_assert(std::is_convertible<int, FromInt>::value, "");
static_assert(!std::is_convertible<int, Explicit>::value, "");
static_assert(std::is_convertible<ToInt, int>::value, "");
static_assert(std::is_convertible<Derived *, Base *>::value, "");
static_assert(!std::is_convertible<Base *, Derived *>::value, "");
static_assert(!std::is_convertible<Hidden *, Base *>::value, "");
static_assert(!std::is_convertible<const int *, int *>::value, "");
static_assert(!std::is_convertible<int, int *>::value, "");
static_assert(!std::is_convertible<int, int &>::value, "");
static_assert(std::is_convertible<int &, const int &>::value, "");
static_assert(std::is_convertible<int, const int &>::value, "");
static_assert(std::is_convertible<int, int &&>::value, "");
static_assert(!std::is_convertible<Immovable, Immovable>::value, "");
static_assert(std::is_convertible<void, void>::value, "");
static_assert(std::is_convertible<const void, void>::value, "");
static_assert(!std::is_convertible<int, void>::value, "");
static_assert(!std::is_convertible<void, int>::value, "");
static_assert(std::is_convertible<Function, Function *>::value, "");
static_assert(!std::is_convertible<Function *, Function>::value, "");
static_assert(std::is_convertible<Function, Function &>::value, "");
static_assert(!std::is_convertible<int[3], int[3]>::value, "");
static_assert(std::is_convertible<int[3], int *>::value, "");
static_assert(std::is_convertible<int (&)[3], int (&)[3]>::value, "");
static_assert(!std::is_convertible<int, Abstract>::value, "");

static_assert(std::is_same<std::remove_cv_t<const volatile int>, int>::value, "");
static_assert(std::is_same<std::remove_cv_t<const int *>, const int *>::value, "");
static_assert(std::is_same<std::remove_cv_t<const int[2]>, int[2]>::value, "");
static_assert(std::is_same<std::remove_reference_t<const int &>, const int>::value, "");
static_assert(std::is_same<std::remove_reference_t<int &&>, int>::value, "");
static_assert(std::is_same<std::remove_reference_t<Qualified>, Qualified>::value, "");

static_assert(std::is_same<std::tuple_element_t<0, std::tuple<char, int>>, char>::value, "");
static_assert(std::is_same<std::tuple_element_t<1, std::tuple<char, int>>, int>::value, "");
