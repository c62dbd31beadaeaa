/** node:sqlite without a warning: Node.js 22 calls it experimental on stderr, where our log has lines of JSON. */
const { emitWarning } = process;
process.emitWarning = () => {};
export const { DatabaseSync } = await import('node:sqlite');
process.emitWarning = emitWarning;
