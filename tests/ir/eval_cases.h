/* eval_cases.h: graphs in text that return pairs of what is computed and what it must be; for test_eval.c, which runs
 * them, and test_text.c, which prints and reads them. */
#ifndef ACCELC_TESTS_EVAL_CASES_H
#define ACCELC_TESTS_EVAL_CASES_H

typedef struct Case { const char *name, *ins, *outs, *body; } Case;
static const Case cases[] = {
    {"broadcasting", "", "f32[2,3], f32[2,3]",
     "%x = const f32[3] {1, 2, 3} %y = const f32[2,1] {10, 20}"
     "%r = map { a + b } %x, %y  %w = const f32[2,3] {11, 12, 13, 21, 22, 23} return %r, %w"},
    {"axis and several results", "", "f32[2,2], f32[2,2], i64[2,2], i64[2,2]",
     "%x = const f32[2,2] {1, 2, 3, 4}"
     "%a, %b = map { a * a, #0 * 10 + #1 } %x : f32[2,2], i64[2,2]"
     "%wa = const f32[2,2] {1, 4, 9, 16} %wb = const i64[2,2] {0, 1, 10, 11} return %a, %wa, %b, %wb"},
    {"rounding to f32 after each operation", "", "f32[1], f32[1]",
     "%x = const f32[1] {16777216} %r = map { (a + 1) - a } %x  %w = const f32[1] {0} return %r, %w"},
    {"cast saturates", "", "i8[5], i8[5]",
     "%x = const f32[5] {300, -300, nan, 1.9, -1.9} %r = map { i8(a) } %x"
     "%w = const i8[5] {127, -128, 0, 1, -1} return %r, %w"},
    {"integers wrap", "", "i8[2], i8[2], u8[2], u8[2]",
     "%x = const i8[2] {127, -128} %r = map { a + a } %x  %w = const i8[2] {-2, 0}"
     "%u = const u8[2] {200, 1} %s = map { a - 2 } %u  %v = const u8[2] {198, 255} return %r, %w, %s, %v"},
    {"minimum and maximum", "", "f32[4], f32[4]",
     "%x = const f32[4] {nan, -0, 1, 0} %y = const f32[4] {1, 0, nan, -0} %r = map { max(a, b) } %x, %y"
     "%w = const f32[4] {nan, 0, nan, 0} return %r, %w"},
    {"load with policies", "", "f32[4], f32[4], f32[4], f32[4]",
     "%x = const f32[3] {1, 2, 3} %i = const i64[4] {-1, 0, 2, 5}"
     "%r = map { load.value(a, b; -7) } %x, %i : f32[4] %w = const f32[4] {-7, 1, 3, -7}"
     "%s = map { load.clamp(a, b) } %x, %i : f32[4] %v = const f32[4] {1, 1, 3, 3} return %r, %w, %s, %v"},
    {"select on strings", "", "str[2], str[2]",
     "%x = const str[2] {\"a\", \"bc\"} %y = const str[2] {\"x\", \"\"} %c = const bool[2] {1, 0}"
     "%r = map { select(a, b, c) } %c, %x, %y  %w = const str[2] {\"a\", \"\"} return %r, %w"},
    {"packed types", "", "i4[3], i4[3]",
     "%x = const i4[3] {7, -8, 3} %r = map { a + 1 } %x  %w = const i4[3] {-8, -7, 4} return %r, %w"},
    {"half", "", "f16[3], f16[3]",
     "%x = const f16[3] {1, 65504, 0.00006103515625} %r = map { a + a } %x  %w = const f16[3] {2, inf, 0.0001220703125} return %r, %w"},
    {"zero elements", "", "f32[0,3], f32[0,3], f32[3], f32[3]",
     "%x = const f32[0,3] {} %r = map { a + 1 } %x  %s = reduce.sum [0] %x  %w = const f32[3] {0, 0, 0} return %r, %x, %s, %w"},
    {"reduce sum inner", "", "f32[2], f32[2], f32[2,1], f32[2,1]",
     "%x = const f32[2,3] {1, 2, 3, 4, 5, 6} %r = reduce.sum [1] %x  %s = reduce.sum [1] keep %x"
     "%w = const f32[2] {6, 15} %v = const f32[2,1] {6, 15} return %r, %w, %s, %v"},
    {"reduce outer, max, all", "", "f32[3], f32[3], f32[], f32[], i32[], i32[]",
     "%x = const f32[2,3] {1, 5, 3, 4, 2, 6} %r = reduce.max [0] %x  %s = reduce.min [0, 1] %x"
     "%i = const i32[3] {2, 3, 4} %p = reduce.prod [0] %i"
     "%w = const f32[3] {4, 5, 6} %v = const f32[] {1} %q = const i32[] {24} return %r, %w, %s, %v, %p, %q"},
    {"sum is accumulated in double", "", "f32[], f32[]",
     "%x = const f32[4] {16777216, 1, 1, -16777216} %r = reduce.sum [0] %x  %w = const f32[] {2} return %r, %w"},
    {"argmax", "", "f32[2], f32[2], i64[2], i64[2]",
     "%x = const f32[2,4] {1, 9, 9, 2, 7, 3, 7, 1} %i = map { #1 } %x : i64[2,4]"
     "%m, %k = reduce [1] { select(a >= c, a, c), select(a >= c, b, d) } init -inf, 0 acc f32, i64 %x, %i"
     "%w = const f32[2] {9, 7} %v = const i64[2] {1, 0} return %m, %w, %k, %v"},
    {"swapped combiner", "", "i64[], i64[], i64[], i64[]",
     "%x = const i64[3] {1, 2, 3} %y = const i64[3] {10, 20, 30}"
     "%p, %q = reduce [0] { b, a + c } init 0, 5 acc i64, i64 %x, %y"
     "%w = const i64[] {7} %v = const i64[] {4} return %p, %w, %q, %v"},
    {"cumulative sums", "", "f32[2,3], f32[2,3], f32[2,3], f32[2,3], f32[2,3], f32[2,3]",
     "%x = const f32[2,3] {1, 2, 3, 4, 5, 6} %a = scan.sum axis 1 %x  %b = scan.sum axis 1 reverse exclusive %x"
     "%c = scan.sum axis 0 %x  %wa = const f32[2,3] {1, 3, 6, 4, 9, 15} %wb = const f32[2,3] {5, 3, 0, 11, 6, 0}"
     "%wc = const f32[2,3] {1, 2, 3, 5, 7, 9} return %a, %wa, %b, %wb, %c, %wc"},
    {"matrix product", "", "f32[2,2], f32[2,2]",
     "%x = const f32[2,3] {1, 2, 3, 4, 5, 6} %y = const f32[3,2] {1, 0, 0, 1, 2, 2}"
     "%r = contract \"mk,kn->mn\" %x, %y  %w = const f32[2,2] {7, 8, 16, 17} return %r, %w"},
    {"batched, transposed result", "", "f32[2,2,1], f32[2,2,1]",
     "%x = const f32[2,1,2] {1, 2, 3, 4} %y = const f32[2,2,2] {1, 0, 0, 1, 1, 1, 2, 2}"
     "%r = contract \"bmk,bkn->nbm\" %x, %y  %w = const f32[2,2,1] {1, 11, 2, 11} return %r, %w"},
    {"diagonal and sums of one operand", "", "f32[2], f32[2], f32[], f32[]",
     "%x = const f32[2,2] {1, 2, 3, 4} %y = const f32[3] {1, 1, 1}"
     "%r = contract \"ii,k->i\" %x, %y  %s = contract \"ij,k->\" %x, %y"
     "%w = const f32[2] {3, 12} %v = const f32[] {30} return %r, %w, %s, %v"},
    {"integer products wrap", "", "i32[1], i32[1], i32[1], i32[1]",
     "%x = const i32[2] {65536, 3} %y = const i32[2,1] {65536, 5} %r = contract \"k,kn->n\" %x, %y"
     "%a = const u8[2] {255, 255} %b = const i8[2,1] {-128, 127} %s = contract \"k,kn->n\" acc i32 %a, %b : i32[1]"
     "%w = const i32[1] {15} %v = const i32[1] {-255} return %r, %w, %s, %v"},
    {"convolution", "", "f32[1,1,2,2], f32[1,1,2,2]",
     "%x = const f32[1,1,3,3] {1, 2, 3, 4, 5, 6, 7, 8, 9} %k = const f32[1,1,2,2] {1, 0, 0, 1}"
     "%v = window axes [2, 3] size [2, 2] stride [1, 1] dilation [1, 1] %x"
     "%r = contract \"nchwij,ocij->nohw\" %v, %k  %w = const f32[1,1,2,2] {6, 8, 12, 14} return %r, %w"},
    {"strided, dilated windows", "", "f32[2,2], f32[2,2]",
     "%x = const f32[6] {0, 1, 2, 3, 4, 5} %v = window axes [0] size [2] stride [2] dilation [3] %x"
     "%r = map { a } %v  %w = const f32[2,2] {0, 3, 2, 5} return %r, %w"},
    {"average pooling over a padded image", "", "f32[2,2], f32[2,2]",
     "%x = const f32[2,2] {1, 2, 3, 4} %p = pad lo [0, 0] hi [1, 1] value 0 %x"
     "%v = window axes [0, 1] size [2, 2] stride [1, 1] dilation [1, 1] %p  %r = reduce.sum [2, 3] %v"
     "%w = const f32[2,2] {10, 6, 7, 4} return %r, %w"},
    {"views of views", "", "f32[4], f32[4], f32[2,2], f32[2,2]",
     "%x = const f32[2,2,2] {0, 1, 2, 3, 4, 5, 6, 7} %p = permute [2, 0, 1] %x"
     "%s = slice start [1, 1, 0] size [1, 2, 2] step [1, -1, 1] %p  %r = reshape [4] %s"
     "%b = slice start [0, 0, 1] size [2, 2, 1] %x  %c = reshape [2, 2] %b"
     "%w = const f32[4] {5, 7, 1, 3} %v = const f32[2,2] {1, 3, 5, 7} return %r, %w, %c, %v"},
    {"broadcast, reshape", "", "i64[6], i64[6]",
     "%x = const i64[2,1] {1, 2} %b = broadcast [2, 3] %x  %r = reshape [6] %b"
     "%w = const i64[6] {1, 1, 1, 2, 2, 2} return %r, %w"},
    {"pad modes", "", "i32[7], i32[7], i32[7], i32[7], i32[7], i32[7], i32[6], i32[6]",
     "%x = const i32[3] {1, 2, 3} %e = pad lo [2] hi [2] edge %x  %r = pad lo [2] hi [2] reflect %x"
     "%w = pad lo [2] hi [2] wrap %x  %c = pad lo [0] hi [1] interior [1] value 9 %x"
     "%we = const i32[7] {1, 1, 1, 2, 3, 3, 3} %wr = const i32[7] {3, 2, 1, 2, 3, 2, 1}"
     "%ww = const i32[7] {2, 3, 1, 2, 3, 1, 2} %wc = const i32[6] {1, 9, 2, 9, 3, 9}"
     "return %e, %we, %r, %wr, %w, %ww, %c, %wc"},
    {"pad by an operand", "", "f32[3], f32[3]",
     "%x = const f32[1] {1} %z = const f32[] {5} %r = pad lo [1] hi [1] %x, %z  %w = const f32[3] {5, 1, 5} return %r, %w"},
    {"concat and update", "", "i8[2,3], i8[2,3], i8[2,3], i8[2,3]",
     "%x = const i8[2,1] {1, 2} %y = const i8[2,2] {3, 4, 5, 6} %r = concat axis 1 %x, %y"
     "%s = update start [0, 1] %r, %x  %w = const i8[2,3] {1, 3, 4, 2, 5, 6} %v = const i8[2,3] {1, 1, 4, 2, 2, 6}"
     "return %r, %w, %s, %v"},
    {"gather", "", "f32[2,2], f32[2,2], f32[2], f32[2], str[1], str[1]",
     "%x = const f32[3,2] {1, 2, 3, 4, 5, 6} %i = const i64[2] {-1, 0} %r = gather axis 0 fail %x, %i"
     "%j = const i32[] {1} %s = gather axis 0 fail %x, %j  %t = const str[2] {\"p\", \"q\"} %k = const i64[1] {1}"
     "%u = gather axis 0 fail %t, %k  %w = const f32[2,2] {5, 6, 1, 2} %v = const f32[2] {3, 4} %q = const str[1] {\"q\"}"
     "return %r, %w, %s, %v, %u, %q"},
    {"gather of rows out of range", "", "f32[2], f32[2]",
     "%x = const f32[2] {1, 2} %i = const i64[2] {7, 1} %r = gather axis 0 zero %x, %i  %w = const f32[2] {0, 2} return %r, %w"},
    {"scatter", "", "f32[4], f32[4], f32[2,2], f32[2,2], f32[2,2], f32[2,2]",
     "%x = const f32[4] {1, 1, 1, 1} %i = const i64[3,1] {1, -1, 1} %u = const f32[3] {5, 6, 7}"
     "%r = scatter add %x, %i, %u  %y = const f32[2,2] {0, 0, 0, 0} %j = const i64[2,1] {1, 0} %v = const f32[2,1] {8, 9}"
     "%s = scatter elements axis 1 set %y, %j, %v  %k = const i64[1,1] {1} %l = const f32[1,2] {3, 4}"
     "%t = scatter set %y, %k, %l  %wr = const f32[4] {1, 13, 1, 7} %ws = const f32[2,2] {0, 8, 9, 0}"
     "%wt = const f32[2,2] {0, 0, 3, 4} return %r, %wr, %s, %ws, %t, %wt"},
    {"sort", "", "f32[4], f32[4], i64[4], i64[4], i32[2,2], i32[2,2]",
     "%x = const f32[4] {2, nan, 1, 2} %i = const i64[4] {0, 1, 2, 3}"
     "%a, %b = sort axis 0 keys 1 descending stable %x, %i  %y = const i32[2,2] {3, 1, 2, 5} %c = sort axis 0 keys 1 %y"
     "%wa = const f32[4] {nan, 2, 2, 1} %wb = const i64[4] {1, 0, 3, 2} %wc = const i32[2,2] {2, 1, 3, 5}"
     "return %a, %wa, %b, %wb, %c, %wc"},
    {"sort by two keys", "", "i64[3], i64[3]",
     "%x = const i64[3] {1, 0, 1} %y = const i64[3] {5, 9, 2} %z = const i64[3] {0, 1, 2}"
     "%a, %b, %c = sort axis 0 keys 2 %x, %y, %z  %w = const i64[3] {1, 2, 0} return %c, %w"},
    {"topk", "", "f32[2,2], f32[2,2], i64[2,2], i64[2,2]",
     "%x = const f32[2,3] {1, 3, 3, 9, 7, 8} %v, %i = topk axis 1 largest sorted k 2 %x"
     "%w = const f32[2,2] {3, 3, 9, 8} %j = const i64[2,2] {1, 2, 0, 2} return %v, %w, %i, %j"},
    {"topk smallest", "", "i32[2], i32[2]",
     "%x = const i32[3] {5, -1, 4} %v, %i = topk axis 0 smallest sorted k 2 %x  %w = const i32[2] {-1, 4} return %v, %w"},
    {"compact", "", "i64[4], i64[4], i64[], i64[]",
     "%x = const bool[4] {0, 1, 0, 1} %i, %n = compact bound 4 %x  %w = const i64[4] {1, 3, 0, 0} %m = const i64[] {2}"
     "return %i, %w, %n, %m"},
    {"loop with trip count", "", "f32[], f32[], i64[3], i64[3]",
     "%n = const i64[] {3} %x = const f32[] {1} %y = const f32[] {2}"
     "%r, %s = loop carried 1 scan 1 iter T %n, _, %x, %y : f32[], i64[T]"
     "  (%i: i64[], %c: bool[], %a: f32[], %b: f32[]) { %p = map { a * b } %a, %b  yield %c, %p, %i }"
     "%w = const f32[] {8} %v = const i64[3] {0, 1, 2} return %r, %w, %s, %v"},
    {"loop until", "", "i64[], i64[]",
     "%x = const i64[] {1} %c = const bool[] {1}"
     "%r = loop carried 1 scan 0 _, %c, %x : i64[]"
     "  (%i: i64[], %k: bool[], %a: i64[]) { %p = map { a * 2 } %a  %g = map { a < 100 } %p  yield %g, %p }"
     "%w = const i64[] {128} return %r, %w"},
    {"loop whose shape changes", "", "f32[4], f32[4]",
     "%n = const i64[] {3} %x = const f32[1] {5}"
     "%r = loop carried 1 scan 0 %n, _, %x : f32[R]"
     "  (%i: i64[], %k: bool[], %a: f32[L]) { %o = const f32[1] {7} %p = concat axis 0 %a, %o  yield %k, %p }"
     "%w = const f32[4] {5, 7, 7, 7} return %r, %w"},
    {"if", "", "f32[2], f32[2], f32[D], f32[1]",
     "%t = const bool[] {1} %f = const bool[] {0} %x = const f32[2] {1, 2}"
     "%a = if %t, %x : f32[2] then (%u: f32[2]) { %p = map { a + 1 } %u yield %p } else (%u: f32[2]) { yield %u }"
     "%b = if %f, %x : f32[D] then (%u: f32[2]) { yield %u }"
     "  else (%u: f32[2]) { %p = slice start [1] size [1] %u yield %p }"
     "%w = const f32[2] {2, 3} %v = const f32[1] {2} return %a, %w, %b, %v"},
    {"group", "", "f32[2], f32[2]",
     "%x = const f32[2] {0, 0}"
     "%r = group \"Softmax\" %x : f32[2] (%x: f32[2]) { %m = reduce.max [0] keep %x  %e = map { exp(a - b) } %x, %m"
     "  %s = reduce.sum [0] keep %e  %y = map { a / b } %e, %s  yield %y }"
     "%w = const f32[2] {0.5, 0.5} return %r, %w"},
    {"bind and guard", "", "f32[K], f32[2]",
     "%n = const i64[2] {7, 2} bind %n[1] as K  guard le K, 3 \"too many\""
     "%x = const f32[3] {1, 2, 3} %r = slice start [0] size [K] %x : f32[K] %w = const f32[2] {1, 2} return %r, %w"},
    {"shape", "", "i64[2], i64[2], i64[], i64[]",
     "%n = const i64[1] {4} bind %n[0] as K  %s = shape [K, 2*K+1] %t = shape K"
     "%w = const i64[2] {4, 9} %v = const i64[] {4} return %s, %w, %t, %v"},
    {"sequences", "", "i64[], i64[], f32[3], f32[3], f32[2,1], f32[2,1]",
     "%a = const f32[1] {1} %b = const f32[2] {2, 3} %p = const i64[] {0} %z = const i64[] {0}"
     "%s = seq \"construct\" %b : seq<f32[?]> %t = seq \"insert\" %s, %a, %p : seq<f32[?]>"
     "%n = seq \"length\" %t : i64[] %c = seq \"concat\" %t, %z : f32[Q]"
     "%e = seq \"erase\" %t : seq<f32[?]> %u = seq \"insert\" %e, %a : seq<f32[?]> %k = seq \"stack\" %u, %z : f32[2,1]"
     "%w = const i64[] {2} %v = const f32[3] {1, 2, 3} %x = const f32[2,1] {1, 1} return %n, %w, %c, %v, %k, %x"},
    {"split", "", "f32[1], f32[1], f32[2], f32[2]",
     "%x = const f32[3] {1, 2, 3} %n = const i64[] {2} %z = const i64[] {0} %m = const i64[] {-1}"
     "%s = seq \"split\" %x, %n, %z : seq<f32[?]> %l = seq \"at\" %s, %m : f32[E]"
     "%y = const f32[2,2] {1, 2, 3, 4} %u = seq \"unstack\" %y, %z : seq<f32[2]> %q = seq \"at\" %u, %z : f32[2]"
     "%w = const f32[1] {3} %v = const f32[2] {1, 2} return %l, %w, %q, %v"},
    {"optionals", "", "bool[], bool[], bool[], bool[], f32[1], f32[1]",
     "%x = const f32[1] {3} %o = seq \"make\" %x : opt<f32[1]> %e = seq \"make\" : opt<f32[1]>"
     "%a = seq \"has\" %o : bool[] %b = seq \"has\" %e : bool[] %g = seq \"get\" %o : f32[1]"
     "%t = const bool[] {1} %f = const bool[] {0} return %a, %t, %b, %f, %g, %x"},
    {"mt19937 is numpy.random.RandomState(0)", "", "f64[3], f64[3]",
     "%r = random \"mt19937\" a 0 b 1 seed 0 : f64[3]"
     "%w = const f64[3] {0.5488135039273248, 0.7151893663724195, 0.6027633760716439} return %r, %w"},
    {"bits are Philox4x32-10", "", "u64[2], u64[2]", /* the known answer of Random123 for key and counter 0 */
     "%r = random \"bits\" seed 0 : u64[2]"
     "%w = const u64[2] {16242730742183356629, 11169168799798111308} return %r, %w"},
};

#endif
