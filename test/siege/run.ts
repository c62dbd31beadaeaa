/**
 * `npm run siege [-- --only new-series,viewer] [--seconds N] [--rate N] [--json]`: everything hostile at once, beside
 * an honest producer (`--only beyond` is what no limit can keep from others). Exit code 0 only if every bar is met.
 * The service is the package, as it is deployed: this program takes 17 MB more, since it is loaded from its sources.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { KINDS, STANDARD_KINDS } from './kinds/index.ts';
import { correctness, renderReport, speed } from './report.ts';
import { runSiege } from './siege.ts';

const EXIT_USAGE = 64;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: STANDARD_KINDS.join(',') },
    seconds: { type: 'string', default: '60' },
    rate: { type: 'string', default: '20000' },
    json: { type: 'boolean', default: false },
  },
});
const tell = (line: string) => void process.stderr.write(`${line}\n`);
const kinds = values.only.split(',').filter((name) => name !== '');
const [seconds, rate] = [Number(values.seconds), Number(values.rate)];
if (kinds.some((name) => !Object.hasOwn(KINDS, name)) || !(seconds > 0) || !(rate > 0)) {
  tell(`--only: any of ${Object.keys(KINDS).join(', ')}; --seconds, --rate: a number`);
  process.exit(EXIT_USAGE);
}
const root = fileURLToPath(new URL('../..', import.meta.url));
// Never a build of other sources than these.
execFileSync(process.execPath, ['scripts/build.ts'], { cwd: root, stdio: 'ignore' });
const report = await runSiege({ seconds, rate, kinds, tell, main: join(root, 'dist/src/bin.js') });
process.stdout.write(`${values.json ? JSON.stringify(report, null, 2) : renderReport(report)}\n`);
process.exitCode = [...correctness(report), ...speed(report)].every(({ isMet }) => isMet) ? 0 : 1;
