/** Puts control together: the controller, its presence on the bus, and HTTP. */
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import { secretsOf } from '../config/config-secrets.ts';
import type { ControlRoute } from '../observe/http-server.ts';
import type { ControlStatus } from '../observe/status.ts';
import { type Controlled, Controller, type ControllerOptions } from './controller.ts';
import { answerControl } from './http-control.ts';
import { Presence } from './presence.ts';
import { MAX_REQUEST_BYTES, OPERATIONS } from './request.ts';

export class ControlPlane {
  readonly #controller: Controller;
  readonly #presence: Presence;
  readonly #instance: string;
  readonly #token: string | undefined;

  constructor(
    config: Config,
    instance: string,
    controlled: Controlled,
    questions: ControllerOptions['questions'],
    clock: Clock,
    log: Log,
  ) {
    const { pipeline, slice, controlToken, controlReplyPrefixes } = config.core;
    const onBus = {
      identity: { instance, pipeline, slice: `${slice.index}/${slice.of}` },
      operations: OPERATIONS,
      replyPrefixes: controlReplyPrefixes,
      handle: (operation: string, request: Uint8Array) => this.#controller.handle(operation, request, 'bus'),
    };
    this.#presence = new Presence(config, onBus, clock, log);
    const secrets = () => secretsOf(config, process.env);
    const options = { config, instance, controlled, questions, onBus: this.#presence, secrets, clock, log };
    this.#controller = new Controller(options);
    this.#instance = instance;
    this.#token = controlToken;
  }

  get status(): ControlStatus {
    const { isOn: onBus, unanswered } = this.#presence;
    return { enabled: true, onBus, tasksRunning: this.#controller.tasksRunning, unanswered };
  }

  /** What answers over HTTP. */
  get route(): ControlRoute {
    const [controller, instance, token] = [this.#controller, this.#instance, this.#token];
    return {
      maxBodyBytes: MAX_REQUEST_BYTES,
      answer: (request, entrance) => answerControl(request, { controller, instance, token, entrance }),
    };
  }

  /** Enters the bus. */
  start(): void {
    this.#presence.enter();
  }

  async stop(): Promise<void> {
    await this.#controller.stop();
    await this.#presence.leave();
  }
}
