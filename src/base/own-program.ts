/** Where this program itself is: for processes of its own. */
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The sources where they run as they are, the build where they were compiled. */
export const MAIN = fileURLToPath(new URL(`../main${extname(import.meta.url)}`, import.meta.url));
