/** The suite against what stands in for Redshift: once by INSERT, once by way of S3. */
import { expect } from 'vitest';
import { describeConformance } from '../conformance.ts';
import { tablesOf, WRONG_PASSWORD } from '../redshift/harness.ts';
import { type Rig, ROLE, startRig } from '../redshift/rig.ts';
import { BUCKET, KEYS } from '../redshift/s3.ts';

for (const way of ['INSERT', 'COPY'] as const) {
  let rig: Rig;
  describeConformance('redshift', {
    async start() {
      rig = await startRig();
      return rig.double.port;
    },
    async stop() {
      // Redshift would have taken every statement of the suite.
      expect(rig.double.refused).toEqual([]);
      // Nor would a row have gone by INSERT since COPY could not load it.
      expect(rig.double.notLoaded).toEqual([]);
      const copies = rig.double.statements.filter((text) => text.startsWith('COPY'));
      expect(copies.length > 0).toBe(way === 'COPY');
      expect(await rig.s3.keys()).toEqual([]);
      await rig.stop();
    },
    variables: (namespace, port) => ({
      URL: rig.url(port),
      TABLE: namespace,
      ...(way === 'COPY' && { S3: `s3://${BUCKET}/suite`, IAM_ROLE: ROLE, S3_MIN_POINTS: '1' }),
    }),
    secrets: [KEYS.secretAccessKey, WRONG_PASSWORD],
    ...tablesOf(() => rig.postgres),
  });
}
