import type { RedshiftConfig } from '../../sinks/redshift/config.ts';

/** The defaults of all settings except the URL. */
export const DEFAULTS: Omit<RedshiftConfig, 'url'> = {
  table: 'points',
  caFile: undefined,
  sketch: false,
  s3: undefined,
  iamRole: undefined,
  s3MinPoints: 1000,
  cluster: undefined,
  workgroup: undefined,
  region: undefined,
};
