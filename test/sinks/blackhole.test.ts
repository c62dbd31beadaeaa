import { describeConformance } from '../conformance.ts';

describeConformance('blackhole', {
  start: async () => 0,
  stop: async () => {},
  variables: () => ({ DELAY: '1ms' }),
  differs: { keepsNothing: true, embedded: true },
});
