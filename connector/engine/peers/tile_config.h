// Keeps llama.cpp alive on processors with AMX: GCC 12's _tile_loadconfig tells the compiler of the first eight of
// the 64 bytes that it reads, so that the rest is never written, and the first use of a tile ends the process with
// SIGILL.
#pragma once
#ifdef __x86_64__
#include <immintrin.h>

#define _tile_loadconfig(config)                           \
    do {                                                   \
        __asm__ volatile("" : : "r"(config) : "memory");   \
        (_tile_loadconfig)(config);                        \
    } while (0)
#endif
