import type { RedshiftConfig } from '../../sinks/redshift/config.ts';

/** All but the URL, as they are where nobody sets them. */
export const DEFAULTS: Omit<RedshiftConfig, 'url'> = {
  table: 'points',
  caFile: undefined,
  s3: undefined,
  iamRole: undefined,
  s3MinPoints: 1000,
  cluster: undefined,
  workgroup: undefined,
  region: undefined,
};
