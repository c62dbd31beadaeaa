/** How much the merging of files takes at once. */
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { keyOf } from '../../sinks/parquet/encode.ts';
import { Merger } from '../../sinks/parquet/merger.ts';
import { Room } from '../../sinks/parquet/room.ts';
import type { FileStore } from '../../sinks/parquet/store.ts';
import { makePoint } from '../conformance/points.ts';

const NEVER = new AbortController().signal;

describe('files that are merged at once', () => {
  it('have so many bytes in all, and a larger one is merged alone', async () => {
    const sizes: Record<string, number> = { a: 40, b: 60, c: 1, large: 500, d: 100, absent: 0 };
    const merging = new Map<string, number>();
    const replaced: string[] = [];
    const crowded: string[] = [];
    const store: Pick<FileStore, 'get' | 'replace'> = {
      async get(file, _signal, admit) {
        if (file === 'absent') return undefined;
        await admit?.(sizes[file]!);
        merging.set(file, sizes[file]!);
        const bytes = [...merging.values()].reduce((sum, size) => sum + size, 0);
        if (bytes > 100 && merging.size > 1) crowded.push([...merging.keys()].join());
        await setImmediate();
        // Nobody can read it.
        return { bytes: new Uint8Array(8), version: file, release: async () => void merging.delete(file) };
      },
      replace: async (file) => replaced.push(file) > 0,
    };
    const merger = new Merger(store as FileStore, 100);
    const point = makePoint();
    const change = new Map([[keyOf(point.series.id, ''), point]]);
    const done = Object.keys(sizes).map((file) => merger.apply(file, change, NEVER));
    const outcomes = await Promise.allSettled(done);
    expect(outcomes.map(({ status }) => status)).toEqual([...Array(5).fill('rejected'), 'fulfilled']);
    expect(replaced).toEqual(['absent']);
    expect(crowded).toEqual([]);
    expect(merging.size).toBe(0);
  });
});

describe('room', () => {
  it('is given up by who no longer wants it, and goes to the next', async () => {
    const room = new Room(10);
    const leave = await room.take(10, NEVER);
    const left = new AbortController();
    const first = room.take(8, left.signal);
    let isIn = false;
    const second = room.take(2, NEVER).then((give) => {
      isIn = true;
      return give;
    });
    left.abort(new Error('left'));
    await expect(first).rejects.toThrow('left');
    expect(isIn).toBe(false);
    leave();
    leave();
    const give = await second;
    // All of it but two bytes is free, however often it was given back.
    let isLate = false;
    const third = room.take(9, NEVER).then((giveBack) => {
      isLate = true;
      return giveBack;
    });
    await setImmediate();
    expect(isLate).toBe(false);
    give();
    (await third)();
  });
});
