import { definePrice, priceSetting, SECONDS_PER_MONTH, storagePrice } from '../../src/sink/index.ts';

const UNIT_BYTES = 1024;

/** The price on demand: every write costs a whole number of units per item. */
export const onDemand = definePrice({
  settings: {
    priceMillionWrites: priceSetting({
      meaning: 'USD for a million write units of 1 KB, on demand',
      default: '0.625',
    }),
    priceGbMonth: priceSetting({ meaning: 'USD a month for each stored GB', default: '0.25' }),
  },
  estimate({ priceMillionWrites, priceGbMonth }, usage) {
    const { pointsPerSecond, bytesPerSecond } = usage;
    const pointBytes = pointsPerSecond > 0 ? bytesPerSecond / pointsPerSecond : 0;
    const units = Math.max(1, Math.ceil(pointBytes / UNIT_BYTES));
    const writes = ((pointsPerSecond * SECONDS_PER_MONTH * units) / 1e6) * priceMillionWrites;
    const stored = storagePrice(priceGbMonth, usage);
    const perPoint = units === 1 ? '1 unit' : `${units} units`;
    return {
      usdPerMonth: writes + (stored.usdPerMonth ?? 0),
      assumption: `on demand, ${priceMillionWrites} USD for a million write units of 1 KB, ${perPoint} a point, ${stored.assumption}; no reads, backups or traffic`,
    };
  },
});
