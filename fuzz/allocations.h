/* Included before everything else where the fuzzer's extension is compiled: lets its allocations fail when asked to.
 *
 * Only the extension's own calls are meant; the interpreter's go on as ever.
 */
#include <stdlib.h>

static long allocations_left = -1;
static int only_one_fails;

/* Let the allocation after `left` further ones fail, and with `only_one` none after it; -1: none at all. */
__attribute__((visibility("default"))) void fail_allocations(long left, int only_one)
{
    allocations_left = left;
    only_one_fails = only_one;
}

static int has_memory(void)
{
    if (allocations_left < 0)
        return 1;
    if (allocations_left > 0) {
        allocations_left -= 1;
        return 1;
    }
    if (only_one_fails)
        allocations_left = -1;
    return 0;
}

static void *tried_malloc(size_t size) { return has_memory() ? malloc(size) : NULL; }
static void *tried_calloc(size_t count, size_t size) { return has_memory() ? calloc(count, size) : NULL; }
static void *tried_realloc(void *old, size_t size) { return has_memory() ? realloc(old, size) : NULL; }

#define malloc tried_malloc
#define calloc tried_calloc
#define realloc tried_realloc
