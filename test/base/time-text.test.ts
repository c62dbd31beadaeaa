import { expect, test } from 'vitest';
import { parsePast } from '../../src/base/time-text.ts';

const NOW = Date.parse('2026-11-23T18:00:00.500Z');
const read = (text: string) => {
  const ms = parsePast(text, NOW);
  return ms === undefined ? undefined : new Date(ms).toISOString();
};

test.each([
  ['10m', '2026-11-23T17:50:00.500Z'],
  ['90s', '2026-11-23T17:58:30.500Z'],
  ['7d', '2026-11-16T18:00:00.500Z'],
  ['17:36', '2026-11-23T17:36:00.000Z'],
  ['18:00', '2026-11-23T18:00:00.000Z'],
  // The last one before now was yesterday.
  ['18:36', '2026-11-22T18:36:00.000Z'],
  ['00:00:07', '2026-11-23T00:00:07.000Z'],
  ['2026-11-22', '2026-11-22T00:00:00.000Z'],
  ['2026-11-23T01:30:00+02:00', '2026-11-22T23:30:00.000Z'],
])('%s is %s', (text, time) => {
  expect(read(text)).toBe(time);
});

test.each(['yesterday', '10', 'm', '-10m', '1.5h', '24:00', '18:60', '8:00', '2026-02-30', '2026-11', ''])(
  '%j is no time',
  (text) => {
    expect(read(text)).toBeUndefined();
  },
);
