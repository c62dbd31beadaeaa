/**
 * Receipts: see `Sink.receipt`. Each writer has a file of its own in the root, beside the folders of the data: whoever
 * copies the root, or sets it back, takes it along. It costs as much as a file of data: it is read and replaced.
 */
import { isAsKnown, type ReceiptBefore, SinkError } from '../../src/sink/index.ts';
import type { FileStore, Stored } from './store.ts';

/** How often the file may turn out to have been replaced meanwhile: another instance gives the same receipts. */
const MAX_ATTEMPTS = 4;

/** Readers skip names that begin with an underscore. */
const fileOf = (writer: string) => `_receipt.${writer}.json`;

/** Resolves to the receipt of the writer; undefined if there is none. */
export async function receiptIn(
  store: FileStore,
  writer: string,
  signal: AbortSignal,
): Promise<number | undefined> {
  const stored = await store.get(fileOf(writer), signal);
  await stored?.release();
  return stored && timeIn(stored);
}

/** See `Sink.giveReceipt`. */
export async function giveReceiptIn(
  store: FileStore,
  writer: string,
  time: number,
  known: number | undefined,
  signal: AbortSignal,
): Promise<ReceiptBefore> {
  const file = fileOf(writer);
  const text = `${JSON.stringify({ time, until: new Date(time).toISOString() })}\n`;
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
    const stored = await store.get(file, signal);
    try {
      const before = stored && timeIn(stored);
      if (!isAsKnown(before, known) || (before !== undefined && before >= time)) return { before };
      if (await store.replace(file, Buffer.from(text), stored, signal)) return { before };
    } finally {
      await stored?.release();
    }
  }
  throw new SinkError('conflict', `another process keeps writing ${file}`);
}

/** Returns undefined if somebody else wrote the file: then the store gets all windows again, and after that another. */
function timeIn({ bytes }: Stored): number | undefined {
  const [, digits] = /^\{"time":(-?\d+)[,}]/.exec(Buffer.from(bytes).toString()) ?? [];
  return digits === undefined ? undefined : Number(digits);
}
