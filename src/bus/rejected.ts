/**
 * Points that a store refused for good, published for whoever wants to look at them; at most once, never waited for.
 */
import type { Bus } from './connect.ts';

/** A record is cut off by the bus above the server's max_payload; well below it, it stays out of everybody's way. */
const MAX_RECORD_BYTES = 256 * 1024;

/** False: not sent (no connection, too much waiting, or the record is too large). Never throws. */
export function publishRejected(bus: Bus, sink: string, record: unknown): boolean {
  try {
    const json = JSON.stringify(record) ?? '';
    if (json === '' || Buffer.byteLength(json) > MAX_RECORD_BYTES) return false;
    return bus.publish(`fanout.rejected.${sink}`, json);
  } catch {
    return false;
  }
}
