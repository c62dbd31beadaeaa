/**
 * Resolves when whoever reads our output has all of it: an exit before that would cut it off. `code`: what the process
 * ends with, also where whoever reads has had enough.
 */
export async function print(text: string, code = 0): Promise<void> {
  process.exitCode = code;
  await new Promise<void>((resolve) => process.stdout.write(text, () => resolve()));
}

/** What is odd and yet no error, beside the output. */
export function warn(warnings: readonly string[]): void {
  for (const warning of warnings) process.stderr.write(`metrics-fanout: ${warning}\n`);
}
