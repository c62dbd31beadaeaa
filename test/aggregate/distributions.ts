/** Values to compare sketches by, and what ours makes of them. */
import { relativeErrorAt, SKETCH_SCALE } from '../../src/aggregate/buckets.ts';
import { QUANTILES, Sketches } from '../../src/aggregate/sketch.ts';

/** The relative error of DDSketch as the paper, and Datadog's own programs, have it. */
export const DATADOG_ERROR = 0.01;

/** Values of one of six kinds, which spread a little or much. */
export function draw(random: () => number): number[] {
  const [kind, size, scale, spread] = [
    random(),
    1 + Math.floor(random() * 60),
    random() * 40 - 10,
    random() * 8,
  ];
  const gauss = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Array.from({ length: size }, () => {
    if (kind < 0.2) return Math.exp(scale + spread * gauss());
    if (kind < 0.4) return Math.round(Math.exp(Math.abs(scale)) * random());
    if (kind < 0.55) return 2 ** scale * (1 - random()) ** -(1 / (0.5 + spread));
    if (kind < 0.7) return -Math.log(1 - random()) * Math.exp(scale);
    if (kind < 0.85) return 2 ** Math.floor(random() * 20);
    return gauss() * Math.exp(scale);
  });
}

/** `error`: the relative error that the quantiles may have, which grows when bins are halved. */
export function ownQuantiles(values: readonly number[]) {
  const sketch = new Sketches(SKETCH_SCALE);
  sketch.begin();
  for (const value of values) sketch.add(0, value, 1, { grow: () => true });
  const [min, max] = [Math.min(...values), Math.max(...values)];
  const quantiles = sketch.quantiles(0, values.length, min, max, new Float64Array(QUANTILES.length), 0);
  return { sketch, quantiles, error: relativeErrorAt(SKETCH_SCALE - sketch.halvingsOf(0)) };
}
