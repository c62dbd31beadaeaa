/**
 * Publishes points that a store refused for good, for anyone who wants to look at them. At most once; nothing waits for
 * it.
 */
import type { Bus } from './connect.ts';

/**
 * The bus rejects records above the server's max_payload. This limit is well below that, so that records do not crowd
 * out other messages.
 */
const MAX_RECORD_BYTES = 256 * 1024;

/** Returns false if it was not sent (no connection, too much unsent data, or the record is too large). Never throws. */
export function publishRejected(bus: Bus, sink: string, record: unknown): boolean {
  try {
    const json = JSON.stringify(record) ?? '';
    if (json === '' || Buffer.byteLength(json) > MAX_RECORD_BYTES) return false;
    return bus.publish(`fanout.rejected.${sink}`, json);
  } catch {
    return false;
  }
}
