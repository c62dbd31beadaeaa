import { expect, test } from 'vitest';
import { lineForPeople } from '../../src/base/log-line.ts';

const AT = { level: 'warn', time: '2026-11-23T01:30:00.250Z' };

test('a line has the time of day, the level, the message and the fields; advice is on a line of its own', () => {
  const line = { ...AT, msg: 'the sink is down', sink: 'redshift', reason: 'no answer', advice: 'Start it.' };
  expect(lineForPeople(line, false)).toBe(
    '01:30:00.250 WARN  the sink is down  sink=redshift  reason="no answer"\n     Start it.',
  );
});

test('a value cannot be taken for more than one, and nothing acts on the terminal', () => {
  const line = { ...AT, msg: 'x\u001b[2J', a: 'b=c', list: ['d e', 1], none: null, 'k\u202e': 'v\u200b' };
  expect(lineForPeople(line, false)).toBe(
    '01:30:00.250 WARN  x\\u001b[2J  a="b=c"  list=["d e",1]  none=null  k\\u202e=v\\u200b',
  );
});

test('colours are escapes around the time, the level and the keys', () => {
  const line = lineForPeople({ ...AT, msg: 'm', key: 'value' }, true);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the escapes.
  expect(line.replace(/\u001b\[\d+m/g, '')).toBe(lineForPeople({ ...AT, msg: 'm', key: 'value' }, false));
  expect(line).toContain('\u001b[33mWARN');
});
