/* What compilers call for products of more than 64 bits, as checks for overflow make them. */
#include <stdint.h>

typedef unsigned __int128 wide;

/* Of halves of 32 bits. The compiler is not to see that they are: it would know the product, and make it a call of this. */
static wide product(uint64_t left, uint64_t right) {
    uint64_t a = left >> 32, b = left & UINT32_MAX, c = right >> 32, d = right & UINT32_MAX;
    __asm__("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
    uint64_t middle = b * c + (b * d >> 32), other = a * d + (middle & UINT32_MAX);
    uint64_t high = a * c + (middle >> 32) + (other >> 32);
    return (wide)high << 64 | left * right;
}

__int128 __multi3(__int128 left, __int128 right) {
    uint64_t low = (uint64_t)left, other = (uint64_t)right;
    uint64_t high = (uint64_t)((wide)left >> 64) * other + low * (uint64_t)((wide)right >> 64);
    return (__int128)(product(low, other) + ((wide)high << 64));
}
