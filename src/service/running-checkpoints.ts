/** Changes checkpoints of sinks that this instance runs: the sink is taken down meanwhile, and begins again there. */
import { backoffMs, systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { BusError, Overtaken } from '../bus/bus-error.ts';
import type { Bus } from '../bus/connect.ts';
import { instancesOnBus } from '../bus/control-client.ts';
import { editCheckpoints, keptCheckpoints } from '../bus/kv/checkpoint-keys.ts';
import type { Checkpoints, WantedChange } from '../control/controller.ts';
import { Refusal } from '../control/refusal.ts';
import type { CheckpointChange } from '../deliver/checkpoint-change.ts';
import { type ChangeFacts, changeFacts, type ListFacts, listFacts } from '../deliver/checkpoint-facts.ts';
import type { Engine } from '../deliver/engine.ts';
import { type PlannedChange, planChange } from './plan-change.ts';
import type { Parts } from './snapshot.ts';

/** How often a change is tried while the sink is down: others may write the same keys, and answers may get lost. */
const MAX_ATTEMPTS = 5;

interface Attached {
  readonly bus: Bus;
  readonly engine: Engine;
}

export class RunningCheckpoints implements Checkpoints {
  readonly #parts: Parts;
  readonly #log: Log;

  constructor({ parts, log }: { readonly parts: Parts; readonly log: Log }) {
    this.#parts = parts;
    this.#log = log;
  }

  mustBeThere(): void {
    this.#attached();
  }

  async list(only: string | undefined): Promise<ListFacts> {
    const { core, sinks } = this.#parts.config;
    const { bus } = this.#attached();
    const all = await inWords(keptCheckpoints(bus, core.pipeline));
    const kept = all.filter(({ sink }) => only === undefined || sink === only);
    const enabled = sinks.map(({ id }) => id);
    return listFacts({
      pipeline: core.pipeline,
      kept,
      enabled,
      slices: core.slice.of,
      now: systemClock.now(),
    });
  }

  async preview(wanted: WantedChange): Promise<ChangeFacts> {
    const attached = this.#attached();
    const plan = await inWords(this.#plan(attached, wanted));
    return this.#facts(wanted, plan, { isDone: false, others: await this.#others(attached.bus) });
  }

  async change(wanted: WantedChange, signal: AbortSignal): Promise<ChangeFacts> {
    const attached = this.#attached();
    const { bus, engine } = attached;
    const { sink } = wanted;
    const others = await this.#others(bus);
    if (!wanted.force) refuseShared(others);
    // What cannot be done anyway is not worth taking the sink down.
    refuseUnsettled(await inWords(this.#plan(attached, wanted)), engine, wanted);
    signal.throwIfAborted();
    for (let attempt = 1; ; attempt++) {
      const done = await inWords(engine.replaceLane(sink, () => this.#edit(attached, wanted, signal)));
      if (!this.#isOverwritten(done, engine, sink))
        return this.#facts(wanted, done, { isDone: true, others });
      if (attempt === MAX_ATTEMPTS)
        throw new Refusal('shared', 'another instance keeps writing its own checkpoint over it');
    }
  }

  /** Whether the sink has begun later: an instance that is about to change it too has saved its own in between. */
  #isOverwritten({ effects }: CheckpointChange, engine: Engine, sink: string): boolean {
    const parts = engine.lanes.find(({ lane }) => lane.id === sink);
    const after = effects.find(({ slice }) => slice === this.#slice)?.after;
    if (parts === undefined || parts.over.aborted || after === undefined) return false;
    const { from, resumed } = parts.beginnings;
    if (after.by === 'stopped' || resumed?.has(sink) !== true) return false;
    return from.get(sink)! > (after.next ?? Number.POSITIVE_INFINITY);
  }

  /** Resolves to what was done. Each attempt goes by what the keys hold then, and writes by their revisions. */
  async #edit(attached: Attached, wanted: WantedChange, signal: AbortSignal): Promise<PlannedChange> {
    let first: PlannedChange | undefined;
    for (let attempt = 1; ; attempt++) {
      signal.throwIfAborted();
      try {
        const plan = await this.#plan(attached, wanted);
        refuseUnsettled(plan, attached.engine, wanted);
        if (first === undefined || plan.edits.length > 0) first = plan;
        // Should it end in between, the sink goes on where it was.
        const own = ({ kept: { slice } }: CheckpointChange['edits'][number]) =>
          slice === this.#slice ? 1 : 0;
        await editCheckpoints(
          attached.bus,
          [...plan.edits].sort((a, b) => own(a) - own(b)),
        );
        const { sink, to } = wanted;
        const [change] = first.edits.filter(({ kept: { slice } }) => slice === this.#slice);
        const [from, next] = [change?.kept.content.checkpoint?.next, change?.checkpoint?.next];
        const told = { sink, from: timeOf(from), next: timeOf(next), isReset: to === undefined };
        this.#log.warn(told, 'an operator changed the checkpoint of the sink');
        return first;
      } catch (error) {
        const mayPass = error instanceof Overtaken || (first !== undefined && error instanceof BusError);
        if (!mayPass || attempt === MAX_ATTEMPTS) throw error;
        await systemClock.sleep(backoffMs(attempt, systemClock.random()), signal);
      }
    }
  }

  #plan({ bus, engine }: Attached, { sink, to }: WantedChange): Promise<PlannedChange> {
    const chosen = { sink, slice: this.#slice, withOthers: true };
    return planChange(bus, this.#parts.config, engine.tiling, chosen, to);
  }

  get #slice(): string {
    const { index, of } = this.#parts.config.core.slice;
    return `${index}/${of}`;
  }

  #facts(
    { sink, to }: WantedChange,
    { effects, ...plan }: PlannedChange,
    { isDone, others }: { readonly isDone: boolean; readonly others: readonly string[] | string },
  ): ChangeFacts {
    const { core, sinks } = this.#parts.config;
    const asked = {
      verb: to === undefined ? ('reset' as const) : ('set' as const),
      sink,
      pipeline: core.pipeline,
      start: sinks.find(({ id }) => id === sink)?.start,
      isDone,
      instances: typeof others === 'string' ? null : others,
    };
    const own = effects.filter(({ slice }) => slice === this.#slice);
    return changeFacts(asked, { ...plan, effects: own }, plan.tiling);
  }

  /** Resolves to the other instances that write the same keys, or to the reason why they are not known. */
  async #others(bus: Bus): Promise<readonly string[] | string> {
    try {
      const all = await instancesOnBus(bus, this.#parts.config.core.pipeline);
      // Where control is not on the bus, for example because the bus refuses it, it may not be for others either.
      if (!all.some(({ instance }) => instance === this.#parts.instance))
        return 'this instance does not answer there either';
      const others = all.filter(
        ({ instance, slice }) => slice === this.#slice && instance !== this.#parts.instance,
      );
      return others.map(({ instance }) => instance);
    } catch (error) {
      if (error instanceof BusError) return error.message;
      throw error;
    }
  }

  /** Throws a `Refusal` if there is nothing that could be changed. */
  #attached(): Attached {
    const { config, bus, engine, detached } = this.#parts;
    if (config.core.metricsSource === 'core')
      throw new Refusal('not_replayable', 'plain NATS (METRICS_SOURCE=core) has no checkpoints');
    if (detached || bus === undefined || engine === undefined)
      throw new Refusal(
        'detached',
        'the instance is not on the bus. Attach it first, or use metrics-fanout checkpoint while no instance of the pipeline runs.',
      );
    return { bus, engine };
  }
}

function refuseShared(others: readonly string[] | string): void {
  if (typeof others === 'string')
    throw new Refusal(
      'shared',
      `it is not known whether another instance writes the same checkpoint (${others}). If none does, add force (--force).`,
    );
  if (others.length > 0)
    throw new Refusal(
      'shared',
      `other instances run the same slice, and would write their checkpoints over it: ${others.join(', ')}. Ask all of them, with force (--all --force), or stop them first.`,
    );
}

/** What nobody would be told of a second time must be in the store before its window is left behind. */
function refuseUnsettled({ effects }: CheckpointChange, engine: Engine, { sink, to }: WantedChange): void {
  const owes = engine.owes(sink);
  const leavesBehind = effects.some(
    ({ before, skipped }) => before.by === 'checkpoint' && (to === undefined || skipped !== undefined),
  );
  const isBlocked = engine.lanes.some(({ lane }) => lane.id === sink && lane.blocked);
  if (isBlocked || owes === undefined || (owes === 'rewrites' && !leavesBehind)) return;
  const what =
    owes === 'rewrites'
      ? 'windows that it has got are being written again, because of late messages'
      : 'a rollback of the stream is being cleared up in it';
  throw new Refusal('busy', `the sink ${sink} cannot leave windows behind now: ${what}. Try again later.`);
}

function timeOf(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString();
}

async function inWords<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof BusError) throw new Refusal('impossible', `${error.message}. ${error.advice}`);
    throw error;
  }
}
