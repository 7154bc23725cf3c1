/* One object per number type and instruction set: compile with -DREAL=float or double and -DISA=its name. */
#include <stdlib.h>

#include "core.h"
#include "vector.h"

/* What C names by type. */
#define IS_FLOAT (sizeof(REAL) == sizeof(float))
#define MAX_EXPONENT (IS_FLOAT ? FLT_MAX_EXP : DBL_MAX_EXP)
#define SMALLEST (IS_FLOAT ? (double)FLT_MIN : DBL_MIN)
#define SQRT(a) (IS_FLOAT ? (REAL)sqrtf((float)(a)) : (REAL)sqrt((double)(a)))

#include "costs.c"
#include "solve.c"
#include "match.c"

const struct core JOIN(core, REAL, ISA) = {costs, solve, match};
