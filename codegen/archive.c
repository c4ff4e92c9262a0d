/* archive.c: writes a static library: the members as they are, behind the index of symbols that linkers want ("/", System V
 * format; "/SYM64/" when the archive is too large for it). Deterministic: no owner, no time. Members are mapped, never
 * copied: they hold the weights. The members are relocatable ELF-64 files of this compiler; one that is not has no symbols. */
#include <ar.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "link.h"

typedef struct Member { const char *name; const unsigned char *data; size_t bytes; uint32_t nsym; } Member;
typedef struct Index { VEC(const char *) name; size_t text; /* bytes of all names with their NUL */ } Index;

static bool map_member(Ctx *c, const char *path, Member *m) {
    const char *slash = strrchr(path, '/');
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && !fstat(fd, &st) && st.st_size > 0;
    if (ok) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        ok = p != MAP_FAILED;
        *m = (Member){.name = ctx_str(c, slash ? slash + 1 : path), .data = ok ? p : NULL, .bytes = (size_t)st.st_size};
    }
    if (fd >= 0) close(fd);
    return ok;
}

/* n elements of `size` bytes at `at` lie inside the member. */
static bool inside(const Member *m, uint64_t at, uint64_t n, uint64_t size) {
    return at <= m->bytes && n <= (m->bytes - at) / size;
}

/* Adds the symbols that the member defines for others. */
static void add_symbols(Ctx *c, Member *m, Index *x) {
    Elf64_Ehdr h;
    if (m->bytes < sizeof h) return;
    memcpy(&h, m->data, sizeof h);
    if (memcmp(h.e_ident, ELFMAG, SELFMAG) || h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_shentsize != sizeof(Elf64_Shdr) ||
        !inside(m, h.e_shoff, h.e_shnum, sizeof(Elf64_Shdr)))
        return;
    for (unsigned i = 0; i < h.e_shnum; i++) {
        Elf64_Shdr s, t;
        memcpy(&s, m->data + h.e_shoff + i * sizeof s, sizeof s);
        if (s.sh_type != SHT_SYMTAB || s.sh_link >= h.e_shnum) continue;
        memcpy(&t, m->data + h.e_shoff + s.sh_link * sizeof t, sizeof t);
        uint64_t n = s.sh_size / sizeof(Elf64_Sym);
        if (!inside(m, s.sh_offset, n, sizeof(Elf64_Sym)) || !inside(m, t.sh_offset, t.sh_size, 1) || !t.sh_size ||
            m->data[t.sh_offset + t.sh_size - 1])
            continue;
        for (uint64_t k = s.sh_info; k < n; k++) { /* sh_info: the first that is not local */
            Elf64_Sym y;
            memcpy(&y, m->data + s.sh_offset + k * sizeof y, sizeof y);
            if (y.st_shndx == SHN_UNDEF || ELF64_ST_BIND(y.st_info) == STB_LOCAL || y.st_name >= t.sh_size) continue;
            const char *name = ctx_str(c, (const char *)m->data + t.sh_offset + y.st_name);
            vec_push(c, &x->name, name);
            x->text += strlen(name) + 1;
            m->nsym++;
        }
    }
}

/* A member of 10 GB or more does not fit the format. */
static bool put_header(FILE *f, const char *name, size_t bytes) {
    char text[96];
    int n = snprintf(text, sizeof text, "%-16.16s%-12d%-6d%-6d%-8s%-10zu`\n", name, 0, 0, 0, "100644", bytes);
    if (n != (int)sizeof(struct ar_hdr)) {
        errno = EFBIG;
        return false;
    }
    return fwrite(text, sizeof(struct ar_hdr), 1, f) == 1;
}

static bool put_number(FILE *f, uint64_t v, unsigned width) {
    for (unsigned i = width; i-- > 0;)
        if (fputc((int)(v >> 8 * i & 255), f) == EOF) return false;
    return true;
}

static size_t even(size_t n) { return n + (n & 1); }

static bool put_index(FILE *f, const Member *m, uint32_t n, const Index *x) {
    size_t members = 0;
    for (uint32_t i = 0; i < n; i++) members += sizeof(struct ar_hdr) + even(m[i].bytes);
    unsigned width = members + x->text + 8 * (size_t)x->name.n + 256 > UINT32_MAX ? 8 : 4;
    size_t bytes = width * (1 + (size_t)x->name.n) + x->text;
    uint64_t at = SARMAG + sizeof(struct ar_hdr) + even(bytes);
    bool ok = put_header(f, width == 8 ? "/SYM64/" : "/", even(bytes)) && put_number(f, x->name.n, width);
    for (uint32_t i = 0; ok && i < n; i++) {
        for (uint32_t k = 0; ok && k < m[i].nsym; k++) ok = put_number(f, at, width);
        at += sizeof(struct ar_hdr) + even(m[i].bytes);
    }
    for (uint32_t k = 0; ok && k < x->name.n; k++) ok = fwrite(x->name.v[k], strlen(x->name.v[k]) + 1, 1, f) == 1;
    return ok && (bytes % 2 == 0 || fputc(0, f) != EOF);
}

bool link_archive(Ctx *c, const char *out, uint32_t nobj, const char *const *obj) {
    Member *m = NEWN(c, Member, nobj + 1);
    Index x = {0};
    FILE *f = fopen(out, "wb");
    bool ok = f != NULL;
    for (uint32_t i = 0; ok && i < nobj; i++)
        if ((ok = map_member(c, obj[i], &m[i]))) add_symbols(c, &m[i], &x);
    ok = ok && fwrite(ARMAG, SARMAG, 1, f) == 1 && put_index(f, m, nobj, &x);
    for (uint32_t i = 0; ok && i < nobj; i++) /* 15 characters of a name are enough: ours are short */
        ok = put_header(f, ctx_printf(c, "%.15s/", m[i].name), m[i].bytes) && fwrite(m[i].data, 1, m[i].bytes, f) == m[i].bytes &&
             (m[i].bytes % 2 == 0 || fputc('\n', f) != EOF);
    int e = errno;
    if (f && fclose(f)) ok = false, e = errno;
    for (uint32_t i = 0; i < nobj; i++)
        if (m[i].data) munmap((void *)(uintptr_t)m[i].data, m[i].bytes);
    if (!ok) diag(c, SEV_ERROR, (Loc){0}, "E0602", "cannot write %s: %s", out, strerror(e));
    return ok;
}
