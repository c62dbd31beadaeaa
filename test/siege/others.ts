/** What belongs to others: nothing of it may be different afterwards. */
import { isDeepStrictEqual } from 'node:util';
import type { StreamInfo } from 'nats';
import { Client, SCRATCH } from '../e2e/bus-users.ts';
import { LIMIT_MS } from '../limits.ts';

const METRICS = 'METRICS';
const BUCKET = 'KV_fanout-checkpoints';
const OWN_KEYS = /^\$KV\.fanout-checkpoints\.(default\..+|charts\.default_0-1|shapes\.default|clock)$/;

interface Look {
  readonly streams: ReadonlyMap<string, StreamInfo>;
}

/** Looks at the bus as its administrator. */
export class Others {
  readonly #setup: Client;
  #before: Look | undefined;

  private constructor(setup: Client) {
    this.#setup = setup;
  }

  /** Also makes a stream that is none of our business. */
  static async at(bus: { readonly url: string }): Promise<Others> {
    const others = new Others(await Client.connect('setup', bus));
    const streams = (await others.#manager()).streams;
    await streams.add(SCRATCH);
    return others;
  }

  async remember(): Promise<void> {
    this.#before = await this.#look();
  }

  async close(): Promise<void> {
    await this.#setup.connection.close();
  }

  /** How many messages the stream holds, by subject. */
  async messagesBySubject(): Promise<Readonly<Record<string, number>>> {
    const { streams } = await this.#manager();
    return (await streams.info(METRICS, { subjects_filter: '>' })).state.subjects ?? {};
  }

  /** What has changed since `remember`, in words. */
  async changes(): Promise<string[]> {
    const before = this.#before!.streams;
    const { streams: after } = await this.#look();
    const names = new Set([...before.keys(), ...after.keys()]);
    const found: string[] = [];
    for (const name of names) {
      const [old, now] = [before.get(name), after.get(name)];
      if (old === undefined || now === undefined) {
        found.push(`the stream ${name} is ${now === undefined ? 'gone' : 'new'}`);
        continue;
      }
      if (!isDeepStrictEqual(old.config, now.config))
        found.push(`the stream ${name} has another configuration`);
      const grows = name === METRICS || name === BUCKET;
      const { first_seq, last_seq, num_deleted = 0, messages } = now.state;
      if (!grows && !isDeepStrictEqual(old.state, now.state))
        found.push(`the stream ${name} holds something else`);
      if (name === METRICS && (first_seq !== 1 || num_deleted > 0 || messages !== last_seq))
        found.push(`the stream ${name} has lost messages`);
    }
    return [...found, ...(await this.#foreignKeys())];
  }

  async #foreignKeys(): Promise<string[]> {
    const { streams } = await this.#manager();
    const { subjects = {} } = (await streams.info(BUCKET, { subjects_filter: '>' })).state;
    const found: string[] = [];
    for (const subject of Object.keys(subjects)) {
      if (!OWN_KEYS.test(subject)) found.push(`${subject} is not ours`);
      if (subject.endsWith('.clock')) continue;
      const text = (await streams.getMessage(BUCKET, { last_by_subj: subject })).string();
      if (!isObject(text)) found.push(`${subject} is no checkpoint: ${text.slice(0, 100)}`);
    }
    return found;
  }

  async #look(): Promise<Look> {
    const { streams } = await this.#manager();
    const all = await streams.list().next();
    return { streams: new Map(all.map((info) => [info.config.name, info])) };
  }

  #manager() {
    return this.#setup.connection.jetstreamManager({ timeout: LIMIT_MS });
  }
}

function isObject(text: string): boolean {
  try {
    return typeof JSON.parse(text) === 'object';
  } catch {
    return false;
  }
}
