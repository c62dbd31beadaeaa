/** Counts what a stream stores under a subject, without reading it: for who publishes there and wants to know. */
import { DeliverPolicy } from 'nats';
import type { CoreConfig } from '../../config/core-settings.ts';
import { storedAs } from '../capture.ts';
import type { Bus } from '../connect.ts';
import { jetstreamError } from '../errors.ts';
import { capturing, describeStream, type StreamFacts, streamExists } from '../stream.ts';
import { addConsumer, deleteConsumer } from './consumer.ts';

type Configured = Pick<CoreConfig, 'metricsStream' | 'metricsSubjects'>;

export interface StoredSince {
  readonly messages: number;
  /** Why there may have been more; undefined if there were not. */
  readonly doubt: string | undefined;
  /** Why there cannot be any; absent if there can. */
  readonly never?: string;
}

/** What a stream has stored since the count began. */
export class StoredCount {
  readonly #bus: Bus;
  readonly #core: Configured;
  readonly #subject: string;
  /** Undefined if there was no stream. */
  readonly #before: StreamFacts | undefined;

  private constructor(bus: Bus, core: Configured, subject: string, before: StreamFacts | undefined) {
    this.#bus = bus;
    this.#core = core;
    this.#subject = subject;
    this.#before = before;
  }

  /** Rejects with a `BusError` if the stream cannot be asked. */
  static async begin(bus: Bus, core: Configured, subject: string): Promise<StoredCount> {
    return new StoredCount(bus, core, subject, await factsOf(bus, core));
  }

  /** Rejects with a `BusError`. */
  async read(): Promise<StoredSince> {
    const facts = await factsOf(this.#bus, this.#core);
    if (facts === undefined) return await this.#nothing(`there is no stream ${this.#core.metricsStream}`);
    const before = this.#before;
    const first = (before?.lastSequence ?? facts.beginSequence - 1) + 1;
    const stored = storedAs(this.#subject, facts.capture);
    if (stored === undefined) return { messages: 0, doubt: 'others are stored under the same subject' };
    if (stored.length === 0) return await this.#nothing('the stream does not capture that subject');
    const hasGrown = facts.lastSequence >= first;
    const messages = hasGrown ? await this.#countFrom(first, stored, facts) : 0;
    // Mappings of an account are the server's own business.
    if (hasGrown && messages === 0) return { messages, doubt: 'what the stream got has other subjects' };
    if (before !== undefined && before.created !== facts.created)
      return { messages, doubt: 'the stream was made anew' };
    const doubt = facts.firstSequence > first ? 'the stream has removed messages since' : undefined;
    return { messages, doubt };
  }

  /**
   * Another stream may have it. If none does, no message was stored, unless the server maps the subject. Where there is
   * a domain, there are others, as that of a hub is for a leaf node: their streams may capture what is sent here.
   */
  async #nothing(doubt: string): Promise<StoredSince> {
    const { domain } = (this.#bus.connection.info ?? {}) as { readonly domain?: string };
    const names = domain ? undefined : await capturing(this.#bus, this.#subject);
    const never = `no stream captures ${this.#subject}`;
    return names?.length === 0 ? { messages: 0, doubt: undefined, never } : { messages: 0, doubt };
  }

  /** A consumer knows how many messages it would deliver. */
  async #countFrom(first: number, stored: readonly string[], facts: StreamFacts): Promise<number> {
    const [subject, ...more] = stored;
    const filter = more.length === 0 ? { filter_subject: subject! } : { filter_subjects: [...stored] };
    const start = { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: first };
    try {
      const { name, num_pending } = await addConsumer(this.#bus, facts, { ...start, ...filter });
      deleteConsumer(this.#bus, facts.name, name);
      return num_pending;
    } catch (error) {
      throw jetstreamError(error, `counting messages of the stream ${facts.name}`);
    }
  }
}

async function factsOf(bus: Bus, core: Configured): Promise<StreamFacts | undefined> {
  return (await streamExists(bus, core.metricsStream)) ? await describeStream(bus, core) : undefined;
}
