import { setting, type Values } from '../../src/sink/index.ts';

/** By the API reference of CreateTable. AWS takes an ARN in its place, which was not tried. */
const TABLE = /^([A-Za-z0-9_.-]{3,255}|arn:\S{1,1020})$/;
const TABLE_WORDS = 'a name of 3 to 255 letters, digits, dots, hyphens and underscores';

export const settings = {
  table: setting.custom((text) => (TABLE.test(text) ? text : undefined), TABLE_WORDS, {
    meaning: 'name of the table',
    default: 'fanout_points',
  }),
  region: setting.text({
    meaning: 'AWS region; default: AWS_REGION, or wherever else the AWS SDK finds one',
  }),
  endpoint: setting.httpUrl({ meaning: 'endpoint to use instead of the default, for an emulator or a VPC' }),
  create: setting.boolean({
    meaning: 'true: creates the table, billed on demand, if it is missing',
    default: 'true',
  }),
  warmWrites: setting.integer(4_000, 40_000, {
    meaning:
      'how many write units a second a table that we create takes at once (AWS bills this once); without it, AWS decides: 4,000',
  }),
  sketch: setting.boolean({
    meaning:
      'true: timers have an attribute sketch, from which percentiles over any windows and series can be computed; it makes them some 1 KB larger',
    default: 'false',
  }),
  ttl: setting.duration({
    meaning: 'how long after the end of its window DynamoDB may delete a row; without it, rows are kept',
  }),
};

export type Config = Values<typeof settings>;
