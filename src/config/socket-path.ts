/** Paths of Unix sockets. Pure. */
import { isAbsolute } from 'node:path';

/** What Linux takes (sun_path, unix(7)). Node.js cuts off the rest of a longer one. */
const MAX_PATH_BYTES = 107;

export function isSocketPath(text: string): boolean {
  return isAbsolute(text) && Buffer.byteLength(text) <= MAX_PATH_BYTES;
}

/** Returns `auto`, `off` or a path. */
export function parseControlSocket(text: string): string | undefined {
  return text === 'auto' || text === 'off' || isSocketPath(text) ? text : undefined;
}

export const CONTROL_SOCKET_EXPECTED = `auto, off, or an absolute path of at most ${MAX_PATH_BYTES} bytes`;
