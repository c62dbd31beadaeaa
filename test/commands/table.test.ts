import { expect, test } from 'vitest';
import { outcomesText } from '../../src/commands/ctl-report.ts';
import { columnsOf, renderTable } from '../../src/commands/terminal/table.ts';
import { reportOf, reportText } from '../../src/commands/verify-report.ts';
import { sinkStatus, statusOf } from '../observe/parts.ts';

const widest = (text: string) => Math.max(...text.split('\n').map(columnsOf));

test('a table of much text has 80 columns, and loses nothing of it', () => {
  const long =
    'an account of what happened to it, in so many words that they need several lines of a terminal';
  const rows = [
    ['sqlite', '12', long],
    ['postgres', '3', `${'x'.repeat(150)} ${long}`],
  ];
  const table = renderTable(['sink', 'windows', 'detail'], rows, { width: 80 });
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
  const table = renderTable(header, rows, { width: 80 });
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
  const table = renderTable(header, rows, { width: 80 });
  expect(widest(table)).toBeLessThanOrEqual(80);
  expect(table.match(/^sqlite/gm)!.length).toBeGreaterThan(1);
  for (const text of [...header.slice(1), ...rows[0]!.slice(1)]) expect(table).toContain(text);
  // Whoever reads it by program gets whole lines.
  expect(renderTable(header, rows).split('\n')).toHaveLength(3);
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
  const text = reportText(reportOf(found), 80);
  expect(widest(text)).toBeLessThanOrEqual(80);
  for (const number of ['123456', '111111', '1234567890']) expect(text).toContain(number);
});

/** As `ask --by app,pod` prints it: a counter has no least and greatest value. */
const ASKED = ['name', 'type', 'app', 'pod', 'count', 'count/s', 'sum', 'sum/s', 'min', 'max', 'p50', 'p99'];
const LARGEST = '61003456789.25';
const asked = ['http.requests', 'http.request.duration', 'http.request.duration.total'].flatMap((name, i) =>
  ['checkout', '12345678901'].map((app) => [
    ...[name, i === 0 ? 'counter' : 'timer', app, 'frontend-7d9f8c6b5-x2x7k'],
    ...['1234567', '1.5e+21', LARGEST, '–', i === 0 ? '–' : '-3', i === 0 ? '–' : LARGEST, '1', '2'],
  ]),
);

/** The tables of an output, as rows of cells. Cells are two spaces apart. */
const tablesOf = (text: string) =>
  text.split('\n\n').map((table) => table.split('\n').map((line) => line.trim().split(/ {2,}/)));

test.each([60, 80, 100, 120])('at %i columns, no number is cut, and rows differ in each table', (width) => {
  const text = renderTable(ASKED, asked, { width, keys: [0, 1, 2, 3], cutsKeys: true });
  expect(widest(text)).toBeLessThanOrEqual(width);
  const numbers = asked.flat().filter((cell) => /^[-\d]/.test(cell));
  for (const number of numbers) expect(text.split(/\s+/)).toContain(number);
  const tables = tablesOf(text);
  for (const [header, ...rows] of tables) {
    expect(header!.slice(0, 4)).toEqual(['name', 'type', 'app', 'pod']);
    expect(rows).toHaveLength(asked.length);
    expect(new Set(rows.map((row) => row.slice(0, 4).join(' '))).size).toBe(asked.length);
  }
  expect(tables.flatMap(([header]) => header!.slice(4))).toEqual(ASKED.slice(4));
});

test('with too many dimensions for the width, names go on in the next line, and no number does', () => {
  const keys = Array.from({ length: 5 }, (_, i) => i);
  const names = keys.map((key) => `a-dimension-of-many-words-${key}`);
  const rows = ['x', 'y'].map((end) => [...names.map((name) => `${name}-${end}`), LARGEST]);
  const text = renderTable([...names, 'sum'], rows, { width: 80, keys, cutsKeys: true });
  expect(widest(text)).toBeLessThanOrEqual(80);
  expect(text.split(LARGEST)).toHaveLength(3);
  expect(text).not.toContain('…');
});

test('a number stays on one line with its unit', () => {
  const cells = ['19 ms (4.8 times)', '12,345 points', '1.2 GB (35 times the best)'];
  const text = renderTable(['what', 'a', 'b', 'c'], [['p50', ...cells]], { width: 46 });
  expect(widest(text)).toBeLessThanOrEqual(46);
  for (const whole of ['19 ms', '(4.8 times)', '12,345 points', '1.2 GB', '(35 times'])
    expect(text).toContain(whole);
});

test('every part of ctl status names the instance and the sink', async () => {
  const sinks = ['dynamodb', 'influxdb', 'redshift', 'sqlite'].map((id) =>
    sinkStatus({ id, written: 1_234_567, backlogPoints: 1_000_000 }),
  );
  const replies = ['ed94072324feda38', 'b7a39ba273430089'].map(async (instance) => {
    const body = { instance, ok: true, result: { ...(await statusOf(sinks)), instance } };
    return { reply: { instance, via: 'bus', body } as never };
  });
  const text = outcomesText('status', await Promise.all(replies), 80);
  expect(widest(text)).toBeLessThanOrEqual(80);
  const tables = tablesOf(text.trimEnd());
  expect(tables.length).toBeGreaterThan(1);
  for (const [header, ...rows] of tables) {
    expect(header).toEqual(expect.arrayContaining(['instance', 'sink']));
    expect(rows).toHaveLength(8);
    expect(new Set(rows.map((row) => row.join(' '))).size).toBe(8);
  }
});
