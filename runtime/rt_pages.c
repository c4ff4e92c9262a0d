/* rt_pages.c: weights in huge pages. A model's weights are mapped from its file, in pages of 4 KiB,
 * of which a processor knows the addresses of some 2000: kernels that read more wait for page
 * tables, and what lies anywhere in memory collides in the second-level cache. The first session of
 * a process moves large weights, in place, to pages of 2 MiB; they are the process's own from then
 * on. */
#include "rt_internal.h"

#include <sys/mman.h>

#define HUGE_LEAST ((size_t)4 << 20)  /* less is not worth a look */
#define HUGE_PIECE ((size_t)64 << 20) /* what is there twice at a time */

static bool huge_pages_offered(void) {
    char line[128] = "[never]";
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
    if (!f) return false;
    bool known = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    return known && !strstr(line, "[never]");
}

/* Is p in pages of a file? No longer, after the first session. */
static bool lies_in_file(const char *p) {
    char line[512];
    bool found = false;
    FILE *f = fopen("/proc/self/maps", "re");
    if (!f) return false;
    while (!found && fgets(line, sizeof line, f)) {
        unsigned long from, to, inode;
        found = sscanf(line, "%lx-%lx %*s %*s %*s %lu", &from, &to, &inode) == 3 &&
                (uintptr_t)p >= from && (uintptr_t)p < to && inode != 0;
    }
    fclose(f);
    return found;
}

/* A copy of n bytes at `at` takes their place. Readers notice nothing. */
static bool move_to_huge_pages(char *at, size_t n) {
    char *p = mmap(NULL, n + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return false;
    size_t head = -(uintptr_t)p & (HUGE_PAGE - 1);
    bool moved = madvise(p + head, n, MADV_HUGEPAGE) == 0;
    if (moved) {
        memcpy(p + head, at, n);
        moved = mprotect(p + head, n, PROT_READ) == 0 &&
                mremap(p + head, n, n, MREMAP_MAYMOVE | MREMAP_FIXED, at) == at;
    }
    if (!moved) munmap(p + head, n);
    if (head) munmap(p, head);
    munmap(p + head + n, HUGE_PAGE - head);
    return moved;
}

/* Weights that are the model's own; as many bytes of them as whole huge pages. */
static void weights_to_huge_pages(const char *weights, uint64_t bytes) {
    uintptr_t from = ((uintptr_t)weights + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1),
              to = ((uintptr_t)weights + bytes) & ~(uintptr_t)(HUGE_PAGE - 1);
    if (!weights || to < from + HUGE_LEAST) return;
    if (!huge_pages_offered() || !lies_in_file((char *)from)) return;
    bool more = true;
    while (more && from < to) {
        size_t n = to - from < HUGE_PIECE ? to - from : HUGE_PIECE;
        more = move_to_huge_pages((char *)from, n);
        from += n;
    }
}
