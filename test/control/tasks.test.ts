import { expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { type TaskReport, Tasks } from '../../src/control/tasks.ts';

test('a task that is cancelled before it begins does nothing', async () => {
  const { promise: reported, resolve: tell } = Promise.withResolvers<TaskReport>();
  const tasks = new Tasks({
    instance: 'i',
    pipeline: 'p',
    callbackSecret: undefined,
    clock: systemClock,
    log: { debug() {}, info() {}, warn() {}, error() {} },
    tell: async (report) => tell(report),
  });
  let runs = 0;
  const { id } = tasks.start({
    operation: 'attach',
    key: 'place',
    needsBus: false,
    callback: undefined,
    run: async () => {
      runs += 1;
    },
  });
  tasks.cancel(id);
  expect(await reported).toMatchObject({ id, state: 'cancelled' });
  expect(runs).toBe(0);
});
