/** What a sink makes in its store because it is missing: it is said, and a command that only reads makes none of it. */
import { type SinkContext, SinkError, type SinkLog } from './contract.ts';

const ADVICE =
  'A command that only reads makes nothing: give it the settings of the service, in the same folder, and let the service begin first.';

export type MakingContext = Pick<SinkContext, 'log' | 'readOnly'>;

/**
 * Has something made, such as `table points`, and logs that it was. Throws a `SinkError` if the sink may only read. The
 * field `made` of what is logged tells `check` what it was.
 */
export async function makeMissing<T>(
  { log, readOnly }: MakingContext,
  what: string,
  make: () => T | Promise<T>,
): Promise<T> {
  if (readOnly) throw new SinkError('not_found', `there is no ${what}`, ADVICE);
  const made = await make();
  log.info({ made: what }, `made the ${what}`);
  return made;
}

/** A log that keeps what was made: add it to `made`. */
export function makingLog(made: string[]): SinkLog {
  return {
    info(fields) {
      if ('made' in fields && typeof fields.made === 'string') made.push(fields.made);
    },
    warn() {},
  };
}
