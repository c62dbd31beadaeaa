/** Where this program is, so that it can start itself as another process or thread. */
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * `src/`, or the folder of the package that is made from it. In both, this code lies one folder below it: the build
 * sees to that.
 */
const ROOT = new URL('../', import.meta.url);

/** Returns a file or folder of `src/` that is no code. */
export function ownFile(path: string): string {
  return fileURLToPath(new URL(path, ROOT));
}

/** Returns a module where a process or thread begins, `path` without its extension. */
export function ownModule(path: string): URL {
  return new URL(path + extname(import.meta.url), ROOT);
}

/** `main.ts` if the sources run directly, `main.js` if they were built. */
export const MAIN = fileURLToPath(ownModule('main'));
