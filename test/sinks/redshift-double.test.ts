/** The suite against the double of Redshift: once by INSERT, once through S3. */
import { expect } from 'vitest';
import { SINKS } from '../../sinks/index.ts';
import type { SinkModule } from '../../src/sink/index.ts';
import { describeConformance, type Harness } from '../conformance.ts';
import { tablesOf, WRONG_PASSWORD } from '../redshift/harness.ts';
import { type Rig, ROLE, startRig } from '../redshift/rig.ts';
import { BUCKET, KEYS } from '../redshift/s3.ts';

/** The sink. Adds to `left` what it says it could not remove from S3 in time; a later `open` does that. */
async function recordingLeft(left: Set<unknown>): Promise<SinkModule> {
  const redshift = await SINKS.redshift!();
  return {
    ...redshift,
    create(config, context) {
      const warn: typeof context.log.warn = (fields, message) => {
        if ('keys' in fields && Array.isArray(fields.keys)) for (const key of fields.keys) left.add(key);
        context.log.warn(fields, message);
      };
      return redshift.create(config, { ...context, log: { ...context.log, warn } });
    },
  };
}

for (const way of ['INSERT', 'COPY'] as const) {
  let rig: Rig;
  const left = new Set<unknown>();
  const harness: Harness = {
    async start() {
      rig = await startRig();
      return rig.double.port;
    },
    async stop() {
      // Redshift would have accepted every statement of the suite.
      expect(rig.double.refused).toEqual([]);
      // And no row went by INSERT because COPY could not load it.
      expect(rig.double.notLoaded).toEqual([]);
      const copies = rig.double.statements.filter((text) => text.startsWith('COPY'));
      expect(copies.length > 0).toBe(way === 'COPY');
      // None are left, if the machine has time for it.
      expect((await rig.s3.keys()).filter((key) => !left.has(key))).toEqual([]);
      await rig.stop();
    },
    variables: (namespace, port) => ({
      URL: rig.url(port),
      TABLE: namespace,
      ...(way === 'COPY' && { S3: `s3://${BUCKET}/suite`, IAM_ROLE: ROLE, S3_MIN_POINTS: '1' }),
    }),
    secrets: [KEYS.secretAccessKey, WRONG_PASSWORD],
    ...tablesOf(() => rig.postgres),
  };
  describeConformance('redshift', harness, () => recordingLeft(left));
}
