/** node:sqlite without its warning: Node.js 22 prints that it is experimental on stderr, among our lines of JSON. */
const { emitWarning } = process;
process.emitWarning = () => {};
export const { DatabaseSync } = await import('node:sqlite');
process.emitWarning = emitWarning;
