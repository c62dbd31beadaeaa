/**
 * The order of test files. Without results of an earlier run, vitest begins with the largest; but some short files take
 * long, and the machine would wait for one of them alone at the end.
 */
import { join } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Those that take about a minute or more of a whole run. The longest comes first. */
export const LONG: readonly string[] = [
  'test/simulation/simulation.test.ts',
  'test/e2e/running-checkpoint.test.ts',
  'test/commands/load.test.ts',
  'test/e2e/rollback.test.ts',
  'test/chaos/cluster.test.ts',
  'test/browser/dashboard.test.ts',
  'test/sinks/dynamodb.test.ts',
  'test/e2e/deleted-stream.test.ts',
  'test/chaos/chaos.test.ts',
  'test/e2e/control.test.ts',
  'test/e2e/own-windows.test.ts',
  'test/e2e/check-stream.test.ts',
  'test/e2e/checkpoint.test.ts',
  'test/sinks/redshift-double.test.ts',
  'test/sinks/postgres.test.ts',
  'test/e2e/settings-change.test.ts',
  'test/e2e/continuous-verification.test.ts',
  'test/e2e/lost-store.test.ts',
];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const ranks = new Map(LONG.map((file, rank) => [join(this.ctx.config.root, file), rank]));
    const rank = ({ moduleId }: TestSpecification) => ranks.get(moduleId) ?? LONG.length;
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b));
  }
}
