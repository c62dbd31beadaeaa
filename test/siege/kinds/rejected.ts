import { gzipSync, zstdCompressSync } from 'node:zlib';
import { partly, rejected } from '../counts.ts';
import { published, repeated } from './kind.ts';

const PER_SECOND = 1;
const MEGABYTE = 1024 * 1024;
/** As many as fit into a message with brackets and commas. */
const ELEMENTS = MEGABYTE / 2 - 1;
const ELEMENTS_OF_NOTHING = `[${Array(ELEMENTS).fill('0').join(',')}]`;
const LINES = 100_000;
const UNREADABLE = `hostile.rejected value=1i\n${'x\n'.repeat(LINES)}`;
const TOO_LARGE = Buffer.alloc(16 * MEGABYTE, ' ');

const allRejected = partly({ not_an_object: ELEMENTS });
const gzip = { 'Content-Encoding': 'gzip' };

export default published({
  tries: 'half a million elements that are no samples, plain or in a kilobyte of gzip, and bombs of 16 MiB',
  perSecond: PER_SECOND,
  messages: repeated([
    { payload: ELEMENTS_OF_NOTHING, counts: allRejected },
    { payload: gzipSync(ELEMENTS_OF_NOTHING), headers: gzip, counts: allRejected },
    {
      payload: zstdCompressSync(ELEMENTS_OF_NOTHING),
      headers: { 'Content-Encoding': 'zstd' },
      counts: allRejected,
    },
    { payload: UNREADABLE, counts: partly({ not_line_protocol: LINES }, { 'samples: gauge': 1 }) },
    { payload: gzipSync(TOO_LARGE), headers: gzip, counts: rejected('too_large') },
  ]),
});
