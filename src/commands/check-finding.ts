import { errorText } from '../base/error-text.ts';
import { BusError } from '../bus/bus-error.ts';
import { SinkError } from '../sink/contract.ts';

/** One thing that was checked, and what to do about it; of what is `ok`, what is good to know. */
export interface Finding {
  readonly what: string;
  /** `warn`: it works, and yet there is something to do. */
  readonly state: 'ok' | 'warn' | 'failed';
  readonly detail: string;
  readonly advice: string;
}

/** Says that the identity of a store is not the one that the checkpoint remembers. */
export function otherStoreInWords(place: string | undefined, found: string, known: string): string {
  const at = place === undefined ? '' : ` at ${place}`;
  return `the store${at} is not the one that the checkpoint is about: its identity is ${found}, not ${known}`;
}

export function failed(what: string, error: unknown): Finding {
  const known = error instanceof BusError || error instanceof SinkError ? error.advice : '';
  const unreachable =
    error instanceof SinkError && (error.reason === 'connection' || error.reason === 'timeout');
  const advice =
    known === '' && unreachable ? 'Check the address of the store, and that the store listens there.' : known;
  const detail = errorText(error);
  return { what, state: 'failed', detail, advice };
}
