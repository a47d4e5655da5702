/* Calls one function of layers.c: `layers NAME KINDS THREADS`, with its arguments in the standard input. Writes the
 * tensors, as the function left them, and what it returned.
 *
 * CALLS is a file with a line for each function: CALL(gelu, 0, I(0), I(1), T(2), T(3), T(4)) */

#include "layers.c"
#include "values.h"

static union {
    i64 number;
    double real;
    void *tensor;
} argument[32];
static int64_t n_bytes[32];

#define I(i) argument[i].number
#define D(i) argument[i].real
#define T(i) argument[i].tensor
#define CALL(function, ...) if (!strcmp(name, #function)) function(__VA_ARGS__);
#define CALL_FOR_NUMBER(function, ...) if (!strcmp(name, #function)) result = function(__VA_ARGS__);

int main(int count, char **arguments) {
    if (count != 4) return 2;
    const char *name = arguments[1], *kinds = arguments[2];
    double result = 0;
    for (int i = 0; kinds[i]; i++) {
        if (kinds[i] == 't') argument[i].tensor = take_tensor(&n_bytes[i]);
        else take(&argument[i], 8);
    }
    use_threads(atoi(arguments[3]));
#include CALLS
    for (int i = 0; kinds[i]; i++)
        if (kinds[i] == 't' && argument[i].tensor) give(argument[i].tensor, n_bytes[i]);
    give(&result, sizeof result);
    return 0;
}
