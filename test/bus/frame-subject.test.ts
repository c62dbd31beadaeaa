import fc from 'fast-check';
import { expect, it } from 'vitest';
import { FrameSubject } from '../../src/bus/frame-subject.ts';
import { effort } from '../effort.ts';

const token = fc.oneof(
  fc.constantFrom('metrics', 'a', 'tenant-1', 'tenant-10', 'ä', 'x'.repeat(200)),
  fc.stringMatching(/^[a-z0-9-]{1,12}$/),
);
const subject = fc.array(token, { minLength: 1, maxLength: 4 }).map((tokens) => tokens.join('.'));

const numbered = new Map<number, string>();

/** Returns the subject. Its number means that subject for good; only those that are too long to be kept have none. */
function numberedSubject(envelope: FrameSubject, length: number): string {
  const { subjectNumber, subject: text } = envelope;
  if (subjectNumber === undefined) expect(length).toBeGreaterThan(128);
  else {
    expect(numbered.get(subjectNumber) ?? text).toBe(text);
    numbered.set(subjectNumber, text);
  }
  return text;
}

it('is the subject of each frame, whatever came before, wherever it lies', () => {
  const envelope = new FrameSubject();
  fc.assert(
    fc.property(
      fc.array(fc.array(subject, { maxLength: 60 }), { maxLength: 4 }),
      fc.nat(3),
      (chunks, offset) => {
        for (const subjects of chunks) {
          const encoded = subjects.map((text) => Buffer.from(text));
          const whole = Buffer.concat([Buffer.alloc(offset + 4), ...encoded]);
          // Views of others' memory, and at any offset.
          const bytes = whole.subarray(offset);
          let at = 4;
          const found = encoded.map(({ length }) => {
            envelope.isAt(bytes, at, at + length);
            at += length;
            return numberedSubject(envelope, length);
          });
          expect(found).toEqual(subjects);
        }
      },
    ),
    { numRuns: effort(300) },
  );
});

it('is right for more subjects than are kept', () => {
  const envelope = new FrameSubject();
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 5000; i++) {
      const bytes = Buffer.from(`metrics.tenant-${i}`);
      envelope.isAt(bytes, 0, bytes.length);
      expect(numberedSubject(envelope, bytes.length)).toBe(`metrics.tenant-${i}`);
    }
  }
});
