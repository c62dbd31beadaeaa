/** Resolves when whoever reads our output has all of it: an exit before that would cut it off. */
export async function print(text: string): Promise<void> {
  await new Promise<void>((resolve) => process.stdout.write(text, () => resolve()));
}
