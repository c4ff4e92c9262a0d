/* call_all.c: the functions that models call, as one translation unit: embedded in the compiler for compiled models, and linked
 * into it for the evaluator. */
#include "call.c"
#include "call_utf8.c"
#include "call_string.c"
#include "call_number.c"
#include "call_tfidf.c"
#include "call_regex.c"
#include "call_token.c"
#include "call_seq.c"
#include "call_select.c"
#include "call_map.c"
