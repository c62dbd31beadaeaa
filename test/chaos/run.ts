/** `npm run chaos -- --minutes 10 [--seed N] [--kills N] [--rate N] [--json]`: exit code 0 only if all is equal. */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { runChaos } from './chaos.ts';
import { findings, renderReport } from './report.ts';

const DEFAULT_KILLS_PER_MINUTE = 15;
const MAX_SEED = 2 ** 31;
const HEAL_MS = 180_000;
const EXIT_INTERRUPTED = 130;
const EXIT_USAGE = 64;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string' },
    kills: { type: 'string' },
    rate: { type: 'string', default: '1500' },
    series: { type: 'string', default: '200' },
    json: { type: 'boolean', default: false },
    quiet: { type: 'boolean', default: false },
  },
});

const say = (line: string) => void process.stderr.write(`${line}\n`);

function positive(name: 'minutes' | 'rate' | 'series' | 'kills' | 'seed', text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value >= 0) return value;
  say(`--${name}: expected a number, not ${text}`);
  process.exit(EXIT_USAGE);
}

const minutes = positive('minutes', values.minutes);
const seed = Math.floor(positive('seed', values.seed ?? String(randomInt(MAX_SEED))));
const kills = Math.floor(positive('kills', values.kills ?? String(minutes * DEFAULT_KILLS_PER_MINUTE)));
const options = {
  seed,
  ms: minutes * 60_000,
  kills,
  rate: positive('rate', values.rate),
  series: positive('series', values.series),
  healMs: HEAL_MS,
  tell: values.quiet ? () => {} : say,
};
const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort());

say(`seed ${seed}: faults for ${minutes} minutes, ${kills} of them kill -9 of the service`);
try {
  const report = await runChaos(options, stopping.signal);
  const found = findings(report);
  process.stdout.write(
    values.json
      ? `${JSON.stringify({ ...report, findings: found }, null, 2)}\n`
      : `${renderReport(report)}\n`,
  );
  process.exitCode = found.length === 0 ? 0 : 1;
} catch (error) {
  if (!stopping.signal.aborted) throw error;
  say('stopped');
  process.exitCode = EXIT_INTERRUPTED;
}
