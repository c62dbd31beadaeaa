import { SKETCH_MEANS, setting, type Values } from '../../src/sink/index.ts';

export const settings = {
  path: setting.text({
    meaning: 'the database file; it (mode 0600) and its folder are created if they are missing',
    default: './fanout.db',
  }),
  sketch: setting.boolean({ meaning: SKETCH_MEANS, default: 'false' }),
};

export type SqliteConfig = Values<typeof settings>;
