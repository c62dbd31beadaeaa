/**
 * Puts the running service together: bus -> pipeline -> fan-out -> lanes -> a thread per sink, and everything that
 * watches them.
 */
import { randomBytes } from 'node:crypto';
import { systemClock } from '../base/clock.ts';
import { keepHeapSmall } from '../base/garbage.ts';
import { type Log, Quiet } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import { localUrl } from '../config/local-url.ts';
import { ControlPlane } from '../control/control-plane.ts';
import { openControlSocket } from '../control/control-socket.ts';
import { answerRecent } from '../control/http-query.ts';
import type { Engine } from '../deliver/engine.ts';
import { RollbackLog } from '../deliver/rollback.ts';
import { SharedThread } from '../deliver/thread/shared-thread.ts';
import type { BegunHttp } from '../observe/http-beginning.ts';
import { type HttpOptions, type ServiceHttp, serveHttp } from '../observe/http-server.ts';
import { LoopLag } from '../observe/loop-lag.ts';
import { Meters } from '../observe/meters.ts';
import type { Status } from '../observe/status.ts';
import { Telemetry } from '../observe/telemetry.ts';
import { Watch } from '../observe/watch.ts';
import { Probes } from '../probe/probes.ts';
import { WindowScan } from '../probe/window-scan.ts';
import { Folds } from '../recent/folds.ts';
import { RecentQuestions } from '../recent/recent-questions.ts';
import { RecentWindows } from '../recent/recent-windows.ts';
import type { WindowRange } from '../sink/contract.ts';
import { type BegunService, beginService } from './beginning.ts';
import { Membership } from './membership.ts';
import { type Parts, readingOf, snapshot, whyUnready } from './snapshot.ts';
import { Totals } from './totals.ts';

/** Time between log lines about the same problem. */
const QUIET_MS = 60_000;

export interface Service {
  /** Port of the HTTP server. */
  readonly port: number;
  readonly status: () => Status;
  /** Resolves when the service has stopped. Rejects with an error that an operator must fix. */
  readonly done: Promise<void>;
}

/** Runs until `stop` aborts; then stops pulling, gives the lanes STOP_TIMEOUT, and saves the checkpoints. */
export async function startService(
  config: Config,
  log: Log,
  stop: AbortSignal,
  begun: BegunService = beginService(config),
): Promise<Service> {
  const [clock, sinks] = [systemClock, config.sinks.map(({ id }) => id)];
  const scan = new WindowScan((range) => holdersOf(parts.engine, range));
  const { recent, questions, replyTo, folds } = recentOf(config);
  let control: ControlPlane | undefined;
  const parts: Parts = {
    config,
    instance: randomBytes(8).toString('hex'),
    startedAt: clock.now(),
    meters: new Meters(sinks, longestWindow(config), clock.steady()),
    scan,
    probes: new Probes({
      intervalMs: config.core.probeInterval,
      clock,
      questions: () => scan.subject.questions(parts.engine?.live.aggregator.boundary ?? Number.NaN),
      answered: (sink, seconds) => telemetry.observeAnswer(sink, seconds),
    }),
    recent,
    paused: new Set(),
    detached: false,
    rollbacks: new RollbackLog(),
    ...{ totals: new Totals(), folds },
    control: () => control?.status ?? { enabled: false, onBus: false, tasksRunning: 0, unanswered: 0 },
  };
  const status = () => snapshot(parts, clock.now());
  const [lag, { heartbeat }] = [new LoopLag(), begun];
  const telemetry = new Telemetry(status, lag);
  const quiet = new Quiet(QUIET_MS);
  const watch = new Watch({
    ...{ status, reading: () => readingOf(parts, clock.now()) },
    meters: parts.meters,
    clock,
    sinks,
    heartbeat,
    lag,
    failed: (error) => {
      if (quiet.admit('watch', clock.steady()) !== undefined)
        log.error({ error: String(error) }, 'the status cannot be shown');
    },
  });
  const membership = new Membership({ parts, log, telemetry, charts: watch, ...sharing(log) });
  if (config.core.controlEnabled)
    control = new ControlPlane(config, parts.instance, membership, questions, clock, log);
  const http = await openHttp(config, log, begun.http, {
    clock,
    heartbeat,
    unready: () => whyUnready(parts),
    status,
    metrics: () => telemetry.text(),
    metricsType: telemetry.contentType,
    events: watch,
    recent: replyTo,
    control: control?.route,
  }).catch((error: unknown) => {
    watch.stop();
    throw error;
  });
  const unheard = new AbortController();
  http.failed.catch((error: unknown) => unheard.abort(error));
  const stopping = AbortSignal.any([stop, unheard.signal]);
  // Where the bus refuses both connections, that of the data says why.
  void membership.connected.then(() => {
    if (!stopping.aborted) control?.start();
  });
  const done = membership
    .run(stopping)
    .then(() => unheard.signal.throwIfAborted())
    .finally(async () => {
      await control?.stop();
      await http.close();
      watch.stop();
    });
  keepHeapSmall();
  return { port: http.port, status, done };
}

function sharing(log: Log) {
  return { sharedThread: new SharedThread((why) => log.info({ why }, 'each sink gets a thread of its own')) };
}

/** Of the sinks. */
function longestWindow({ core, sinks }: Config): number {
  return sinks.reduce((longest, { windowMs = 0 }) => Math.max(longest, windowMs), core.window);
}

/** How many of the sinks that have a choice of names get a name, in all windows of the range. */
function holdersOf(engine: Engine | undefined, range: WindowRange): (name: string) => number {
  const given = engine?.lanes.flatMap(({ names }) => names?.givenIn(range) ?? []) ?? [];
  return (name) => given.filter((isGiven) => isGiven(name)).length;
}

/** The windows of the last hour, and who answers questions about them. */
function recentOf({ core }: Config) {
  const { recentBytes, slice, metricsSource, metricsQueueGroup: queueGroup, pipeline } = core;
  const clock = systemClock;
  const recent = recentBytes === 0 ? undefined : new RecentWindows({ limitBytes: recentBytes, clock });
  const parts = metricsSource === 'core';
  const folds = new Folds();
  const questions = new RecentQuestions({
    windows: recent,
    clock,
    slice: `${slice.index}/${slice.of}`,
    parts,
    queueGroup,
    folded: () => folds.list(),
  });
  const replyTo: HttpOptions['recent'] = (call, left) =>
    answerRecent(call, { questions, pipeline, now: clock.now() }, left);
  return { recent, questions, replyTo, folds };
}

type HttpParts = Omit<HttpOptions, 'host' | 'port' | 'allowedHosts' | 'replaced'>;

async function openHttp(
  { core, sinks }: Config,
  log: Log,
  begun: BegunHttp,
  parts: HttpParts,
): Promise<ServiceHttp> {
  const { httpHost: host, httpPort: port, httpAllowedHosts: allowedHosts } = core;
  const replaced = (reason: string) =>
    log.error({ reason }, 'the thread that answers over HTTP ended; another one takes its place');
  const http = await serveHttp({ ...parts, host, port, allowedHosts, replaced }, begun);
  const dashboard = `${localUrl({ httpHost: host, httpPort: http.port })}/`;
  log.info({ host, port: http.port, dashboard, sinks: sinks.map(({ id }) => id) }, 'listening');
  if (!core.controlEnabled) return http;
  try {
    await openControlSocket(http, core, log);
  } catch (error) {
    await http.close();
    throw error;
  }
  return http;
}
