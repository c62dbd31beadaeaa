/**
 * A pod whose container is a process of this machine, as a kubelet runs it: variables, files, probes, restarts, preStop
 * and the grace period come from the pod's own spec. It has an address of its own, so that pods may use the same port.
 * Left out: users, memory limits, the read-only file system, more than one container.
 */
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Program, startProgram } from '../../src/servers/fanout-program.ts';
import type { KubernetesObject } from '../helm/chart.ts';
import { type Cluster, processOf } from '../helm/pod.ts';

/** A kubelet waits for 10 seconds after the first end, and longer after each further one. */
const RESTART_MS = 2_000;

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string };
  readonly periodSeconds: number;
  readonly timeoutSeconds: number;
  readonly failureThreshold: number;
}

/** How a process of a pod ended. */
export interface ProcessEnd {
  readonly pod: string;
  readonly uid: string;
  readonly code: number | NodeJS.Signals;
  /** The pod had been deleted. */
  readonly wasAsked: boolean;
  readonly output: string;
}

/** Where pods find what they need: the claims that outlive them, the program that stands for the image. */
export interface Host {
  readonly folder: string;
  readonly main: string;
  ended(end: ProcessEnd): void;
}

export class LocalPod {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly address: string;
  isReady = false;
  readonly #host: Host;
  readonly #object: KubernetesObject;
  readonly #process: { readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> };
  readonly #since = new Date().toISOString();
  readonly #ending = new AbortController();
  /** Resolves when no process of it follows. */
  readonly #over: Promise<void>;
  #ended: Promise<void> | undefined;
  #program: Program | undefined;
  #isStarted = false;
  #restarts = 0;
  #last: number | NodeJS.Signals | undefined;

  constructor(object: KubernetesObject, cluster: Cluster, address: string, host: Host) {
    const {
      name,
      namespace,
      uid,
      labels = {},
    } = object.metadata as typeof object.metadata & {
      namespace: string;
      uid: string;
    };
    this.name = name;
    this.namespace = namespace;
    this.uid = uid;
    this.address = address;
    this.#host = host;
    this.#object = object;
    const folder = join(host.folder, uid.slice(0, 8));
    this.#mountClaims(folder);
    const { args, env } = processOf(object.spec, labels, [], cluster, folder);
    this.#process = { args, env: { ...env, HTTP_HOST: address } };
    this.#over = this.#live();
  }

  get isRunning(): boolean {
    return this.#program !== undefined;
  }

  /** preStop (which is a sleep), SIGTERM, and SIGKILL when the grace period is over. Resolves when it has ended. */
  end(graceSeconds: number): Promise<void> {
    this.#ended ??= this.#end(graceSeconds);
    return this.#ended;
  }

  async #end(graceSeconds: number): Promise<void> {
    this.#ending.abort();
    const killing = setTimeout(() => this.#program?.child.kill('SIGKILL'), graceSeconds * 1000);
    const [, seconds] = this.#container.lifecycle?.preStop?.exec.command ?? [];
    if (this.#program !== undefined && seconds !== undefined) await sleep(Number(seconds) * 1000);
    this.#program?.child.kill('SIGTERM');
    await this.#over;
    clearTimeout(killing);
  }

  /** For the API server. */
  status(): object {
    const { name, image } = this.#container;
    const running = { running: { startedAt: this.#since } };
    const ended = this.#last === undefined ? {} : { terminated: this.#terminated(this.#last) };
    const waits = { waiting: { reason: 'CrashLoopBackOff' } };
    const isOver = this.#runsOnce && this.#last !== undefined;
    const phase = isOver ? (this.#last === 0 ? 'Succeeded' : 'Failed') : 'Running';
    const container = {
      name,
      image,
      imageID: image,
      ready: this.isReady,
      started: this.#isStarted,
      restartCount: this.#restarts,
      state: isOver ? ended : this.isRunning ? running : waits,
      lastState: isOver ? {} : ended,
    };
    const is = (type: string, isTrue: boolean) => ({ type, status: isTrue ? 'True' : 'False' });
    const conditions = [is('PodScheduled', true), is('Initialized', true)];
    conditions.push(is('ContainersReady', this.isReady), is('Ready', this.isReady));
    return { phase, startTime: this.#since, conditions, containerStatuses: [container] };
  }

  // biome-ignore lint/suspicious/noExplicitAny: validated by the API server.
  get #container(): any {
    return this.#object.spec.containers[0];
  }

  get #runsOnce(): boolean {
    return this.#object.spec.restartPolicy === 'Never';
  }

  #terminated(code: number | NodeJS.Signals): object {
    return { exitCode: typeof code === 'number' ? code : 137, reason: code === 0 ? 'Completed' : 'Error' };
  }

  /** The folder of a claim is the same on every node. */
  #mountClaims(folder: string): void {
    for (const { name, persistentVolumeClaim } of this.#object.spec.volumes ?? []) {
      if (persistentVolumeClaim === undefined) continue;
      const claim = join(this.#host.folder, persistentVolumeClaim.claimName);
      mkdirSync(claim, { recursive: true });
      for (const mount of this.#container.volumeMounts) {
        const path = join(folder, mount.mountPath);
        if (mount.name !== name || existsSync(path)) continue;
        mkdirSync(dirname(path), { recursive: true });
        symlinkSync(claim, path);
      }
    }
  }

  async #live(): Promise<void> {
    const { signal } = this.#ending;
    const { args, env } = this.#process;
    while (!signal.aborted) {
      const program = startProgram(args, env, this.#host.main);
      this.#program = program;
      this.#isStarted = false;
      const probing = this.#probe(program);
      this.#last = await program.ended;
      this.#program = undefined;
      this.isReady = false;
      await probing;
      const { stdout, stderr } = program.output;
      const { name: pod, uid } = this;
      this.#host.ended({ pod, uid, code: this.#last, wasAsked: signal.aborted, output: stdout + stderr });
      if (this.#runsOnce) return;
      await sleep(RESTART_MS, undefined, { signal }).catch(() => {});
      this.#restarts += 1;
    }
  }

  async #probe(program: Program): Promise<void> {
    const { startupProbe, livenessProbe, readinessProbe } = this.#container;
    const over = new AbortController();
    void program.ended.then(() => over.abort());
    const kill = () => void program.child.kill('SIGKILL');
    await this.#ask(startupProbe, over.signal, (isWell, isLost) => {
      this.#isStarted = isWell;
      if (isLost && !isWell) kill();
      return isWell;
    });
    const living = this.#ask(livenessProbe, over.signal, (_, isLost) => {
      if (isLost && !this.#ending.signal.aborted) kill();
      return false;
    });
    const reading = this.#ask(readinessProbe, over.signal, (isWell, isLost) => {
      this.isReady = this.isRunning && (isWell || (this.isReady && !isLost));
      return false;
    });
    await Promise.all([living, reading]);
  }

  /** Asks until the process ends or `told` returns true. `isLost`: it has failed as often as its spec allows. */
  async #ask(
    probe: Probe | undefined,
    over: AbortSignal,
    told: (isWell: boolean, isLost: boolean) => boolean,
  ): Promise<void> {
    if (probe === undefined) return;
    const { httpGet, periodSeconds, timeoutSeconds, failureThreshold } = probe;
    const port = this.#container.ports.find(({ name }: { name: string }) => name === httpGet.port);
    const url = `http://${this.address}:${port.containerPort}${httpGet.path}`;
    for (let failures = 0; !over.aborted; ) {
      const signal = AbortSignal.any([over, AbortSignal.timeout(timeoutSeconds * 1000)]);
      const isWell = await fetch(url, { signal }).then(
        (reply) => reply.ok,
        () => false,
      );
      failures = isWell ? 0 : failures + 1;
      if (told(isWell, failures >= failureThreshold)) return;
      await sleep(periodSeconds * 1000, undefined, { signal: over }).catch(() => {});
    }
  }
}
