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

  test('is unpacked to the original bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: MAX }), (bytes) => {
        const packed = compress(bytes);
        // Noise gets larger when it is compressed, so it can be too large before it is unpacked.
        if (packed.length <= MAX) expect(decompress(packed, encoding, MAX)).toEqual(Buffer.from(bytes));
        else expect(decompress(packed, encoding, MAX)).toBe('too_large');
      }),
    );
    expect(decompress(compress(text), ` ${encoding.toUpperCase()} `, MAX)).toEqual(text);
  });

  test('is limited by its unpacked size, to the byte; a bomb is refused', () => {
    expect(decompress(compress(Buffer.alloc(MAX)), encoding, MAX)).toHaveLength(MAX);
    expect(decompress(compress(Buffer.alloc(MAX + 1)), encoding, MAX)).toBe('too_large');
    const bomb = compress(Buffer.alloc(100_000_000));
    const before = process.memoryUsage().arrayBuffers;
    expect(decompress(bomb, encoding, 1_048_576)).toBe('too_large');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000);
  });

  test('is refused if it is truncated, has trailing bytes or is not compressed', () => {
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

  test('gives bytes or a reason, whatever the input', () => {
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

test('a message may have several members of gzip, but only one frame of zstd', () => {
  const twice = (packed: Buffer) => Buffer.concat([packed, packed]);
  expect(decompress(twice(gzipSync('a')), 'gzip', MAX)).toEqual(Buffer.from('aa'));
  expect(decompress(twice(zstdCompressSync('a')), 'zstd', MAX)).toBe('bad_encoding');
});

test('a frame of zstd that needs more memory than a message may have is refused', async () => {
  const framed = async (windowLog: number) => {
    const stream = createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: windowLog } });
    stream.write('a:1');
    // The size is not known when the frame begins, so the frame asks for the whole window.
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

test('a message that is too large when it arrives is not unpacked', () => {
  expect(decompress(Buffer.alloc(MAX + 1), '', MAX)).toBe('too_large');
  expect(decompress(Buffer.alloc(MAX + 1), 'gzip', MAX)).toBe('too_large');
});
