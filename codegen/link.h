/* link.h: artefacts on disk: the weights object, the linker, archives. */
#ifndef ACCELC_LINK_H
#define ACCELC_LINK_H
#include "plan.h"

typedef struct Blob { const void *data; size_t bytes; } Blob;
/* elf.c: an ELF64 x86-64 relocatable file whose read-only section holds the weights under a hidden symbol. Streams;
 * *hash is updated with the bytes. false with errno set. */
bool elf_write_weights(const char *path, const char *symbol, const Weights *w, uint64_t *hash);
/* link.c, and archive.c for the last: all return false after a message. `dir` is a private temporary directory. */
const char *link_temp_dir(Ctx *c);
void link_remove_dir(const char *dir);
bool link_write_file(Ctx *c, const char *path, const void *data, size_t bytes);
int link_run(char *const *argv, const char *log); /* argv, its output into `log`. -1: no such program; else the exit status */
void link_report(Ctx *c, const char *tool, const char *log); /* that it failed, with the first line of the log */
/* cubin.c: machine code of a PTX text (which ends with a NUL that is not counted), by the assembler of a CUDA toolkit: $ACCELC_PTXAS, or
 * ptxas in PATH or in /usr/local/cuda/bin. Same text and assembler, same bytes. */
bool cubin_assemble(Ctx *c, const char *dir, const char *arch, Blob text, Blob *code);
bool link_shared(Ctx *c, const char *out, uint32_t nobj, const char *const *obj, bool openmp);
bool link_relocatable(Ctx *c, const char *out, uint32_t nobj, const char *const *obj);
bool link_archive(Ctx *c, const char *out, uint32_t nobj, const char *const *obj);
#endif
