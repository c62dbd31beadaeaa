/** What a store costs a month: estimates, each with the assumption that it rests on. Prices are in USD. */
import { setting } from '../settings/builders.ts';
import type { Settings, Values } from '../settings/setting.ts';

/** What a store is used for at present. */
export interface Usage {
  readonly pointsPerSecond: number;
  /** By `pointBytes`. */
  readonly bytesPerSecond: number;
  /** Undefined where the store does not say. */
  readonly storedBytes: number | undefined;
}

export interface Price {
  /** Null where no price is known. */
  readonly usdPerMonth: number | null;
  /** What it counts and what it leaves out: to be shown beside the number, always. */
  readonly assumption: string;
}

export interface PriceModel<S extends Settings = Settings> {
  /** `SINK_<ID>_PRICE_...`, by the names of their keys. */
  readonly settings: S;
  /** What the store costs a month if all goes on like this. */
  estimate(prices: Values<S>, usage: Usage): Price;
}

/** Ties the type of the prices to the settings. */
export function definePrice<S extends Settings>(model: PriceModel<S>): PriceModel<S> {
  return model;
}

export const SECONDS_PER_MONTH = 730 * 3600;
const BYTES_PER_GB = 1e9;

const amount = (text: string): number | undefined => (/^\d+(\.\d+)?$/.test(text) ? Number(text) : undefined);

/** USD. */
export function priceSetting<O extends { readonly meaning: string; readonly default?: string }>(options: O) {
  return setting.custom(amount, 'an amount in USD such as 0.625', options);
}

/** Of a store that costs the same however much is written, but for what is stored. */
export const instancePrice = definePrice({
  settings: {
    priceMonth: priceSetting({ meaning: 'USD a month for the instance, for the estimate of its cost' }),
    priceGbMonth: priceSetting({ meaning: 'USD a month for a GB that is stored' }),
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

/** For what is stored now. */
export function storagePrice(gbMonth: number | undefined, { storedBytes }: Usage): Price {
  if (gbMonth === undefined) return { usdPerMonth: null, assumption: 'storage not counted' };
  if (storedBytes === undefined)
    return { usdPerMonth: null, assumption: 'storage not counted, for the store does not say its size' };
  const gb = storedBytes / BYTES_PER_GB;
  return {
    usdPerMonth: gb * gbMonth,
    assumption: `${gbMonth} USD for a GB that is stored, ${Number(gb.toPrecision(3))} GB now`,
  };
}
