/* ms_search.h: what the searches of com.microsoft share (op_ms_search.c): a loop around a decoder, which is an attribute. Each trip runs it, changes
 * its scores as options say, chooses tokens and goes on: carried values whose sizes change. */
#ifndef ACCELC_FRONTEND_MS_SEARCH_H
#define ACCELC_FRONTEND_MS_SEARCH_H
#include "frontend/import.h"

#define SEARCH_LOWEST (-3.4028234663852886e38) /* the score of what is not allowed */
enum { MAX_STATES = 128, SEARCH_CARRIED = 6 + MAX_STATES + 4 };

/* Carried values: those of every search; of a decoder alone (search_gpt) then positions and the mask; past states from s->past on; what else the
 * search itself needs. */
enum { IDS, SEQ, DONE, POS, MASK, NEXT_POS };
enum { MAX_LENGTH = 1, MIN_LENGTH, PENALTY, VOCAB_MASK, PREFIX_MASK, ATT_MASK, NOPTION }; /* what operands say */

typedef struct Search {
    const SrcGraph *decoder, *init; /* init: of the first trip; or NULL */
    const uint32_t *at;             /* where the operands are */
    Dim batch, prompt, length;      /* rows of the decoder; tokens before the first trip; of the sequences in the end */
    Dim groups, beams;              /* BeamSearch: batches, and rows for each */
    int64_t eos, pad;
    int past, npast;                /* the carried values that are past states */
    int rows, tokens;               /* which axes of a state are rows and tokens */
    bool whole;                     /* the decoder reads all tokens again, not just the last */
    int before, fixed;              /* operands of the decoder that do not change: before the states, and in all; extra[] ends with them */
    Val scores;                     /* of the first trip, if an encoder has made them */
    const Val *extra;               /* in the body: what else a trip reads */
    Val option[NOPTION];            /* in the body: MIN_LENGTH to PREFIX_MASK, if they are given */
    Val seen;                       /* a trip leaves here what becomes a scan output of the loop, if anything */
} Search;

/* With the decoder's scores of the next tokens, f32[rows, V]: carried values to the next (states: those of the trip are there already).
 * Whether to go on. */
typedef Val Choose(Imp *m, Search *s, Val iter, Val scores, const Val *in, Val *out);

bool search_operands(Imp *m, Search *s, int rank);                                    /* checks them; batch, eos, pad, length */
void search_prompt(Imp *m, const Search *s);                                          /* guards, once s->prompt is known */
bool search_ngrams(Imp *m);                                                           /* attribute no_repeat_ngram_size */
bool search_gpt(Imp *m, Search *s);                                                   /* reads a decoder without an encoder */
void search_begin(Imp *m, const Search *s, Type empty, Val ids, Val mask, Val *v);    /* what its first trip starts from */
bool search_empty_state(Imp *m, const SrcGraph *g, uint32_t k, const Search *s, int rank, Type *t); /* of operand k of g: without tokens */
Val search_row_tokens(Imp *m, const Search *s, Val ids);                              /* ids[rows, prompt] with padding up to the length */
Val search_last_scores(Imp *m, Val logits);                                           /* f32[rows, V] of the last token */
Val search_process(Imp *m, const Search *s, Val scores, Val seq, Val iter);           /* what the options do to scores */
void search_feed(Imp *m, const Search *s, Val next, const Val *in, Val *out);         /* what the decoder reads next, but for states */
Val search_append(Imp *m, const Search *s, Val seq, Val tokens, Val iter);
Val search_left(Imp *m, Val done);                                                    /* is any not done? */
Val search_repeated(Imp *m, Val v, Dim beams);                                        /* v[batch, ..], each row `beams` times */
void search_options(Imp *m, const Search *s, Dim beams, Val *given);                  /* as the loop takes them */
/* The loop: nc carried values from first[]; extra[]: more values that trips read, which become those of the body. res: the carried values, then what
 * trips left in s->seen, which has what the first trip left if that was before the loop. */
bool search_loop(Imp *m, Search *s, Choose *choose, int nc, Val *first, Val *given, int nextra, Val *extra, Val *res);
#endif
