/**
 * Compressed messages, by their header `Content-Encoding`. `node:zlib` does no I/O here: its synchronous functions map
 * bytes to bytes.
 */
import { constants, gunzipSync, zstdDecompressSync } from 'node:zlib';
import type { InputRejection } from './rejection.ts';

/** What RFC 8878 asks a decoder of zstd to have room for; more only where messages may be larger. */
const MIN_WINDOW_LOG = 23;
const MAX_WINDOW_LOG = 31;
const BEHIND = Uint8Array.of(0);
const TOO_LARGE = 'ERR_BUFFER_TOO_LARGE';

/** What a message says, of no more than `maxBytes`, however much its bytes would become; or why it cannot be read. */
export function decompress(
  message: Uint8Array,
  encoding: string,
  maxBytes: number,
): Uint8Array | InputRejection {
  if (message.length > maxBytes) return 'too_large';
  try {
    switch (encoding.trim().toLowerCase()) {
      case '':
      case 'identity':
        return message;
      case 'gzip':
      case 'x-gzip':
        return gunzipSync(message, { maxOutputLength: maxBytes });
      case 'zstd':
        return unzstd(message, maxBytes);
      default:
        return 'unknown_encoding';
    }
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === TOO_LARGE ? 'too_large' : 'bad_encoding';
  }
}

/**
 * One frame: Node.js leaves out what is behind the first, and nothing may be lost without being counted. Node.js 22
 * also takes a frame that is cut off for one that is over, and then reads on: so there is a byte behind it that must
 * stay.
 */
function unzstd(message: Uint8Array, maxBytes: number): Uint8Array | InputRejection {
  const windowLog = Math.min(MAX_WINDOW_LOG, Math.max(MIN_WINDOW_LOG, Math.ceil(Math.log2(maxBytes))));
  const options = {
    maxOutputLength: maxBytes,
    params: { [constants.ZSTD_d_windowLogMax]: windowLog },
    info: true,
  };
  const { buffer, engine } = zstdDecompressSync(Buffer.concat([message, BEHIND]), options) as unknown as {
    readonly buffer: Uint8Array;
    readonly engine: { readonly bytesWritten: number };
  };
  return engine.bytesWritten === message.length ? buffer : 'bad_encoding';
}
