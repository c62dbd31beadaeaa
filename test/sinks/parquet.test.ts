/** The suite on a folder, and what only a folder of Parquet files can get wrong. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { temporaryFolder } from '../../src/servers/server-process.ts';
import { describeConformance } from '../conformance.ts';

for (const partitionBy of ['date', 'name,date']) {
  let folder: ReturnType<typeof temporaryFolder>;
  const rootOf = (namespace: string) => join(folder.path, 'made', namespace);
  describeConformance('parquet', {
    async start() {
      folder = temporaryFolder('parquet');
      return 0;
    },
    stop: async () => folder.remove(),
    variables: (namespace) => ({
      URL: pathToFileURL(rootOf(namespace)).href,
      PARTITION_BY: partitionBy,
    }),
    missing: () => ({ URL: 'file:///dev/null/fanout' }),
    async unusable(namespace) {
      mkdirSync(rootOf(namespace), { recursive: true });
      writeFileSync(join(rootOf(namespace), '_metrics-fanout.json'), '{"partition_by":"moon"}\n');
    },
    drop: async (namespace) => rmSync(rootOf(namespace), { recursive: true }),
    differs: { embedded: true },
  });
}
