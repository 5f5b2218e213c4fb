// Runs kernels.cu on the CPU, for tests on machines without a GPU: a block's threads are threads, blocks run one
// after another, memory is the process's own. It shows that the arithmetic and the indices are right; it shows
// nothing about memory models, warps or speed.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <pthread.h>
#include <thread>
#include <utility>
#include <vector>

struct Index {
    unsigned x, y;
};
static thread_local Index threadIdx, blockIdx;
static Index blockDim, gridDim;
static pthread_barrier_t together;

#define EMULATED
#define __global__
#define __device__
// One block at a time: its shared memory is the only one.
#define __shared__ static
#define __syncthreads() pthread_barrier_wait(&together)

using std::max;
using std::min;

struct bf16 {
    uint16_t bits;
};
static float widen(bf16 value) {
    uint32_t bits = (uint32_t)value.bits << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}
static void narrow(float value, bf16 *to) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    // To the nearest, ties to even; what is no number stays so.
    to->bits = value != value ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

#include "kernels.cu"

template <typename... A, size_t... I>
static void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*(A *)arguments[I]...);
}

template <typename... A> static int run(void (*kernel)(A...), unsigned threads, void **arguments) {
    pthread_barrier_init(&together, nullptr, threads);
    blockDim = {threads, 1};
    std::vector<std::thread> team;
    for (unsigned thread = 0; thread < threads; thread++)
        team.emplace_back([=] {
            threadIdx = {thread, 0};
            for (unsigned y = 0; y < gridDim.y; y++)
                for (unsigned x = 0; x < gridDim.x; x++) {
                    blockIdx = {x, y};
                    call(kernel, arguments, std::index_sequence_for<A...>{});
                    __syncthreads();
                }
        });
    for (auto &thread : team) thread.join();
    pthread_barrier_destroy(&together);
    return 0;
}

#define KERNEL(NAME) \
    if (!strcmp(name, #NAME)) return threads ? run(NAME, threads, arguments) : 0

// Launches a kernel by name, or with no threads only looks for it; returns 1 if there is none of that name.
extern "C" int emulate(const char *name, unsigned x, unsigned y, unsigned threads, void **arguments) {
    // Another launch may be running: who only looks changes nothing.
    if (threads) gridDim = {x, y};
    KERNEL(norm_within);
    KERNEL(add_branch);
    KERNEL(add_bias);
    KERNEL(gather);
    KERNEL(read_out);
    KERNEL(norm_f32);
    KERNEL(split_f32);
    KERNEL(attend_f32);
    KERNEL(glu_f32);
    KERNEL(norm_bf16);
    KERNEL(split_bf16);
    KERNEL(attend_bf16);
    KERNEL(glu_bf16);
    return 1;
}

// out (+)= x · wᵀ, both row by row; `wide` says whether they are f32.
extern "C" void multiply(const void *x, const void *w, float *out, int rows, int n, int k, int stride, int add,
                         int wide) {
    auto value = [wide](const void *from, size_t i) {
        return wide ? ((const float *)from)[i] : widen(((const bf16 *)from)[i]);
    };
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < n; column++) {
            float sum = 0;
            for (int i = 0; i < k; i++) sum += value(x, (size_t)row * k + i) * value(w, (size_t)column * k + i);
            float *to = out + (size_t)row * stride + column;
            *to = add ? *to + sum : sum;
        }
}
