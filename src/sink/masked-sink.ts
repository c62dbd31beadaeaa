/**
 * Creates sinks whose errors hold none of their secrets, even if the store, or a proxy in front of it, repeats what it
 * was sent.
 */
import { Masker } from '../settings/masker.ts';
import { foreignSecrets, secretsIn } from '../settings/secrets.ts';
import type { Environment, Settings, Values } from '../settings/setting.ts';
import {
  type Sink,
  type SinkContext,
  SinkError,
  type SinkLog,
  type SinkModule,
  type WriteOutcome,
} from './contract.ts';

interface Described {
  readonly id: string;
  readonly module: SinkModule;
  readonly values: Values<Settings>;
  readonly timeoutMs?: number | undefined;
  readonly readOnly?: boolean | undefined;
}

export function maskerOf({ module, values }: Pick<Described, 'module' | 'values'>, env: Environment): Masker {
  return new Masker([...secretsIn(module.settings, values), ...foreignSecrets(env)]);
}

/** Creates a sink. The whole program creates its sinks here. */
export function createSink(
  described: Described,
  log: SinkLog,
  env: Environment,
  connectBus?: SinkContext['connectBus'],
): Sink {
  const { id, module, values, timeoutMs, readOnly } = described;
  const masker = maskerOf(described, env);
  try {
    const context = { id, log: maskedLog(log, masker), timeoutMs, readOnly, connectBus };
    return masked(module.create(values, context), masker);
  } catch (error) {
    throw cleaned(error, masker);
  }
}

function masked(sink: Sink, masker: Masker): Sink {
  const clean = async <T>(call: () => Promise<T>): Promise<T> => {
    try {
      return await call();
    } catch (error) {
      throw cleaned(error, masker);
    }
  };
  async function* rows<T>(call: () => AsyncIterable<T>): AsyncGenerator<T> {
    try {
      yield* call();
    } catch (error) {
      throw cleaned(error, masker);
    }
  }
  const {
    lookUp,
    ask,
    identity,
    receipt,
    giveReceipt,
    storage,
    query,
    version,
    compact,
    claim,
    drop,
    trials,
  } = sink;
  return {
    open: (signal) => clean(() => sink.open(signal)),
    write: async (batch, signal) => cleanOutcome(await clean(() => sink.write(batch, signal)), masker),
    read: (range, signal) => rows(() => sink.read(range, signal)),
    remove: (batch, signal) => clean(() => sink.remove(batch, signal)),
    close: () => clean(() => sink.close()),
    ...(lookUp && { lookUp: (points, signal) => rows(() => lookUp.call(sink, points, signal)) }),
    ...(ask && { ask: (question, signal) => clean(() => ask.call(sink, question, signal)) }),
    ...(identity && { identity: (signal) => clean(() => identity.call(sink, signal)) }),
    ...(receipt && { receipt: (writer, signal) => clean(() => receipt.call(sink, writer, signal)) }),
    ...(giveReceipt && { giveReceipt: (...given) => clean(() => giveReceipt.apply(sink, given)) }),
    ...(storage && { storage: (signal) => clean(() => storage.call(sink, signal)) }),
    ...(query && { query: (asked, signal) => clean(() => query.call(sink, asked, signal)) }),
    ...(version && { version: (signal) => clean(() => version.call(sink, signal)) }),
    ...(compact && { compact: (signal) => clean(() => compact.call(sink, signal)) }),
    ...(claim && { claim: (signal) => clean(() => claim.call(sink, signal)) }),
    ...(drop && { drop: (signal) => clean(() => drop.call(sink, signal)) }),
    ...(trials && { trials: (signal) => clean(() => trials.call(sink, signal)) }),
  };
}

/** Returns the error without secrets: the same object if there is nothing to hide. */
export function cleaned(error: unknown, masker: Masker): unknown {
  if (!(error instanceof Error)) return typeof error === 'string' ? masker.mask(error) : error;
  const message = masker.mask(error.message);
  if (message === error.message) return error;
  return error instanceof SinkError
    ? new SinkError(error.reason, message, masker.mask(error.advice))
    : new Error(message);
}

/** Masks the messages. A sink module from outside may return anything; an outcome of no known kind goes to the lane. */
function cleanOutcome(outcome: WriteOutcome, masker: Masker): WriteOutcome {
  switch (outcome?.kind) {
    case 'retry':
    case 'refused':
      return { ...outcome, message: masker.mask(String(outcome.message)) };
    case 'partial': {
      const rejected = outcome.rejected.map((rejection) => ({
        ...rejection,
        message: masker.mask(String(rejection.message)),
      }));
      const { unidentified } = outcome;
      if (unidentified === undefined) return { ...outcome, rejected };
      const message = masker.mask(String(unidentified.message));
      return { ...outcome, rejected, unidentified: { ...unidentified, message } };
    }
    default:
      return outcome;
  }
}

function maskedLog(log: SinkLog, masker: Masker): SinkLog {
  const mask = (_: string, value: unknown) => (typeof value === 'string' ? masker.mask(value) : value);
  const clean = (fields: object): object => {
    try {
      // By way of JSON, to reach values at any depth: the log writes JSON anyway.
      return JSON.parse(JSON.stringify(fields, mask));
    } catch {
      return {};
    }
  };
  return {
    info: (fields, message) => log.info(clean(fields), masker.mask(message)),
    warn: (fields, message) => log.warn(clean(fields), masker.mask(message)),
  };
}
