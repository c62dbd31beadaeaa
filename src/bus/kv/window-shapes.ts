/**
 * The shapes of a pipeline's windows, and when each begins: an entry in the checkpoints' bucket, written with
 * compare-and-set.
 */

import type { KV } from 'nats';
import { SKETCH_SCALE } from '../../aggregate/buckets.ts';
import { type Epoch, shapeOf, Tiling } from '../../aggregate/tiling.ts';
import { type Config, windowShape } from '../../config/config.ts';
import { isKnownInput } from '../../decode/formats.ts';
import { areRules } from '../../decode/shaping-rules.ts';
import { BusError } from '../bus-error.ts';
import type { Bus } from '../connect.ts';
import { BUCKET, Bucket, bucketExists, isConflict, MAX_CONFLICTS, readServerTime } from './bucket.ts';

export interface Shapes {
  readonly epochs: readonly Epoch[];
  /** An epoch begins at least this long after it was announced. */
  readonly delayMs: number;
}

/** The shapes, or undefined if there are none yet. At `at`, by the server's clock, nothing else had been announced. */
export interface KnownShapes {
  readonly shapes: Shapes | undefined;
  readonly at: number;
}

/** All calls reject with a `BusError` in bounded time. */
export interface ShapeStore {
  load(): Promise<KnownShapes>;
  /**
   * Stores what `plan` returns for the known shapes. Stores nothing if that is undefined, which is only allowed if
   * shapes are known. If another writer came first, `plan` is called again. From the time passed to `plan`, storing
   * takes no longer than one call may take.
   */
  change(plan: (known: KnownShapes) => Shapes | undefined): Promise<AgreedShapes>;
}

export interface AgreedShapes extends KnownShapes {
  readonly shapes: Shapes;
}

export function createShapeStore(bus: Bus, pipeline: string, replicas: number): ShapeStore {
  return new BucketShapes(bus, pipeline, replicas);
}

/** Resolves to the tiling of the pipeline's windows: as it computed them, or as the settings say if it never ran. */
export async function pipelineTiling(bus: Bus, config: Config): Promise<Tiling> {
  const isKnown = await bucketExists(bus);
  const { shapes } = isKnown ? await createShapeStore(bus, config.core.pipeline, 1).load() : {};
  return shapes === undefined ? Tiling.of(windowShape(config)) : new Tiling(shapes.epochs);
}

class BucketShapes implements ShapeStore {
  readonly #bucket: Bucket;
  readonly #key: string;

  constructor(bus: Bus, pipeline: string, replicas: number) {
    this.#bucket = new Bucket(bus, replicas);
    // Two words, because the keys of checkpoints have three.
    this.#key = `shapes.${pipeline}`;
  }

  load(): Promise<KnownShapes> {
    return this.#bucket.call(`reading ${this.#key}`, async (bucket) => (await this.#read(bucket)).known);
  }

  change(plan: (known: KnownShapes) => Shapes | undefined): Promise<AgreedShapes> {
    return this.#bucket.call(`writing ${this.#key}`, async (bucket) => {
      for (let conflicts = 0; conflicts <= MAX_CONFLICTS; conflicts++) {
        const { known, revision } = await this.#read(bucket);
        const shapes = plan(known) ?? known.shapes!;
        if (shapes === known.shapes) return { shapes, at: known.at };
        try {
          await bucket.put(this.#key, format(shapes), { previousSeq: revision });
          return { shapes, at: known.at };
        } catch (error) {
          if (!isConflict(error)) throw error;
        }
      }
      throw new BusError(
        `writing ${this.#key}: other writers came first more than ${MAX_CONFLICTS} times`,
        'Check that only one deployment uses this PIPELINE.',
      );
    });
  }

  /** Reads the clock first: anything announced before that time is in what is read afterwards. */
  async #read(bucket: KV): Promise<{ readonly known: KnownShapes; readonly revision: number }> {
    const at = await readServerTime(bucket);
    const entry = await bucket.get(this.#key);
    const shapes = entry?.operation === 'PUT' ? parse(this.#key, entry.string()) : undefined;
    return { known: { shapes, at }, revision: entry?.revision ?? 0 };
  }
}

/**
 * JSON has no -Infinity: the start of the first epoch becomes null. Earlier versions pass over what they do not know of
 * an epoch, and would compute other sketches than ours. They find no epochs here, so they wait until they are replaced.
 */
function format({ epochs, delayMs }: Shapes): string {
  const isNew = epochs.some(({ sketchScale }) => sketchScale !== undefined);
  return JSON.stringify(isNew ? { delayMs, shapes: epochs } : { delayMs, epochs });
}

function parse(key: string, text: string): Shapes {
  try {
    const { delayMs, epochs, shapes = epochs } = JSON.parse(text) as Shapes & { shapes?: Shapes['epochs'] };
    const read = shapes.map((epoch) => ({ ...epoch, from: epoch.from ?? Number.NEGATIVE_INFINITY }));
    const isWhole = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
    const isRight = read.every(
      ({ from, windowMs, latenessMs, maxAheadMs, maxSeries, maxSeriesBytes = 1 }, i) =>
        (i === 0 || isWhole(from)) &&
        [windowMs, maxSeries, maxSeriesBytes].every((n) => isWhole(n) && n > 0) &&
        [latenessMs, maxAheadMs].every(isWhole),
    );
    if (!isRight || !isWhole(delayMs)) throw new RangeError('not whole numbers');
    if (!read.every(isKnown)) throw new RangeError('windows of a shape that this version does not know');
    new Tiling(read);
    return { delayMs, epochs: read };
  } catch (error) {
    throw new BusError(
      `the entry ${key} in the key-value bucket ${BUCKET} is not valid (${String(error)})`,
      `Inspect it (nats kv get ${BUCKET} ${key}). It records which windows have which WINDOW, LATENESS, MAX_AHEAD, MAX_SERIES, MAX_SERIES_BYTES, MAX_SERIES_BY_NAME, format of messages, rules on names and dimensions, and kind of sketches. A later version of the service may have written it: then go back to that version. Without it, the current settings apply to all windows.`,
    );
  }
}

/** Whether this version can compute the windows: with anything that it does not know, they would be others. */
function isKnown({ from: _, ...shape }: Epoch): boolean {
  const { input = {}, sketchScale = SKETCH_SCALE, maxSeriesByName = [] } = shape;
  const known = shapeOf(shape);
  return (
    Object.keys(shape).every((key) => Object.hasOwn(known, key)) &&
    isKnownInput(input) &&
    (maxSeriesByName.length === 0 || areRules('limits', maxSeriesByName)) &&
    sketchScale === SKETCH_SCALE
  );
}
