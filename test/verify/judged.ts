/** What both kinds of verification say of a store's rows: `verify`, which compares rows, and the service's digests. */
import { ALL_FIELDS, type Point } from '../../src/aggregate/point.ts';
import { digestOfRows, isSameDigest } from '../../src/deliver/lane/digest.ts';
import type { StoredPoint } from '../../src/sink/contract.ts';
import { ExpectedRows } from '../../src/verify/rows.ts';

export async function judged(stored: readonly StoredPoint[], written: readonly Point[]) {
  const rows = new ExpectedRows(ALL_FIELDS, written.length, (index) => written[index]!);
  const { equal, missing, extra, different } = await rows.compare(each(stored));
  const digests = await Promise.all([stored, written].map((points) => digestOfRows(each(points), '')));
  return { equal, missing, extra, different, sameDigest: isSameDigest(digests[0]!, digests[1]!) };
}

async function* each(points: readonly StoredPoint[]): AsyncGenerator<StoredPoint> {
  yield* points;
}
