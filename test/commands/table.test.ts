import { expect, test } from 'vitest';
import { columnsOf, renderTable } from '../../src/commands/terminal/table.ts';
import { reportOf, reportText } from '../../src/commands/verify-report.ts';

const widest = (text: string) => Math.max(...text.split('\n').map(columnsOf));

test('a table of much text has 80 columns, and loses nothing of it', () => {
  const long =
    'an account of what happened to it, in so many words that they need several lines of a terminal';
  const rows = [
    ['sqlite', '12', long],
    ['postgres', '3', `${'x'.repeat(150)} ${long}`],
  ];
  const table = renderTable(['sink', 'windows', 'detail'], rows);
  expect(widest(table)).toBeLessThanOrEqual(80);
  const said = table.replace(/\s+/g, '');
  for (const [, , text] of rows) expect(said).toContain(text!.replace(/\s+/g, '').slice(-60));
  expect(table.match(/x/g)).toHaveLength(150);
  expect(table.match(/^sqlite/gm)).toHaveLength(1);
});

test('no id is broken, however many columns there are', () => {
  const header = ['instance', 'state', 'sink', 'sink state', 'detail', 'another', 'and one more'];
  const ids = ['ed94072324feda38', 'b7a39ba273430089'];
  const rows = ids.map((id) => [id, 'detached (over its socket)', 'postgres', 'catching_up', id, id, id]);
  const table = renderTable(header, rows);
  expect(widest(table)).toBeLessThanOrEqual(80);
  for (const id of ids) expect(table.split(id).length - 1).toBeGreaterThanOrEqual(4);
  expect(table).toContain('catching_up');
});

test('a table of many numbers becomes several, each with the names', () => {
  const header = ['sink', ...Array.from({ length: 12 }, (_, i) => `number ${i}`)];
  const rows = ['sqlite', 'postgres'].map((name) => [
    name,
    ...header.slice(1).map((_, i) => String(10 ** i)),
  ]);
  const table = renderTable(header, rows);
  expect(widest(table)).toBeLessThanOrEqual(80);
  expect(table.match(/^sqlite/gm)!.length).toBeGreaterThan(1);
  for (const text of [...header.slice(1), ...rows[0]!.slice(1)]) expect(table).toContain(text);
  // Whoever reads it by program gets whole lines.
  expect(renderTable(header, rows, { width: Number.POSITIVE_INFINITY }).split('\n')).toHaveLength(3);
});

test('the report of verify has 80 columns', () => {
  const found = ['a_sink_with_a_name', 'postgres'].map((id) => ({
    id,
    range: { from: 0, to: 40_000 },
    began: undefined,
    keptFrom: undefined,
    lost: 0,
    notHeld: 0,
    unconfirmed: 0,
    verdict: {
      windows: { equal: 123_456, different: 654_321, notOwed: 111_111, unknown: 222_222 },
      rows: { equal: 1_234_567_890, missing: 12_345_678, extra: 12_345_678, different: 12_345_678 },
      reasons: [],
      examples: [],
    },
  }));
  const text = reportText(reportOf(found));
  expect(widest(text)).toBeLessThanOrEqual(80);
  for (const number of ['123456', '111111', '1234567890']) expect(text).toContain(number);
});
