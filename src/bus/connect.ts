/** The connection to the bus: signs in, stays connected, tells the log and the counters what happens to it. */

import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ConnectionOptions,
  connect as connectClient,
  ErrorCode,
  Events,
  type NatsConnection,
  type Status,
} from 'nats';
import { type Log, Quiet } from '../base/log.ts';
import type { CoreConfig } from '../config/core-settings.ts';
import { BusError } from './bus-error.ts';
import { connectError, isUnreachable, refusedCertificate } from './errors.ts';
import { Frames } from './frames.ts';
import { incoming } from './headers.ts';
import type { Incoming } from './message.ts';
import { parseServers, signInOptions } from './sign-in.ts';

const CONNECT_TIMEOUT_MS = 5_000;
const RECONNECT_WAIT_MS = 250;
const RECONNECT_JITTER_MS = 500;
/** A connection that is silently dead is noticed within (MAX_PINGS_OUT + 1) of these. */
const PING_INTERVAL_MS = 10_000;
const MAX_PINGS_OUT = 2;
const CLOSE_TIMEOUT_MS = 2_000;
const DRAIN_TIMEOUT_MS = 2_000;
/** What may be published and not yet be acknowledged by the server as read; beyond that, `publish` refuses. */
const MAX_UNFLUSHED_BYTES = 8 * 1024 * 1024;
/** The same trouble is logged once per this interval. */
const REPEAT_LOG_MS = 60_000;
const PERMISSION_ADVICE = 'Allow it in the permissions of the user that this service signs in with.';

/** Counters of the connection since it was made. */
export interface BusStats {
  disconnects: number;
  reconnects: number;
  authErrors: number;
  permissionErrors: number;
  /** Other errors that the server sent. */
  protocolErrors: number;
  /** Messages of ours that were not published: no connection, or too much unflushed. */
  unsent: number;
  /** Exceptions that a subscription's callback threw. */
  callbackErrors: number;
}

export interface Bus {
  /** For bus/ alone: nothing else imports `nats`. */
  readonly connection: NatsConnection;
  readonly log: Log;
  readonly stats: Readonly<BusStats>;
  readonly connected: boolean;
  /** For bus/ alone. Absent where the client alone receives. */
  readonly frames: Frames | undefined;
  /** Every inbox of ours starts with it, and a dot. */
  readonly inboxPrefix: string;
  /** host:port of the server. */
  readonly server: string;
  /** Resolves when connected, or closed for good; at once, and whatever the state, when the signal aborts. */
  whenConnected(signal: AbortSignal): Promise<void>;
  /** Calls back after each reconnection, and where the connection is closed for good; returns what ends that. */
  onReconnect(listener: () => void): () => void;
  /**
   * Plain NATS. A callback that throws is logged and counted. Returns what ends the subscription: the
   * server is asked for no more, and what was already on its way still comes, for two seconds at most.
   */
  subscribe(
    subject: string,
    onMessage: (message: Incoming) => void,
    options?: SubscribeOptions,
  ): () => Promise<void>;
  /** Plain NATS, at most once. Never throws; false: not sent, and counted. */
  publish(subject: string, payload: Uint8Array | string): boolean;
  /** Resolves when the server has read all that was published; rejects when the connection is lost. */
  flush(): Promise<void>;
  /** Sends what is still to be sent, for two seconds at most. */
  close(): Promise<void>;
}

export interface SubscribeOptions {
  readonly queue?: string;
  /** Where frames are received, messages without headers come here and not to the callback: much cheaper. */
  readonly onFrame?: (bytes: Uint8Array, start: number, end: number) => void;
  /** See `FrameSink`. */
  readonly onFlush?: (() => void) | undefined;
  /** The server refused the subscription: it is gone. */
  readonly onRefused?: (error: BusError) => void;
}

export interface ConnectOptions {
  /** Wait for as long as no server can be reached (a refused sign-in or bad TLS still rejects). Default: reject. */
  readonly wait?: boolean;
  readonly signal?: AbortSignal;
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
    // Credentials may be rotated under a running service: it goes on trying.
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

/** Until a server has let us in, where it is to be waited for. */
async function dialUntil(
  addresses: readonly string[],
  clientOptions: ConnectionOptions,
  core: CoreConfig,
  log: Log,
  options: ConnectOptions,
): Promise<NatsConnection> {
  for (let waiting = false; ; waiting = true) {
    try {
      return await dial(shuffled(addresses), clientOptions);
    } catch (error) {
      const refused = await refusedCertificate(error, addresses, core);
      if (refused) throw refused;
      const explained = connectError(error, addresses, core);
      if (!options.wait || !isUnreachable(error) || options.signal?.aborted) throw explained;
      if (!waiting) {
        const { message: reason, advice } = explained;
        log.warn({ servers: addresses, reason, advice }, 'waiting for the bus');
      }
      const ms = RECONNECT_WAIT_MS + Math.random() * RECONNECT_JITTER_MS;
      await sleep(ms, undefined, options.signal ? { signal: options.signal } : {}).catch(() => {});
    }
  }
}

/**
 * The client forgets servers that it does not reach at first, and would never try them again: so where it had to pass
 * some over, connect once more beginning with the one that answered.
 */
async function dial(servers: readonly string[], options: ConnectionOptions): Promise<NatsConnection> {
  const connection = await connectClient({ ...options, servers: [...servers] });
  const passed = servers.indexOf(connection.getServer());
  if (passed <= 0) return connection;
  await connection.close();
  return connectClient({ ...options, servers: [...servers.slice(passed), ...servers.slice(0, passed)] });
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
  readonly #listeners = new Set<() => void>();
  readonly #quiet = new Quiet(REPEAT_LOG_MS);
  #unflushedBytes = 0;
  #flushing = false;
  #closing = false;

  constructor(connection: NatsConnection, log: Log, core: CoreConfig) {
    this.connection = connection;
    this.log = log;
    this.inboxPrefix = core.natsInboxPrefix;
    this.frames = core.metricsReceive === 'frames' ? new Frames(connection) : undefined;
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
        // An exception that leaves this callback would end the client's reader for good, in silence.
        try {
          if (error) options.onRefused?.(refusedSubscription(subject));
          else onMessage(incoming(message));
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
      // Without a connection nothing is on its way any more.
      if (this.connected) await Promise.race([subscription.drain().catch(() => {}), expired]);
      timer.abort();
      endFrames();
      if (!this.connection.isClosed()) subscription.unsubscribe();
    };
  }

  #listen(subject: string, sid: number, { onFrame, onFlush }: SubscribeOptions): () => void {
    if (this.frames === undefined || onFrame === undefined) return () => {};
    return this.frames.listen(sid, {
      flush: onFlush,
      frame: (bytes, _subjectStart, _subjectEnd, start, end) => {
        try {
          onFrame(bytes, start, end);
        } catch (thrown) {
          this.#callbackThrew(subject, thrown);
        }
      },
    });
  }

  #callbackThrew(subject: string, thrown: unknown): void {
    this.stats.callbackErrors += 1;
    this.#trouble('callback', { subject, error: String(thrown) }, 'a message could not be processed');
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

  /** Keeps a PING behind what was published: its PONG shows that the server has read all before it. */
  async #settle(): Promise<void> {
    this.#flushing = true;
    while (this.#unflushedBytes > 0) {
      const sent = this.#unflushedBytes;
      const read = await this.connection.flush().then(
        () => true,
        () => false,
      );
      // A connection that was lost took all with it.
      this.#unflushedBytes = read ? this.#unflushedBytes - sent : 0;
    }
    this.#flushing = false;
  }

  flush(): Promise<void> {
    return this.connection.flush();
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
        this.log.warn({ server: data }, 'the server of the bus is about to shut down (lame duck mode)');
      } else if (type === Events.Error) this.#serverError(String(data), permissionContext);
    }
  }

  /** While the client tries again, it tells of every attempt that fails, and afterwards of as many successes. */
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
    this.log.info({ server }, 'connected to the bus again');
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
    this.#trouble(code, { code }, isAuth ? 'the bus refuses the sign-in' : 'the bus sent an error');
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
  return new BusError(`the bus does not let us subscribe to ${subject}`, PERMISSION_ADVICE);
}
