import { constants, createZstdCompress, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decompress } from '../../src/decode/encoding.ts';
import { effort } from '../effort.ts';

const MAX = 1000;
const text = Buffer.from('a:1|c\n'.repeat(100));
const COMPRESS = { gzip: gzipSync, zstd: zstdCompressSync } as const;
const encodings = ['gzip', 'zstd'] as const;

describe.each(encodings)('%s', (encoding) => {
  const compress = (bytes: Uint8Array) => COMPRESS[encoding](bytes);

  test('comes out as it went in', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: MAX }), (bytes) => {
        const packed = compress(bytes);
        // Noise grows: then it is too large before it is unpacked.
        if (packed.length <= MAX) expect(decompress(packed, encoding, MAX)).toEqual(Buffer.from(bytes));
        else expect(decompress(packed, encoding, MAX)).toBe('too_large');
      }),
    );
    expect(decompress(compress(text), ` ${encoding.toUpperCase()} `, MAX)).toEqual(text);
  });

  test('is bounded by what comes out, to the byte; a bomb is refused', () => {
    expect(decompress(compress(Buffer.alloc(MAX)), encoding, MAX)).toHaveLength(MAX);
    expect(decompress(compress(Buffer.alloc(MAX + 1)), encoding, MAX)).toBe('too_large');
    const bomb = compress(Buffer.alloc(100_000_000));
    const before = process.memoryUsage().arrayBuffers;
    expect(decompress(bomb, encoding, 1_048_576)).toBe('too_large');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000);
  });

  test('what is cut off, changed or something else is refused', () => {
    const packed = compress(text);
    for (let length = 0; length < packed.length; length++) {
      expect([length, decompress(packed.subarray(0, length), encoding, MAX)]).toEqual([
        length,
        'bad_encoding',
      ]);
    }
    expect(decompress(Buffer.from('a:1|c'), encoding, MAX)).toBe('bad_encoding');
    expect(decompress(Buffer.concat([packed, Buffer.from('more')]), encoding, MAX)).toBe('bad_encoding');
  });

  test('whatever comes, it is bytes or a reason', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }), (changes) => {
        const packed = compress(text);
        for (const [at, byte] of changes) packed[at % packed.length] = byte;
        const said = decompress(packed, encoding, MAX);
        if (typeof said !== 'string') expect(said.length).toBeLessThanOrEqual(MAX);
        else expect(said).toMatch(/^(bad_encoding|too_large)$/);
      }),
      { numRuns: effort(1000) },
    );
  });
});

test('several members of gzip are one message; of zstd, only one frame is', () => {
  const twice = (packed: Buffer) => Buffer.concat([packed, packed]);
  expect(decompress(twice(gzipSync('a')), 'gzip', MAX)).toEqual(Buffer.from('aa'));
  expect(decompress(twice(zstdCompressSync('a')), 'zstd', MAX)).toBe('bad_encoding');
});

test('a frame of zstd that wants more memory than a message may have is refused', async () => {
  const framed = async (windowLog: number) => {
    const stream = createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: windowLog } });
    stream.write('a:1');
    // The size is not known yet when the frame begins, so that it asks for all of the window.
    await new Promise<void>((resolve) => stream.flush(resolve));
    stream.end('|c');
    return Buffer.concat(await Array.fromAsync(stream));
  };
  expect(decompress(await framed(23), 'zstd', MAX)).toEqual(Buffer.from('a:1|c'));
  expect(decompress(await framed(27), 'zstd', MAX)).toBe('bad_encoding');
  expect(decompress(await framed(27), 'zstd', 2 ** 27)).toEqual(Buffer.from('a:1|c'));
});

test.each([
  ['', text],
  ['identity', text],
  ['x-gzip', text],
  ['br', 'unknown_encoding'],
  ['deflate', 'unknown_encoding'],
  ['gzip,gzip', 'unknown_encoding'],
  ['__proto__', 'unknown_encoding'],
])('the encoding %j', (encoding, said) => {
  expect(decompress(encoding === 'x-gzip' ? gzipSync(text) : text, encoding, MAX)).toEqual(said);
});

test('a message that is too large as it comes is not unpacked', () => {
  expect(decompress(Buffer.alloc(MAX + 1), '', MAX)).toBe('too_large');
  expect(decompress(Buffer.alloc(MAX + 1), 'gzip', MAX)).toBe('too_large');
});
