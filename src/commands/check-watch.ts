/** Watches the bus for a while, for `check --watch`: does the stream store all that is published? */
import { amount, counted } from '../base/number-format.ts';
import type { Bus } from '../bus/connect.ts';
import { createJetStreamSource } from '../bus/read/jetstream.ts';
import type { Reader } from '../bus/read/source.ts';
import { BusWatch } from '../bus/read/watch.ts';
import { describeStream } from '../bus/stream.ts';
import type { CoreConfig } from '../config/core-settings.ts';
import { type Finding, failed } from './check-finding.ts';

export const WATCH_NAME = 'what the stream stores';

const NOBODY: Reader = { message() {}, progress() {} };
/** What it would log is the finding. */
const SILENT = { warn() {}, error() {} };
const ADVICE =
  'Publish with acknowledgements, or slower, or raise the limits of the stream: see docs/producers.md.';

/** Takes `ms`, and then as long as the stream needs to store what it will store. */
export async function checkWatch(bus: Bus, core: CoreConfig, ms: number): Promise<Finding> {
  const what = WATCH_NAME;
  const over = new AbortController();
  try {
    const { lastSequence } = await describeStream(bus, core);
    const start = { kind: 'sequence', sequence: lastSequence + 1 } as const;
    const watch = new BusWatch(bus, core, { share: 1, log: SILENT });
    const source = watch.watched(createJetStreamSource(bus, core, { start, isPassive: true }));
    const read = source.run(NOBODY, over.signal);
    await Promise.race([watch.run(over.signal, ms), read]);
    over.abort();
    await read;
    return findingOf(watch);
  } catch (error) {
    return failed(what, error);
  } finally {
    over.abort();
  }
}

function findingOf({ status: { state, heard, unstored, unknownSpans, unknown } }: BusWatch): Finding {
  const what = WATCH_NAME;
  if (state === 'forbidden')
    return {
      what,
      state: 'failed',
      detail: unknown ?? '',
      advice: 'Allow the user to subscribe to METRICS_SUBJECTS.',
    };
  const detail = `the stream did not store ${amount(unstored)} of ${counted(heard, 'message')} heard on the bus`;
  if (unstored > 0) return { what, state: 'failed', detail, advice: ADVICE };
  const doubt = unknownSpans === 0 ? '' : `; ${unknownSpans} s unknown: ${unknown}`;
  return { what, state: 'ok', detail: `${detail}${doubt}`, advice: '' };
}
