// Preloaded into a program: its allocation number UHD_FAIL_ALLOCATION (from 1) fails. Counts only calls that the program
// itself makes, not those of the C library for its own needs; the count goes to stderr at UHD_FAIL_ALLOCATION=0.
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>

namespace {

std::atomic<int> calls{0};
int wanted = -1;

bool fails(void* caller) {
  Dl_info info;
  if (wanted < 0) {
    const char* text = getenv("UHD_FAIL_ALLOCATION");
    wanted = text ? atoi(text) : 0;
  }
  if (!dladdr(caller, &info) || !info.dli_fname || strstr(info.dli_fname, ".so")) return false;
  const int number = ++calls;
  if (wanted == 0) {
    const char mark[] = "allocation\n";
    if (write(2, mark, sizeof(mark) - 1) < 0) abort();
  }
  return number == wanted;
}

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

void* malloc(size_t size) {
  static auto real = next<void* (*)(size_t)>("malloc");
  return fails(__builtin_return_address(0)) ? nullptr : real(size);
}

void* aligned_alloc(size_t alignment, size_t size) {
  static auto real = next<void* (*)(size_t, size_t)>("aligned_alloc");
  return fails(__builtin_return_address(0)) ? nullptr : real(alignment, size);
}

}  // extern "C"
