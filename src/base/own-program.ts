/** Where this program is, so that it can start itself as another process. */
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `main.ts` if the sources run directly, `main.js` if they were compiled. */
export const MAIN = fileURLToPath(new URL(`../main${extname(import.meta.url)}`, import.meta.url));
