// @ts-check
/** A folder with a log of rows per window: what a sink outside of metrics-fanout looks like, and all that it takes. */
import { appendFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { defineSink, FIELDS, SinkError, setting } from 'metrics-fanout/sink';

/** @import { Point, Rejection, StoredPoint } from 'metrics-fanout/sink' */

/** @param {Point} point */
const isStorable = (point) => FIELDS[point.series.type].every((field) => Number.isFinite(point[field]));

/** The last line of a key counts; without a point it is gone. @param {Point} at @param {object} row */
const line = ({ series, instance }, row) =>
  `${JSON.stringify({ key: `${series.id} ${instance}`, ...row })}\n`;

/** @param {string} text @returns {(StoredPoint | undefined)[]} */
function latest(text) {
  const rows = new Map();
  for (const line of text.split('\n')) {
    // A line that a crash cut short was never acknowledged; what came next began a new one.
    if (!line.endsWith('}')) continue;
    const { key, point } = JSON.parse(line);
    rows.set(key, point);
  }
  return [...rows.values()];
}

export default defineSink({
  kind: 'acme',
  summary: 'a folder with a log of rows per window',
  settings: { folder: setting.text({ meaning: 'where the files go', required: true }) },
  limits: { maxPoints: 5_000, maxBytes: 4_000_000, inFlight: 1 },
  create: ({ folder }) => ({
    async open() {
      try {
        mkdirSync(folder, { recursive: true });
      } catch (error) {
        throw new SinkError('not_found', `${folder}: ${error}`, 'Set another folder.', { cause: error });
      }
    },
    // In one go: the sink has a thread of its own, and other writers append to the same files.
    async write({ points }, signal) {
      signal.throwIfAborted();
      /** @type {Rejection[]} */
      const rejected = [];
      const logs = new Map();
      for (const [index, point] of points.entries()) {
        const { windowMs: _, ...row } = point;
        if (isStorable(point)) {
          logs.set(point.windowStart, (logs.get(point.windowStart) ?? '\n') + line(point, { point: row }));
        } else {
          rejected.push({ index, reason: 'invalid_value', message: 'a field is not a finite number' });
        }
      }
      for (const [window, text] of logs) appendFileSync(join(folder, `${window}`), text);
      return rejected.length === 0 ? { kind: 'written' } : { kind: 'partial', retry: [], rejected };
    },
    async *read({ from, to }, signal) {
      for (const window of readdirSync(folder).filter((name) => Number(name) >= from && Number(name) < to)) {
        for (const point of latest(readFileSync(join(folder, window), 'utf8'))) {
          signal.throwIfAborted();
          if (point !== undefined) yield point;
        }
      }
      signal.throwIfAborted();
    },
    async remove({ points }) {
      for (const point of points)
        appendFileSync(join(folder, `${point.windowStart}`), `\n${line(point, {})}`);
    },
    async close() {},
  }),
});
