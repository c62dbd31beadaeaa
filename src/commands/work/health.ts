import { ask } from '../../base/http-client.ts';
import { printable } from '../../base/printable.ts';
import { localUrlOf } from '../terminal/option-values.ts';
import { print } from '../terminal/output.ts';

const TIMEOUT_MS = 5_000;
const MAX_REASON_CHARACTERS = 500;

export default async function runHealth(options: { ready?: true }): Promise<void> {
  // Health checks are frequent: this one reads only the settings it needs, and loads no sink.
  const url = `${localUrlOf(process.env)}/${options.ready ? 'readyz' : 'healthz'}`;
  const failure = await failureOf(url);
  if (failure !== undefined) process.stderr.write(`metrics-fanout: ${url}: ${failure}\n`);
  else await print(`${url}: ${options.ready ? 'ready' : 'healthy'}\n`);
  process.exit(failure === undefined ? 0 : 1);
}

async function failureOf(url: string): Promise<string | undefined> {
  try {
    const { status, text } = await ask(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (status === 200) return undefined;
    // The reason. It may not be our service that answers.
    const [reason = ''] = text.trim().split('\n', 1);
    const isShown = reason !== '' && reason.length <= MAX_REASON_CHARACTERS;
    return isShown ? `status ${status}: ${printable(reason)}` : `status ${status}`;
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    // If a name has several addresses, the error that combines theirs has no message.
    return message || code;
  }
}
