/**
 * Resolves when the reader of our output has all of it: an exit before that would cut it off. `code` is the exit code
 * of the process, even if the reader stops early.
 */
export async function print(text: string, code = 0): Promise<void> {
  process.exitCode = code;
  await new Promise<void>((resolve) => process.stdout.write(text, () => resolve()));
}

/** Prints warnings to stderr, apart from the output. */
export function warn(warnings: readonly string[]): void {
  for (const warning of warnings) process.stderr.write(`metrics-fanout: ${warning}\n`);
}
