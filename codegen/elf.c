/* elf.c: writes the constants of a model as an ELF object, streaming: weights never pass through LLVM and are never held twice.
 * Format: System V ABI, ELF-64 object file format, and its x86-64 supplement for .lrodata: data that linkers do not put between code and
 * what it reads, where 2 GiB would be out of its reach. */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "link.h"

enum { CHUNK = 1 << 16, SHF_LARGE = 0x10000000 }; /* SHF_X86_64_LARGE, which older elf.h lack */

typedef struct Out { FILE *f; uint64_t at; uint64_t hash; } Out;

static bool put(Out *o, const void *p, size_t n) {
    o->at += n;
    return n == 0 || fwrite(p, 1, n, o->f) == n;
}

static bool pad_to(Out *o, uint64_t at) {
    static const char zero[64];
    while (o->at < at) {
        size_t n = at - o->at < sizeof zero ? (size_t)(at - o->at) : sizeof zero;
        if (!put(o, zero, n)) return false;
    }
    return true;
}

static bool hashed(Out *o, const void *p, size_t n) {
    o->hash = hash_bytes(p, n, o->hash);
    return put(o, p, n);
}

/* A table of {offset from the table, bytes}, then the bytes. */
static bool put_strings(Out *o, const ConstData *d) {
    const StrConst *s = d->data;
    uint64_t at = 16 * (uint64_t)d->count;
    bool ok = true;
    for (int64_t i = 0; i < d->count && ok; i++) {
        uint64_t entry[2] = {at, s[d->splat ? 0 : i].bytes};
        ok = hashed(o, entry, sizeof entry);
        at += entry[1];
    }
    for (int64_t i = 0; i < d->count && ok; i++) ok = hashed(o, s[d->splat ? 0 : i].ptr, s[d->splat ? 0 : i].bytes);
    return ok;
}

/* A constant as kernels read it: splats filled, packed types one byte per element. */
static bool put_item(Out *o, const WeightItem *w) {
    const ConstData *d = w->data;
    bool packed = dt_bits(d->dtype) < 8;
    if (d->dtype == DT_STR) return put_strings(o, d);
    DType code = d->dtype == DT_F4E2M1 ? DT_U4 : d->dtype; /* floats keep their bits */
    if (!d->splat && !packed) return hashed(o, d->data, d->bytes);
    unsigned char buf[CHUNK];
    size_t elem = packed ? 1 : dt_bits(d->dtype) / 8, per = sizeof buf / elem;
    for (int64_t i = 0; i < d->count; i += (int64_t)per) {
        size_t n = (size_t)(d->count - i) < per ? (size_t)(d->count - i) : per;
        for (size_t k = 0; k < n; k++) {
            int64_t from = d->splat ? 0 : i + (int64_t)k;
            if (packed) buf[k] = (unsigned char)dt_load(code, d->data, from).i;
            else memcpy(buf + k * elem, (const char *)d->data + (size_t)from * elem, elem);
        }
        if (!hashed(o, buf, n * elem)) return false;
    }
    return true;
}

bool elf_write_weights(const char *path, const char *symbol, const Weights *w, uint64_t *hash) {
    enum { DATA = 1, SYMTAB, STRTAB, SHSTRTAB, NOTE, NSECTIONS };
    static const char names[] = "\0.lrodata.accelc\0.symtab\0.strtab\0.shstrtab\0.note.GNU-stack";
    static const uint32_t name_at[NSECTIONS] = {0, 1, 17, 25, 33, 43};
    Out o = {.f = fopen(path, "wb"), .hash = *hash};
    if (!o.f) return false;
    uint64_t data_at = 64, data_bytes = w->bytes ? w->bytes : 64;
    uint64_t sym_at = (data_at + data_bytes + 7) / 8 * 8, sym_bytes = 2 * sizeof(Elf64_Sym);
    uint64_t str_at = sym_at + sym_bytes, str_bytes = strlen(symbol) + 2;
    uint64_t shstr_at = str_at + str_bytes, sh_at = (shstr_at + sizeof names + 7) / 8 * 8;
    Elf64_Ehdr h = {.e_type = ET_REL, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_shoff = sh_at, .e_ehsize = sizeof h,
                    .e_shentsize = sizeof(Elf64_Shdr), .e_shnum = NSECTIONS, .e_shstrndx = SHSTRTAB};
    memcpy(h.e_ident, ELFMAG, SELFMAG);
    h.e_ident[EI_CLASS] = ELFCLASS64;
    h.e_ident[EI_DATA] = ELFDATA2LSB;
    h.e_ident[EI_VERSION] = EV_CURRENT;
    bool ok = put(&o, &h, sizeof h);
    for (uint32_t i = 0; ok && i < w->item.n; i++) {
        ok = pad_to(&o, data_at + w->item.v[i].offset) && put_item(&o, &w->item.v[i]);
    }
    Elf64_Sym sym[2] = {{0}, {.st_name = 1, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), .st_other = STV_HIDDEN, .st_shndx = DATA,
                              .st_value = 0, .st_size = data_bytes}};
    ok = ok && pad_to(&o, sym_at) && put(&o, sym, sizeof sym) && put(&o, "", 1) && put(&o, symbol, strlen(symbol) + 1) &&
         put(&o, names, sizeof names) && pad_to(&o, sh_at);
    Elf64_Shdr sh[NSECTIONS] = {
        [DATA] = {.sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_LARGE, .sh_offset = data_at, .sh_size = data_bytes, .sh_addralign = 64},
        [SYMTAB] = {.sh_type = SHT_SYMTAB, .sh_offset = sym_at, .sh_size = sym_bytes, .sh_link = STRTAB, .sh_info = 1, .sh_addralign = 8,
                    .sh_entsize = sizeof(Elf64_Sym)},
        [STRTAB] = {.sh_type = SHT_STRTAB, .sh_offset = str_at, .sh_size = str_bytes, .sh_addralign = 1},
        [SHSTRTAB] = {.sh_type = SHT_STRTAB, .sh_offset = shstr_at, .sh_size = sizeof names, .sh_addralign = 1},
        [NOTE] = {.sh_type = SHT_PROGBITS, .sh_offset = shstr_at, .sh_addralign = 1},
    };
    for (int i = 0; i < NSECTIONS; i++) sh[i].sh_name = name_at[i];
    ok = ok && put(&o, sh, sizeof sh);
    int e = errno;
    if (fclose(o.f)) { ok = false; e = errno; }
    errno = e;
    *hash = o.hash;
    return ok;
}
