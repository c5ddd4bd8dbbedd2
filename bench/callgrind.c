/* callgrind: switches the counting of instructions on and off, for instructions.py, which loads this library.
 *
 *     cc -O2 -shared -fPIC -o callgrind callgrind.c
 *
 * Each function is one request to callgrind, which does nothing in a process that valgrind does not run.
 */
#include <valgrind/callgrind.h>

/* Begin to translate code for counting. Nothing is counted yet where valgrind runs with --collect-atstart=no. */
void begin(void)
{
	CALLGRIND_START_INSTRUMENTATION;
}

/* Begin to count, or stop. */
void toggle(void)
{
	CALLGRIND_TOGGLE_COLLECT;
}

/* Write what was counted to a file, with this name in it, and begin anew at 0. */
void dump(const char *name)
{
	CALLGRIND_DUMP_STATS_AT(name);
}
