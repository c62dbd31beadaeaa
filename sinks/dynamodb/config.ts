import { setting, type Values } from '../../src/sink/index.ts';

export const settings = {
  table: setting.text({ meaning: 'the table', default: 'fanout_points' }),
  region: setting.text({
    meaning: 'the region; without it AWS_REGION and the other places where the SDK looks',
  }),
  endpoint: setting.httpUrl({ meaning: 'an endpoint of its own, for an emulator or a VPC' }),
  create: setting.boolean({ meaning: 'make the table, billed on demand, if it is missing', default: 'true' }),
  ttl: setting.duration({ meaning: 'how long after the end of its window DynamoDB may delete a row' }),
};

export type Config = Values<typeof settings>;
