/* rules.h: the rule table of rules.def, ready to be applied to scalar expressions. */
#ifndef ACCELC_PASSES_RULES_H
#define ACCELC_PASSES_RULES_H
#include "ir/ir.h"

typedef struct Rules Rules;
/* ulp: the largest error that rules may bring, in units in the last place (see rules.def); 0: exact
 * rules only. */
Rules *rules_new(Ctx *c, int ulp);
/* e with rules applied bottom-up until none fits; *fired counts applications. Terminates: steps per
 * node are bounded. */
Expr rules_apply(Rules *r, Expr e, uint32_t *fired);

/* One parsed row, for tests: false after the last one. Operand k of the expressions is letter k of
 * the alphabet. */
typedef struct RuleView {
    const char *text;
    DType type;
    Expr left, right, cond;
    bool pow2;
    int ulp;
} RuleView;
bool rules_view(Rules *r, DType t, uint32_t index, RuleView *out);
bool rule_letter_is_const(uint32_t letter);
bool rule_power_of_two(Scalar s); /* and its reciprocal is a normal number */
#endif
