/** How long tests wait. Only what hangs may reach a limit: a busy machine takes its time. */

/** For something that has to happen. */
export const LIMIT_MS = 300_000;
/** For a whole test, which waits more than once. */
export const TEST_LIMIT_MS = 900_000;
