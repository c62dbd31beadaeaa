import { BusError } from '../bus/bus-error.ts';
import { SinkError } from '../sink/contract.ts';

/** One thing that was checked, and what to do about it if it failed, or if there is something to know about it. */
export interface Finding {
  readonly what: string;
  readonly state: 'ok' | 'failed';
  readonly detail: string;
  readonly advice: string;
}

export function failed(what: string, error: unknown): Finding {
  const known = error instanceof BusError || error instanceof SinkError ? error.advice : '';
  const unreachable =
    error instanceof SinkError && (error.reason === 'connection' || error.reason === 'timeout');
  const advice =
    known === '' && unreachable ? 'Check the address of the store, and that the store listens there.' : known;
  const detail = error instanceof Error ? error.message : String(error);
  return { what, state: 'failed', detail, advice };
}
