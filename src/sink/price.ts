/** Estimates of what a store costs a month, each with the assumption that it rests on. Prices are in USD. */
import { setting } from '../settings/builders.ts';
import type { Settings, Values } from '../settings/setting.ts';

/** How much a store is used at present. */
export interface Usage {
  readonly pointsPerSecond: number;
  /** Measured by `pointBytes`. */
  readonly bytesPerSecond: number;
  /** Undefined if the store does not say. */
  readonly storedBytes: number | undefined;
  /** When so much is stored, in words: `now` if absent. */
  readonly storedWhen?: string;
}

export interface Price {
  /** Null if no price is known. */
  readonly usdPerMonth: number | null;
  /** What the estimate counts and what it leaves out. Always shown next to the number. */
  readonly assumption: string;
}

export interface PriceModel<S extends Settings = Settings> {
  /** The variables `SINK_<ID>_PRICE_...`, named by their keys. */
  readonly settings: S;
  /** Returns what the store costs a month at this usage. */
  estimate(prices: Values<S>, usage: Usage): Price;
}

/** Ties the type of the prices to the settings. */
export function definePrice<S extends Settings>(model: PriceModel<S>): PriceModel<S> {
  return model;
}

export const SECONDS_PER_MONTH = 730 * 3600;
const BYTES_PER_GB = 1e9;

const amount = (text: string): number | undefined => (/^\d+(\.\d+)?$/.test(text) ? Number(text) : undefined);

/** Builds a setting of an amount in USD. */
export function priceSetting<O extends { readonly meaning: string; readonly default?: string }>(options: O) {
  return setting.custom(amount, 'an amount in USD such as 0.625', options);
}

/** The price of a store whose cost depends on how much is stored, not on how much is written. */
export const instancePrice = definePrice({
  settings: {
    priceMonth: priceSetting({ meaning: 'USD a month for the instance, for the estimate of its cost' }),
    priceGbMonth: priceSetting({ meaning: 'USD a month for each stored GB' }),
  },
  estimate({ priceMonth, priceGbMonth }, usage) {
    if (priceMonth === undefined && priceGbMonth === undefined) {
      return { usdPerMonth: null, assumption: 'no price set' };
    }
    const stored = storagePrice(priceGbMonth, usage);
    const instance = priceMonth === undefined ? [] : [`${priceMonth} USD for the instance`];
    return {
      usdPerMonth: (priceMonth ?? 0) + (stored.usdPerMonth ?? 0),
      assumption: [...instance, stored.assumption].join(', '),
    };
  },
});

/** Returns the price of what is stored. */
export function storagePrice(gbMonth: number | undefined, { storedBytes, storedWhen = 'now' }: Usage): Price {
  if (gbMonth === undefined) return { usdPerMonth: null, assumption: 'storage not counted' };
  if (storedBytes === undefined)
    return { usdPerMonth: null, assumption: 'storage not counted: the store does not report its size' };
  const gb = storedBytes / BYTES_PER_GB;
  return {
    usdPerMonth: gb * gbMonth,
    assumption: `${gbMonth} USD for each stored GB, ${Number(gb.toPrecision(3))} GB ${storedWhen}`,
  };
}
