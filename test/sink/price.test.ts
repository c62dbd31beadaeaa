import { expect, test } from 'vitest';
import { onDemand } from '../../sinks/dynamodb/price.ts';
import { readSettings, type SettingError } from '../../src/settings/setting.ts';
import { instancePrice, type Usage } from '../../src/sink/price.ts';

const usage = (parts: Partial<Usage> = {}): Usage => ({
  pointsPerSecond: 0,
  bytesPerSecond: 0,
  storedBytes: undefined,
  ...parts,
});

test('DynamoDB on demand costs whole units per point, and what is stored', () => {
  const prices = { priceMillionWrites: 0.625, priceGbMonth: 0.25 };
  const small = onDemand.estimate(prices, usage({ pointsPerSecond: 1000, bytesPerSecond: 300_000 }));
  // 1,000 a second are 2,628 million in 730 hours.
  expect(small.usdPerMonth).toBeCloseTo(2628 * 0.625);
  expect(small.assumption).toContain('0.625 USD for a million write units of 1 KB, 1 unit a point');
  expect(small.assumption).toContain('storage not counted');
  const large = usage({ pointsPerSecond: 1000, bytesPerSecond: 1_100_000, storedBytes: 4e9 });
  expect(onDemand.estimate(prices, large).usdPerMonth).toBeCloseTo(2 * 2628 * 0.625 + 1);
  expect(onDemand.estimate(prices, large).assumption).toContain('2 units a point');
  expect(onDemand.estimate(prices, usage()).usdPerMonth).toBe(0);
});

test('an instance costs what the settings say, and nothing is made up without them', () => {
  const none = { priceMonth: undefined, priceGbMonth: undefined };
  expect(instancePrice.estimate(none, usage())).toEqual({ usdPerMonth: null, assumption: 'no price set' });
  const both = instancePrice.estimate({ priceMonth: 100, priceGbMonth: 2 }, usage({ storedBytes: 3e9 }));
  expect(both.usdPerMonth).toBe(106);
  expect(both.assumption).toBe('100 USD for the instance, 2 USD for each stored GB, 3 GB now');
  const unknown = instancePrice.estimate({ priceMonth: 100, priceGbMonth: 2 }, usage());
  expect(unknown.usdPerMonth).toBe(100);
  expect(unknown.assumption).toContain('does not report its size');
});

test('a price is a number that is not negative', () => {
  for (const text of ['-1', 'x', '1e3', '1,5']) {
    const errors: SettingError[] = [];
    readSettings(instancePrice.settings, 'SINK_X_', { SINK_X_PRICE_MONTH: text }, errors, []);
    expect(errors.map(({ variable }) => variable)).toEqual(['SINK_X_PRICE_MONTH']);
  }
});
