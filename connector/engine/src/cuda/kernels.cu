// The operations between matrix products, for CUDA. The kernels of `../kernels` are the reference: what
// each one computes is said there. Everything is f32 but for the inputs of products, keys and values, which
// are of type T, f32 or bf16.
//
// A kernel may be launched with any number of threads that is a power of two and at most 256; each handles
// what lies that many apart. `emulator.cpp` includes this file and runs it on the CPU with few threads, so
// only blocks' shared memory and __syncthreads() are used to talk between threads.

#ifndef EMULATED
#include <cuda_bf16.h>
typedef __nv_bfloat16 bf16;
__device__ inline float widen(bf16 value) { return __bfloat162float(value); }
__device__ inline void narrow(float value, bf16 *to) { *to = __float2bfloat16(value); }
#endif
__device__ inline float widen(float value) { return value; }
__device__ inline void narrow(float value, float *to) { *to = value; }

// Most threads of a block, and most components of a head.
const int MOST_THREADS = 256, MOST_HEAD = 256;
// Keys that a block looks at together; few where it is emulated, so that short contexts have more.
#ifdef EMULATED
const int KEYS = 64;
#else
const int KEYS = 256;
#endif
// Tokens of a page.
const int PAGE = 16;

// The sum of a value of each thread, or the largest; every thread gets it.
template <bool LARGEST> __device__ float of_block(float value) {
    __shared__ float values[MOST_THREADS];
    values[threadIdx.x] = value;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            float other = values[threadIdx.x + half];
            values[threadIdx.x] = LARGEST ? fmaxf(values[threadIdx.x], other) : values[threadIdx.x] + other;
        }
        __syncthreads();
    }
    float result = values[0];
    __syncthreads();
    return result;
}

// What a row is multiplied by for a root mean square of one.
__device__ float rms_factor(const float *row, int n, float epsilon) {
    float squares = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) squares += row[i] * row[i];
    return 1.0f / sqrtf(of_block<false>(squares) / n + epsilon);
}

// Where `weight` is null, rows stay as they are. Blocks: rows.
template <typename T> __device__ void norm(const float *x, const float *weight, T *out, int n, float epsilon) {
    const float *row = x + (size_t)blockIdx.x * n;
    float factor = weight ? rms_factor(row, n, epsilon) : 1.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        narrow(weight ? row[i] * factor * weight[i] : row[i], out + (size_t)blockIdx.x * n + i);
}

// The first n values of rows that begin `stride` values apart, in place. Blocks: rows.
extern "C" __global__ void norm_within(float *rows, const float *weight, int n, int stride, float epsilon) {
    float *row = rows + (size_t)blockIdx.x * stride;
    float factor = rms_factor(row, n, epsilon);
    for (int i = threadIdx.x; i < n; i += blockDim.x) row[i] = row[i] * factor * weight[i];
}

// x += norm(branch) · scale, or branch · scale where `weight` is null. Blocks: rows.
extern "C" __global__ void add_branch(float *x, const float *branch, const float *weight, int n, float epsilon,
                                      float scale) {
    const float *row = branch + (size_t)blockIdx.x * n;
    float factor = weight ? rms_factor(row, n, epsilon) : 1.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        x[(size_t)blockIdx.x * n + i] += (weight ? row[i] * factor * weight[i] : row[i]) * scale;
}

// Adds a bias of n values to rows that begin `stride` values apart. Blocks: rows.
extern "C" __global__ void add_bias(float *rows, const float *bias, int n, int stride) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) rows[(size_t)blockIdx.x * stride + i] += bias[i];
}

// Copies the rows that `which` names. Blocks: rows of the result.
extern "C" __global__ void gather(const float *from, const unsigned *which, float *to, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        to[(size_t)blockIdx.x * n + i] = from[(size_t)which[blockIdx.x] * n + i];
}

// From rows of `qkv` to rotated queries [row][head][d], and keys and values in pages [page][kv head][16][d].
// `q_norm` and `k_norm` may be null. Blocks: rows, heads + 2 kv_heads.
template <typename T>
__device__ void split(const float *qkv, const float *q_norm, const float *k_norm, const float *angles,
                      const int *positions, const unsigned *tables, const unsigned *pages, float *queries, T *keys,
                      T *values, int heads, int kv_heads, int head, float epsilon) {
    int row = blockIdx.x, part = blockIdx.y, half = head / 2, position = positions[row];
    const float *from = qkv + ((size_t)row * (heads + 2 * kv_heads) + part) * head;
    bool query = part < heads, value = part >= heads + kv_heads;
    int kv_head = query ? 0 : (part - heads) % kv_heads;
    size_t page = pages[tables[row] + position / PAGE];
    size_t slot = ((page * kv_heads + kv_head) * PAGE + position % PAGE) * head;
    if (value) {
        for (int d = threadIdx.x; d < head; d += blockDim.x) narrow(from[d], values + slot + d);
        return;
    }
    const float *weight = query ? q_norm : k_norm;
    float factor = weight ? rms_factor(from, head, epsilon) : 1.0f;
    const float *cosines = angles + (size_t)position * head, *sines = cosines + half;
    for (int d = threadIdx.x; d < half; d += blockDim.x) {
        float a = from[d], b = from[d + half];
        if (weight) a = a * factor * weight[d], b = b * factor * weight[d + half];
        float first = a * cosines[d] - b * sines[d], second = b * cosines[d] + a * sines[d];
        if (query) {
            float *to = queries + ((size_t)row * heads + part) * head;
            to[d] = first, to[d + half] = second;
        } else {
            narrow(first, keys + slot + d), narrow(second, keys + slot + d + half);
        }
    }
}

// What is read at once: 16 bytes.
template <typename T> struct alignas(16) Wide {
    static const int COUNT = 16 / sizeof(T);
    T values[COUNT];
};

template <typename T> __device__ float dot(const float *query, const T *key, int head) {
    float sum = 0;
    if (head % Wide<T>::COUNT != 0) {
        for (int d = 0; d < head; d++) sum += query[d] * widen(key[d]);
        return sum;
    }
    for (int d = 0; d < head; d += Wide<T>::COUNT) {
        Wide<T> some = *(const Wide<T> *)(key + d);
        for (int i = 0; i < Wide<T>::COUNT; i++) sum += query[d + i] * widen(some.values[i]);
    }
    return sum;
}

// Attention of the rows that `which` names over their sequence's pages; a window of 0 is none, a cap of 0 none.
// Softmax is taken online, KEYS keys at a time: a thread scores whole keys, and as many groups of `head` threads as
// there are mix the values of every so many keys. Blocks: rows of the result, heads.
template <typename T>
__device__ void attend(const float *queries, const T *keys, const T *values, const unsigned *which,
                       const int *positions, const unsigned *tables, const unsigned *pages, T *out, int heads,
                       int kv_heads, int head, int window, float scale, float cap) {
    __shared__ float query[MOST_HEAD], sums[MOST_HEAD], weights[KEYS], mixed[MOST_THREADS];
    int row = which[blockIdx.x], at = blockIdx.y, kv_head = at / (heads / kv_heads);
    int last = positions[row], first = window > 0 && last >= window ? last + 1 - window : 0;
    const unsigned *table = pages + tables[row];
    for (int d = threadIdx.x; d < head; d += blockDim.x) {
        query[d] = queries[((size_t)row * heads + at) * head + d] * scale;
        sums[d] = 0;
    }
    float largest = -INFINITY, total = 0;
    for (int start = first; start <= last; start += KEYS) {
        int count = min(KEYS, last + 1 - start);
        __syncthreads();
        // Not zero where a score is no number or infinite, of which a cap or `expf` would make one again.
        float best = -INFINITY, zeros = 0;
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            size_t page = table[(start + i) / PAGE];
            const T *key = keys + ((page * kv_heads + kv_head) * PAGE + (start + i) % PAGE) * head;
            float score = dot(query, key, head);
            zeros += score * 0.0f;
            if (cap > 0) score = cap * tanhf(score / cap);
            weights[i] = score;
            best = fmaxf(best, score);
        }
        best = fmaxf(largest, of_block<true>(best));
        float shrink = expf(largest - best), sum = zeros;
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            weights[i] = expf(weights[i] - best);
            sum += weights[i];
        }
        total = total * shrink + of_block<false>(sum);
        largest = best;
        int groups = max(1, (int)blockDim.x / head);
        for (int place = threadIdx.x; place < groups * head; place += blockDim.x) {
            float value = 0;
            for (int i = place / head; i < count; i += groups) {
                size_t page = table[(start + i) / PAGE];
                size_t key = (page * kv_heads + kv_head) * PAGE + (start + i) % PAGE;
                value += weights[i] * widen(values[key * head + place % head]);
            }
            mixed[place] = value;
        }
        __syncthreads();
        for (int d = threadIdx.x; d < head; d += blockDim.x) {
            sums[d] *= shrink;
            for (int group = 0; group < groups; group++) sums[d] += mixed[group * head + d];
        }
    }
    for (int d = threadIdx.x; d < head; d += blockDim.x)
        narrow(sums[d] / total, out + ((size_t)blockIdx.x * heads + at) * head + d);
}

// act(gate) · up; 0 is SiLU, 1 GELU's tanh form, 2 GELU. Blocks: rows, any number.
template <typename T> __device__ void glu(const float *gate_up, T *out, int n, int activation) {
    const float *gate = gate_up + (size_t)blockIdx.x * 2 * n, *up = gate + n;
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < n; i += gridDim.y * blockDim.x) {
        float x = gate[i], y;
        if (activation == 0)
            y = x / (1.0f + expf(-x));
        else if (activation == 1)
            y = 0.5f * x * (1.0f + tanhf(0.7978846f * (x + 0.044715f * x * x * x)));
        else
            y = 0.5f * x * (1.0f + erff(x * 0.70710678f));
        narrow(y * up[i], out + (size_t)blockIdx.x * n + i);
    }
}

// Caps a row of logits (a cap of 0 is none) and reads it: the first of the largest, its log probability, and whether
// all are numbers. Blocks: rows.
extern "C" __global__ void read_out(float *logits, int vocab, float cap, unsigned *tokens, float *logprobs,
                                unsigned *finite) {
    float *row = logits + (size_t)blockIdx.x * vocab;
    float best = -INFINITY, zeros = 0;
    int at = vocab;
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        // Zero times anything that is not a number, or infinite, is not a number; behind a cap all are finite.
        zeros += row[i] * 0.0f;
        float value = cap > 0 ? cap * tanhf(row[i] / cap) : row[i];
        row[i] = value;
        if (value > best) best = value, at = i;
    }
    float largest = of_block<true>(best), sum = 0;
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) sum += expf(row[i] - largest);
    sum = of_block<false>(sum);
    zeros = of_block<false>(zeros);
    // Indices below 2^24 are exact in f32.
    float first = -of_block<true>(best == largest ? -(float)at : -(float)vocab);
    if (threadIdx.x == 0) {
        tokens[blockIdx.x] = first < vocab ? (unsigned)first : 0;
        logprobs[blockIdx.x] = -logf(sum);
        finite[blockIdx.x] = zeros == 0.0f;
    }
}

#define FOR(T, NAME)                                                                                               \
    extern "C" __global__ void norm_##NAME(const float *x, const float *weight, T *out, int n, float epsilon) {    \
        norm<T>(x, weight, out, n, epsilon);                                                                       \
    }                                                                                                              \
    extern "C" __global__ void split_##NAME(const float *qkv, const float *q_norm, const float *k_norm,            \
                                            const float *angles, const int *positions, const unsigned *tables,     \
                                            const unsigned *pages, float *queries, T *keys, T *values, int heads,  \
                                            int kv_heads, int head, float epsilon) {                               \
        split<T>(qkv, q_norm, k_norm, angles, positions, tables, pages, queries, keys, values, heads, kv_heads,    \
                 head, epsilon);                                                                                   \
    }                                                                                                              \
    extern "C" __global__ void attend_##NAME(const float *queries, const T *keys, const T *values,                 \
                                             const unsigned *which, const int *positions, const unsigned *tables,  \
                                             const unsigned *pages, T *out, int heads, int kv_heads, int head,     \
                                             int window, float scale, float cap) {                                 \
        attend<T>(queries, keys, values, which, positions, tables, pages, out, heads, kv_heads, head, window,      \
                  scale, cap);                                                                                     \
    }                                                                                                              \
    extern "C" __global__ void glu_##NAME(const float *gate_up, T *out, int n, int activation) {                   \
        glu<T>(gate_up, out, n, activation);                                                                       \
    }
FOR(float, f32)
FOR(bf16, bf16)
