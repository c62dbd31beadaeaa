/** How long tests wait. Only what hangs may reach it: a machine with other work to do takes its time. */

/** For what has to come. */
export const LIMIT_MS = 300_000;
/** Of a test: it waits more than once. */
export const TEST_LIMIT_MS = 900_000;
