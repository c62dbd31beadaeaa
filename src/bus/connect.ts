/** The connection to the bus: signs in, stays connected, and reports what happens to it in the log and the counters. */

import { setTimeout as sleep } from 'node:timers/promises';
import { type ConnectionOptions, ErrorCode, Events, type NatsConnection, type Status } from 'nats';
import { unlessAborted } from '../base/clock.ts';
import { type Log, Quiet } from '../base/log.ts';
import type { CoreConfig } from '../config/core-settings.ts';
import { BusError } from './bus-error.ts';
import { connectClient, type Resolve } from './client.ts';
import { connectError, isWorthWaiting, signInAdvice } from './errors.ts';
import { FrameSubject } from './frame-subject.ts';
import { Frames } from './frames.ts';
import { incoming, isConditional } from './headers.ts';
import { apiPrefixOf } from './jetstream-api.ts';
import type { Envelope, Incoming } from './message.ts';
import { parseServers, signInOptions } from './sign-in.ts';
import { SocketReading } from './socket-reading.ts';

const CONNECT_TIMEOUT_MS = 5_000;
const RECONNECT_WAIT_MS = 250;
const RECONNECT_JITTER_MS = 500;
/** A silently dead connection is noticed within (MAX_PINGS_OUT + 1) of these. */
const PING_INTERVAL_MS = 10_000;
const MAX_PINGS_OUT = 2;
const CLOSE_TIMEOUT_MS = 2_000;
const DRAIN_TIMEOUT_MS = 2_000;
/** How much may be published before the server acknowledges reading it; beyond that, `publish` refuses. */
const MAX_UNFLUSHED_BYTES = 8 * 1024 * 1024;
/** The same problem is logged at most once per this interval. */
const REPEAT_LOG_MS = 60_000;
const PERMISSION_ADVICE = 'Allow it in the permissions of the user that this service signs in as.';

/** Counters of the connection since it was created. */
export interface BusStats {
  disconnects: number;
  reconnects: number;
  authErrors: number;
  permissionErrors: number;
  /** Other errors sent by the server. */
  protocolErrors: number;
  /** Messages that we could not publish: no connection, or too much unflushed. */
  unsent: number;
  /** Exceptions thrown by the callbacks of subscriptions. */
  callbackErrors: number;
}

export interface Bus {
  /** For bus/ only: nothing else imports `nats`. */
  readonly connection: NatsConnection;
  readonly log: Log;
  readonly stats: Readonly<BusStats>;
  readonly connected: boolean;
  /** For bus/ only. Absent if the client itself receives all messages. */
  readonly frames: Frames | undefined;
  /** The same. */
  readonly socket: SocketReading | undefined;
  /** Each of our inboxes starts with this and a dot. */
  readonly inboxPrefix: string;
  /** The subjects of JetStream's API begin with this and a dot. */
  readonly apiPrefix: string;
  /** host:port of the server. */
  readonly server: string;
  /** Resolves when connected or closed for good. If the signal aborts, resolves at once, whatever the state. */
  whenConnected(signal: AbortSignal): Promise<void>;
  /**
   * Calls `listener` after each reconnection, and when the connection is closed for good. Returns a function that stops
   * this.
   */
  onReconnect(listener: () => void): () => void;
  /**
   * Subscribes by plain NATS. An exception of the callback is logged and counted. Returns a function that ends the
   * subscription: the server stops sending, and messages already on their way still arrive, for at most two seconds.
   */
  subscribe(
    subject: string,
    onMessage: (message: Incoming) => void,
    options?: SubscribeOptions,
  ): () => Promise<void>;
  /**
   * Publishes by plain NATS, at most once. Never throws. Returns false if the message was not sent; that is counted.
   */
  publish(subject: string, payload: Uint8Array | string): boolean;
  /**
   * Resolves when the server has read everything published so far. Rejects when the connection is lost: a server that
   * hangs is noticed only after half a minute. Resolves at once, whatever the server does, when the signal aborts.
   */
  flush(signal?: AbortSignal): Promise<void>;
  /** Sends what is still unsent, for at most two seconds, and closes the connection. */
  close(): Promise<void>;
}

export interface SubscribeOptions {
  readonly queue?: string;
  /** If frames are received, messages without headers come here and not to the callback: much cheaper. */
  readonly onFrame?: (bytes: Uint8Array, start: number, end: number, envelope: Envelope) => void;
  /** See `FrameSink`. */
  readonly onFlush?: (() => void) | undefined;
  /** Leaves out messages whose headers ask JetStream to store them only if something holds, such as not twice. */
  readonly skipConditional?: boolean;
  /** The server refused the subscription, which is gone. */
  readonly onRefused?: (error: BusError) => void;
}

export interface ConnectOptions {
  /**
   * Whether to wait as long as no server can be reached (a refused sign-in or bad TLS still rejects). Default: reject.
   */
  readonly wait?: boolean;
  /** Told once what it waits for, instead of the log. */
  readonly onWaiting?: (error: BusError) => void;
  readonly signal?: AbortSignal;
  /** For tests: resolves names, instead of the system. */
  readonly resolve?: Resolve;
  /** Shown in the server's list of connections. */
  readonly name?: string;
}

/** Rejects with a `BusError`. */
export async function connect(core: CoreConfig, log: Log, options: ConnectOptions = {}): Promise<Bus> {
  const servers = parseServers(core.natsUrl);
  const clientOptions: ConnectionOptions = {
    ...signInOptions(core, servers),
    name: options.name ?? 'metrics-fanout',
    inboxPrefix: core.natsInboxPrefix,
    timeout: CONNECT_TIMEOUT_MS,
    maxReconnectAttempts: -1,
    reconnectTimeWait: RECONNECT_WAIT_MS,
    reconnectJitter: RECONNECT_JITTER_MS,
    reconnectJitterTLS: RECONNECT_JITTER_MS,
    pingInterval: PING_INTERVAL_MS,
    maxPingOut: MAX_PINGS_OUT,
    // Credentials may be rotated while the service runs, so it keeps trying.
    ignoreAuthErrorAbort: true,
    noAsyncTraces: true,
    noRandomize: true,
  };
  const connection = await dialUntil(servers.addresses, clientOptions, core, log, options);
  log.info({ server: connection.getServer() }, 'connected to the bus');
  try {
    return new Connection(connection, log, core);
  } catch (error) {
    await connection.close();
    throw error;
  }
}

/** Connects to a server; if `wait` is set, keeps trying until one can be reached. */
async function dialUntil(
  addresses: readonly string[],
  clientOptions: ConnectionOptions,
  core: CoreConfig,
  log: Log,
  options: ConnectOptions,
): Promise<NatsConnection> {
  for (let waiting = false; ; waiting = true) {
    try {
      return await dial(shuffled(addresses), clientOptions, options.resolve);
    } catch (error) {
      const explained = await connectError(error, addresses, core);
      if (!options.wait || !isWorthWaiting(error, explained) || options.signal?.aborted) throw explained;
      if (!waiting) tellWaiting(explained, addresses, log, options);
      const ms = RECONNECT_WAIT_MS + Math.random() * RECONNECT_JITTER_MS;
      await sleep(ms, undefined, options.signal ? { signal: options.signal } : {}).catch(() => {});
    }
  }
}

function tellWaiting(
  error: BusError,
  servers: readonly string[],
  log: Log,
  { onWaiting }: ConnectOptions,
): void {
  const { message: reason, advice } = error;
  if (onWaiting === undefined) log.warn({ servers, reason, advice }, 'waiting for the bus');
  else onWaiting(error);
}

/**
 * The client forgets servers that it cannot reach at first, and would never try them again. So if it had to skip some,
 * connect once more, starting with the server that answered.
 */
async function dial(
  servers: readonly string[],
  options: ConnectionOptions,
  resolve?: Resolve,
): Promise<NatsConnection> {
  const connection = await connectClient({ ...options, servers: [...servers] }, resolve);
  const passed = servers.indexOf(connection.getServer());
  if (passed <= 0) return connection;
  await connection.close();
  const inOrder = [...servers.slice(passed), ...servers.slice(0, passed)];
  return connectClient({ ...options, servers: inOrder }, resolve);
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, rank: Math.random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item);
}

class Connection implements Bus {
  readonly connection: NatsConnection;
  readonly log: Log;
  readonly inboxPrefix: string;
  readonly apiPrefix: string;
  readonly stats: BusStats = {
    disconnects: 0,
    reconnects: 0,
    authErrors: 0,
    permissionErrors: 0,
    protocolErrors: 0,
    unsent: 0,
    callbackErrors: 0,
  };
  connected = true;
  readonly frames: Frames | undefined;
  readonly socket: SocketReading | undefined;
  readonly #listeners = new Set<() => void>();
  readonly #signInAdvice: string;
  readonly #quiet = new Quiet(REPEAT_LOG_MS);
  #unflushedBytes = 0;
  #flushing = false;
  #closing = false;

  constructor(connection: NatsConnection, log: Log, core: CoreConfig) {
    this.connection = connection;
    this.log = log;
    this.inboxPrefix = core.natsInboxPrefix;
    this.apiPrefix = apiPrefixOf(core);
    this.#signInAdvice = signInAdvice(core);
    const isOurs = core.metricsReceive === 'frames';
    this.frames = isOurs ? new Frames(connection) : undefined;
    this.socket = isOurs ? new SocketReading(connection) : undefined;
    void this.#watch();
    void connection.closed().then((error) => {
      this.connected = false;
      if (this.#closing) return;
      log.error({ reason: error?.message }, 'the connection to the bus closed for good');
      this.#tell();
    });
  }

  get server(): string {
    return this.connection.getServer();
  }

  async whenConnected(signal: AbortSignal): Promise<void> {
    if (this.connected || this.connection.isClosed() || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#listeners.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#listeners.add(done);
      signal.addEventListener('abort', done);
    });
  }

  onReconnect(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  subscribe(
    subject: string,
    onMessage: (message: Incoming) => void,
    options: SubscribeOptions = {},
  ): () => Promise<void> {
    const subscription = this.connection.subscribe(subject, {
      ...(options.queue === undefined ? {} : { queue: options.queue }),
      callback: (error, message) => {
        // An exception that leaves this callback would silently end the client's reader for good.
        try {
          if (error) options.onRefused?.(refusedSubscription(subject));
          else if (!(options.skipConditional && isConditional(message))) onMessage(incoming(message));
        } catch (thrown) {
          this.#callbackThrew(subject, thrown);
        }
      },
    });
    const endFrames = this.#listen(subject, subscription.getID(), options);
    return async () => {
      if (this.connection.isClosed()) return;
      const timer = new AbortController();
      const expired = sleep(DRAIN_TIMEOUT_MS, undefined, timer).catch(() => {});
      // Without a connection, nothing is still on its way.
      if (this.connected) await Promise.race([subscription.drain().catch(() => {}), expired]);
      timer.abort();
      endFrames();
      if (!this.connection.isClosed()) subscription.unsubscribe();
    };
  }

  #listen(subject: string, sid: number, { onFrame, onFlush }: SubscribeOptions): () => void {
    if (this.frames === undefined || onFrame === undefined) return () => {};
    const envelope = new FrameSubject();
    return this.frames.listen(sid, {
      flush: onFlush,
      frame: (bytes, subjectStart, subjectEnd, start, end) => {
        try {
          envelope.isAt(bytes, subjectStart, subjectEnd);
          onFrame(bytes, start, end, envelope);
        } catch (thrown) {
          this.#callbackThrew(subject, thrown);
        }
      },
    });
  }

  #callbackThrew(subject: string, thrown: unknown): void {
    this.stats.callbackErrors += 1;
    this.#trouble('callback', { subject, error: String(thrown) }, 'could not process a message');
  }

  publish(subject: string, payload: Uint8Array | string): boolean {
    try {
      if (!this.connected || this.#unflushedBytes > MAX_UNFLUSHED_BYTES) throw new Error('not now');
      this.connection.publish(subject, payload);
    } catch {
      this.stats.unsent += 1;
      return false;
    }
    this.#unflushedBytes += subject.length + payload.length;
    if (!this.#flushing) void this.#settle();
    return true;
  }

  /** Sends a PING after what was published: its PONG shows that the server has read everything before it. */
  async #settle(): Promise<void> {
    this.#flushing = true;
    while (this.#unflushedBytes > 0) {
      const sent = this.#unflushedBytes;
      const read = await this.connection.flush().then(
        () => true,
        () => false,
      );
      // A lost connection took everything with it.
      this.#unflushedBytes = read ? this.#unflushedBytes - sent : 0;
    }
    this.#flushing = false;
  }

  async flush(signal?: AbortSignal): Promise<void> {
    const flushed = this.connection.flush();
    await (signal === undefined ? flushed : unlessAborted(flushed, signal));
  }

  async close(): Promise<void> {
    this.#closing = true;
    if (this.connection.isClosed()) return;
    const timer = new AbortController();
    const expired = sleep(CLOSE_TIMEOUT_MS, undefined, timer).catch(() => {});
    if (this.connected) await Promise.race([this.connection.drain().catch(() => {}), expired]);
    timer.abort();
    await this.connection.close();
  }

  async #watch(): Promise<void> {
    for await (const { type, data, permissionContext } of this.connection.status()) {
      if (this.#closing) continue;
      if (type === Events.Disconnect) this.#disconnected(String(data));
      else if (type === Events.Reconnect) this.#reconnected(String(data));
      else if (type === Events.LDM) {
        this.log.warn({ server: data }, 'the bus server is about to shut down (lame duck mode)');
      } else if (type === Events.Error) this.#serverError(String(data), permissionContext);
    }
  }

  /** While the client retries, it reports every failed attempt, and afterwards just as many successes. */
  #disconnected(server: string): void {
    if (!this.connected) return;
    this.connected = false;
    this.stats.disconnects += 1;
    this.log.warn({ server }, 'lost the connection to the bus; reconnecting');
  }

  #reconnected(server: string): void {
    if (this.connected) return;
    this.connected = true;
    this.stats.reconnects += 1;
    this.log.info({ server }, 'reconnected to the bus');
    this.#tell();
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  #serverError(code: string, refused: Status['permissionContext']): void {
    const { isAuth, isPermission } = kindOf(code);
    if (isAuth) this.stats.authErrors += 1;
    else if (isPermission) this.stats.permissionErrors += 1;
    else this.stats.protocolErrors += 1;
    if (refused !== undefined) {
      const { operation, subject } = refused;
      const advice = PERMISSION_ADVICE;
      this.#trouble(operation, { code, operation, subject, advice }, 'the bus does not permit a subject');
      return;
    }
    if (isAuth) this.#trouble(code, { code, advice: this.#signInAdvice }, 'the bus refuses the sign-in');
    else this.#trouble(code, { code }, 'the bus sent an error');
  }

  #trouble(key: string, fields: object, message: string): void {
    const held = this.#quiet.admit(key, performance.now());
    if (held !== undefined) this.log.error({ ...fields, ...(held > 0 ? { repeated: held } : {}) }, message);
  }
}

function kindOf(code: string): { isAuth: boolean; isPermission: boolean } {
  const auth: readonly string[] = [
    ErrorCode.AuthorizationViolation,
    ErrorCode.AuthenticationExpired,
    ErrorCode.AuthenticationTimeout,
    ErrorCode.AccountExpired,
    ErrorCode.BadAuthentication,
  ];
  return { isAuth: auth.includes(code), isPermission: code === ErrorCode.PermissionsViolation };
}

function refusedSubscription(subject: string): BusError {
  return new BusError(`the bus does not permit us to subscribe to ${subject}`, PERMISSION_ADVICE);
}
