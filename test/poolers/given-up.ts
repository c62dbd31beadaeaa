/** Writes that are given up, and what becomes of them in PostgreSQL. */
import pg from 'pg';
import { expect } from 'vitest';
import type { Postgres } from '../../src/servers/postgres.ts';
import type { Sink } from '../../src/sink/contract.ts';
import { differences, EVERYTHING, manyPoints, readAll, START, WINDOW_MS } from '../conformance/points.ts';
import { FaultProxy } from '../faults/proxy.ts';

const NEVER = new AbortController().signal;

const statements = (condition: string) =>
  `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND ${condition}`;

/**
 * `one` writes two points, of which the table at `url` has both and somebody else holds the first; or, if `areNew`, has
 * none, and somebody else is about to insert the first. It is given up, and `other`, which may be the same, writes the
 * second point anew. The table must end with what was written last.
 */
export async function expectOrder(
  server: Postgres,
  url: string,
  one: Sink,
  other: Sink,
  areNew = false,
): Promise<void> {
  const database = new URL(url).pathname.slice(1);
  const count = async (condition: string) =>
    (await server.execute(statements(condition), database)).rows.length;
  const windowStart = START + (areNew ? WINDOW_MS : 0);
  const [a, b] = manyPoints(2, 7)
    .map((point) => ({ ...point, windowStart }))
    .sort((x, y) => (x.series.id < y.series.id ? -1 : 1));
  const holder = new pg.Client(url);
  await holder.connect();
  try {
    const id = a!.series.id;
    const at = new Date(windowStart).toISOString().slice(0, -1);
    await holder.query(
      areNew
        ? `BEGIN; INSERT INTO points (window_start, window_ms, series_id, instance, name, type, dimensions, count, sum)
             VALUES ('${at}', 1, '${id}', '', '', '', '{}', 1, 1)`
        : `BEGIN; SELECT 1 FROM points WHERE series_id = '${id}' FOR UPDATE`,
    );
    const left = new AbortController();
    const older = one.write({ points: [a!, b!] }, left.signal).catch(() => undefined);
    await expect.poll(() => count(`wait_event_type = 'Lock'`)).toBe(1);
    left.abort();
    await older;
    let newer: string | undefined;
    const newest = { ...b!, count: 1_000 };
    const writing = other.write({ points: [newest] }, NEVER).then(({ kind }) => {
      newer = kind;
    });
    const waitsOrIsDone = async () => newer !== undefined || (await count(`wait_event = 'advisory'`)) > 0;
    await expect.poll(waitsOrIsDone).toBe(true);
    await holder.query(areNew ? 'ROLLBACK' : 'COMMIT');
    await writing;
    expect(newer).toBe('written');
    await expect.poll(() => count(`state <> 'idle' AND backend_type = 'client backend'`)).toBe(0);
    const held = await readAll(other, { from: windowStart, to: windowStart + 1 }, NEVER);
    expect(differences(held, [held.find(({ series }) => series.id === a!.series.id)!, newest])).toEqual([]);
  } finally {
    await holder.end();
  }
}

/** A write hangs in the network, is given up, and goes on when another sink has written the same points anew. */
export async function expectLateWriteLost(
  server: Postgres,
  url: string,
  made: (url: string) => Sink,
): Promise<void> {
  const proxy = await FaultProxy.start(server.port);
  try {
    const far = made(url.replace(`:${server.port}/`, `:${proxy.port}/`));
    const near = made(url);
    for (const sink of [far, near]) await sink.open(NEVER);
    await far.write({ points: manyPoints(3) }, NEVER);
    proxy.hang();
    const left = new AbortController();
    const older = far.write({ points: manyPoints(3, 1) }, left.signal).catch(() => undefined);
    await expect.poll(() => proxy.held).toBeGreaterThan(0);
    left.abort();
    await older;
    expect(await near.write({ points: manyPoints(3, 2) }, NEVER)).toEqual({ kind: 'written' });
    await proxy.pass();
    await expect.poll(() => proxy.clients).toBe(0);
    const database = new URL(url).pathname.slice(1);
    const running = async () => (await server.execute(statements(`state <> 'idle'`), database)).rows.length;
    await expect.poll(running).toBe(0);
    expect(differences(await readAll(near, EVERYTHING, NEVER), manyPoints(3, 2))).toEqual([]);
  } finally {
    await proxy.stop();
  }
}
