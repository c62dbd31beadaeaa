/** The checkpoints, which outlive the service, and the faulty access of one instance to them. */
import { type Epoch, shapeOf } from '../../src/aggregate/tiling.ts';
import { BusError, Overtaken } from '../../src/bus/bus-error.ts';
import type { CheckpointEdit, KeptCheckpoint } from '../../src/bus/kv/checkpoint-keys.ts';
import type { Checkpoint, CheckpointStore, StoredCheckpoint } from '../../src/bus/kv/checkpoints.ts';
import type { AgreedShapes, ShapeStore } from '../../src/bus/kv/window-shapes.ts';
import type { Slice } from '../../src/config/core-settings.ts';
import type { Instance } from './instance.ts';
import { type CheckpointMode, PLAIN_INPUT } from './scenario.ts';
import type { World } from './world.ts';

/** The bounded time of the contract: the real store gives up after this. */
const CALL_TIMEOUT_MS = 10_000;

/** Compare-and-set at one instant: two writers never undo each other's work. */
export class SimCheckpoints {
  /** Virtual time since which it has been healthy. */
  healthySince = 0;
  #mode: CheckpointMode = 'healthy';
  readonly #world: World;
  readonly #stored = new Map<string, StoredCheckpoint & { readonly revision: number }>();
  #revision = 0;
  /** By key: how often an operator changed it. */
  readonly #edits = new Map<string, number>();

  constructor(world: World) {
    this.#world = world;
  }

  get mode(): CheckpointMode {
    return this.#mode;
  }

  set mode(mode: CheckpointMode) {
    this.healthySince = mode === 'healthy' ? this.#world.timeline.now : Number.POSITIVE_INFINITY;
    this.#mode = mode;
  }

  get(sink: string, slice: string): Checkpoint | undefined {
    return this.#stored.get(`${sink} ${slice}`)?.checkpoint;
  }

  all(): StoredCheckpoint[] {
    return [...this.#stored.values()];
  }

  kept(): KeptCheckpoint[] {
    return [...this.#stored].map(([key, { sink, slice, checkpoint, revision }]) => ({
      key,
      sink,
      slice,
      revision,
      content: { checkpoint },
    }));
  }

  editsOf(sink: string, slice: string): number {
    return this.#edits.get(`${sink} ${slice}`) ?? 0;
  }

  edit({ kept, checkpoint }: CheckpointEdit): void {
    const { key, sink, slice, revision } = kept;
    if (this.#stored.get(key)?.revision !== revision) throw new Overtaken(key, '');
    this.#edits.set(key, this.editsOf(sink, slice) + 1);
    this.#revision += 1;
    if (checkpoint === undefined) this.#stored.delete(key);
    else this.#stored.set(key, { sink, slice, checkpoint, revision: this.#revision });
    const to = checkpoint === undefined ? 'removed' : this.#world.windowName(checkpoint.next);
    this.#world.trace.add('edit', `${key} ${this.#world.windowName(kept.content.checkpoint!.next)} ${to}`);
  }

  put(sink: string, slice: string, checkpoint: Checkpoint, saver: Instance): 'saved' | 'superseded' {
    const before = this.get(sink, slice);
    if (before !== undefined && before.next >= checkpoint.next) return 'superseded';
    this.#revision += 1;
    this.#stored.set(`${sink} ${slice}`, { sink, slice, checkpoint, revision: this.#revision });
    this.#world.trace.add(
      'checkpoint',
      `${sink} ${slice} ${this.#world.windowName(checkpoint.next)} ${checkpoint.sequence}`,
    );
    this.#world.invariants.checkpointStored(sink, slice, before, checkpoint, saver);
    return 'saved';
  }
}

export class SimCheckpointStore implements CheckpointStore {
  readonly #world: World;
  readonly #instance: Instance;
  readonly #slice: string;
  /** The last checkpoint that each sink asked to save: a lane never goes back (I5). */
  readonly #asked = new Map<string, number>();

  constructor(world: World, instance: Instance, slice: Slice) {
    this.#world = world;
    this.#instance = instance;
    this.#slice = `${slice.index}/${slice.of}`;
  }

  load(sink: string): Promise<Checkpoint | undefined> {
    return this.#call(() => this.#world.checkpoints.get(sink, this.#slice));
  }

  list(): Promise<StoredCheckpoint[]> {
    return this.#call(() => this.#world.checkpoints.all());
  }

  save(sink: string, checkpoint: Checkpoint): Promise<'saved' | 'superseded'> {
    const asked = this.#asked.get(sink) ?? Number.NEGATIVE_INFINITY;
    if (checkpoint.next < asked) {
      this.#world.trace.fail('I5', `${sink} wants its checkpoint set back by ${asked - checkpoint.next} ms`);
    }
    this.#asked.set(sink, checkpoint.next);
    const { checkpoints } = this.#world;
    const edits = checkpoints.editsOf(sink, this.#slice);
    return this.#call(() => {
      // It goes by a revision that is gone, and nobody is left to try again.
      if (this.#instance.dead && checkpoints.editsOf(sink, this.#slice) !== edits) return 'superseded';
      return checkpoints.put(sink, this.#slice, checkpoint, this.#instance);
    });
  }

  kept(): Promise<KeptCheckpoint[]> {
    return this.#call(() => this.#world.checkpoints.kept());
  }

  /** `done`: called at the same instant. */
  async edit(edit: CheckpointEdit, done: () => void): Promise<void> {
    const { checkpoints } = this.#world;
    const outcome = await this.#call(() => {
      try {
        checkpoints.edit(edit);
      } catch (error) {
        return error;
      }
      done();
      return undefined;
    });
    if (outcome !== undefined) throw outcome;
  }

  #call<T>(work: () => T): Promise<T> {
    return callStore(this.#world, this.#instance, work);
  }
}

/** The shapes of windows, in the same bucket. The scenario's change is announced there when its time comes. */
export class SimShapeStore implements ShapeStore {
  readonly #world: World;
  readonly #instance: Instance;

  constructor(world: World, instance: Instance) {
    this.#world = world;
    this.#instance = instance;
  }

  load(): Promise<AgreedShapes> {
    return callStore(this.#world, this.#instance, () => this.#known());
  }

  change(): Promise<AgreedShapes> {
    return this.load();
  }

  #known(): AgreedShapes {
    const { timeline, scenario } = this.#world;
    const { later = [], change } = scenario;
    const first = { from: Number.NEGATIVE_INFINITY, ...shapeOf(scenario) };
    const isAnnounced = timeline.now >= change.announcedAt;
    const announced = isAnnounced ? [first, ...later] : [first];
    const { forgetsBytes, forgetsRules } = this.#world.options;
    const epochs = announced.map((epoch, i): Epoch => {
      const { maxSeriesBytes: _, maxSeriesByName: __, ...unbounded } = epoch;
      const known = forgetsBytes ? unbounded : epoch;
      return forgetsRules === 'all' || (forgetsRules === 'later' && i > 0)
        ? { ...known, input: PLAIN_INPUT }
        : known;
    });
    return { shapes: { epochs, delayMs: change.delayMs }, at: this.#world.serverNow() };
  }
}

/** Does `work` on the server at one instant, if the call gets there. The caller may never get the answer. */
async function callStore<T>(world: World, instance: Instance, work: () => T): Promise<T> {
  const { chance, checkpoints } = world;
  if (!instance.enters()) return await never();
  const mode = instance.connection.connected ? checkpoints.mode : 'hanging';
  const latency = chance.int(1, mode === 'slow' ? 3000 : 20);
  if (mode === 'down') {
    await instance.pause(latency);
    throw new BusError('the checkpoint store is down', '');
  }
  if (mode === 'hanging') {
    await instance.pause(CALL_TIMEOUT_MS);
    throw new BusError('no answer', '');
  }
  // The call is in flight: if the instance dies in the meantime, it may get there or not.
  const done = new Promise<T>((resolve) => {
    world.timeline.after(latency, () => {
      if (!instance.dead || chance.bool(0.5)) resolve(work());
    });
  });
  const result = await done;
  await instance.pause(chance.int(1, 20));
  if (mode === 'lying' && chance.bool(0.5)) throw new BusError('no answer', '');
  return result;
}

function never(): Promise<never> {
  return new Promise(() => {});
}
