import { SKETCH_MEANS, setting, type Values } from '../../src/sink/index.ts';

export const settings = {
  path: setting.text({
    meaning: 'the database file; it (mode 0600) and its folder are created if they are missing',
    default: './fanout.db',
  }),
  sketch: setting.boolean({ meaning: SKETCH_MEANS, default: 'false' }),
  keep: setting.duration({
    meaning: 'rows of windows that are older are deleted, a few with each write; without it, none is',
  }),
};

export type SqliteConfig = Values<typeof settings>;

const HOUR_MS = 3_600_000;

export function validate({ keep }: SqliteConfig): { key: keyof SqliteConfig; expected: string }[] {
  // Windows that are verified must be there.
  return keep !== undefined && keep < HOUR_MS ? [{ key: 'keep', expected: 'at least 1h' }] : [];
}
