/**
 * Compressed messages, by their header `Content-Encoding`. `node:zlib` does no I/O here: its synchronous functions only
 * turn bytes into bytes.
 */
import { constants, gunzipSync, zstdDecompressSync } from 'node:zlib';
import type { InputRejection } from './rejection.ts';

/** The window size that RFC 8878 asks every zstd decoder to support. We allow more only if messages may be larger. */
const MIN_WINDOW_LOG = 23;
const MAX_WINDOW_LOG = 31;
const TRAILER = Uint8Array.of(0);
/** Stand for the encoding of what is in a stream for the server's own use. No header can have a line break. */
export const DELETE_MARKER = '\ndelete_marker';
export const SCHEDULE = '\nschedule';
const TOO_LARGE = 'ERR_BUFFER_TOO_LARGE';

/** Returns the decompressed message; a reason instead if it cannot be read or would be longer than `maxBytes`. */
export function decompress(
  message: Uint8Array,
  encoding: string,
  maxBytes: number,
): Uint8Array | InputRejection {
  if (encoding === DELETE_MARKER) return 'delete_marker';
  if (encoding === SCHEDULE) return 'schedule';
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
 * Decompresses exactly one frame: Node.js ignores what comes after the first, but nothing may be lost uncounted.
 * Node.js 22 also treats a truncated frame as complete, and then reads on. So we append a byte that must be left over.
 */
function unzstd(message: Uint8Array, maxBytes: number): Uint8Array | InputRejection {
  const windowLog = Math.min(MAX_WINDOW_LOG, Math.max(MIN_WINDOW_LOG, Math.ceil(Math.log2(maxBytes))));
  const options = {
    maxOutputLength: maxBytes,
    params: { [constants.ZSTD_d_windowLogMax]: windowLog },
    info: true,
  };
  const { buffer, engine } = zstdDecompressSync(Buffer.concat([message, TRAILER]), options) as unknown as {
    readonly buffer: Uint8Array;
    readonly engine: { readonly bytesWritten: number };
  };
  return engine.bytesWritten === message.length ? buffer : 'bad_encoding';
}
