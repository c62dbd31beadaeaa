/**
 * The long run: `npm run simulate -- --seeds 100000 [--from N]`. `--seed N` runs one seed and prints everything that
 * happens. `--set-back`: in all runs, the server's clock is set back. `--roll-back`: in all runs, the stream is rolled
 * back. `--empty`: in all runs, a store loses everything. `--restored`: in all runs, a store gets older content.
 * `--names`: in all runs, sinks get some names only, and others after a restart. `--moved`: in all runs, operators move
 * checkpoints of sinks that run. `--windows`: in all runs, sinks have windows of their own. These are other runs than
 * those without the option.
 */
import { parseArgs } from 'node:util';
import { describeFailure, simulate } from './simulation.ts';

const PROGRESS_MS = 1000;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    'set-back': { type: 'boolean', default: false },
    'roll-back': { type: 'boolean', default: false },
    empty: { type: 'boolean', default: false },
    restored: { type: 'boolean', default: false },
    names: { type: 'boolean', default: false },
    moved: { type: 'boolean', default: false },
    windows: { type: 'boolean', default: false },
  },
});

const forced = {
  setsBack: values['set-back'],
  rollsBack: values['roll-back'],
  emptiesStore: values.empty,
  restoresStore: values.restored,
  choosesNames: values.names,
  movesCheckpoints: values.moved,
  ownWindows: values.windows,
};

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function one(seed: number): Promise<boolean> {
  const outcome = await simulate(seed, { print: say, ...forced });
  say(
    outcome.failure === undefined ? `seed ${seed}: all is well (${outcome.hash})` : describeFailure(outcome),
  );
  return outcome.failure === undefined;
}

async function many(from: number, seeds: number): Promise<boolean> {
  const counts = new Map<string, number>();
  const began = performance.now();
  let failed = 0;
  let toldAt = began;
  for (let i = 0; i < seeds; i++) {
    const outcome = await simulate(from + i, forced);
    for (const [kind, count] of outcome.counts) counts.set(kind, (counts.get(kind) ?? 0) + count);
    if (outcome.failure !== undefined) {
      failed += 1;
      process.stderr.write('\n');
      say(describeFailure(outcome));
    }
    const now = performance.now();
    if (now - toldAt < PROGRESS_MS && i < seeds - 1) continue;
    toldAt = now;
    const pace = ((i + 1) / ((now - began) / 1000)).toFixed(0);
    process.stderr.write(`\r${i + 1} of ${seeds} seeds, ${failed} failed, ${pace} seeds/s `);
    // Gives Ctrl-C a chance.
    await new Promise((resolve) => setImmediate(resolve));
  }
  process.stderr.write('\n');
  say(
    [...counts]
      .sort(([, a], [, b]) => b - a)
      .map(([kind, count]) => `${kind} ${count}`)
      .join(', '),
  );
  return failed === 0;
}

const isWell =
  values.seed === undefined
    ? await many(Number(values.from), Number(values.seeds))
    : await one(Number(values.seed));
process.exitCode = isWell ? 0 : 1;
