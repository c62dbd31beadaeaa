/**
 * The suite that every sink must pass against its real server, through the interface of src/sink/contract.ts only. A
 * sink's test file calls `describeConformance` with a harness and adds tests of what only its own store has. Authors of
 * sinks outside of this project import it as `metrics-fanout/conformance`; it runs in vitest.
 */
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import { SINKS } from '../sinks/index.ts';
import type { SinkModule } from '../src/sink/contract.ts';
import { describeFaults } from './conformance/faults.ts';
import { describeLifecycle } from './conformance/lifecycle.ts';
import { describeQuestions } from './conformance/questions.ts';
import { describeStorage } from './conformance/storage.ts';
import { type Bench, type Harness, Subject, TEST_MS } from './conformance/subject.ts';
import { describeTrial } from './conformance/trial.ts';
import { FaultProxy } from './faults/proxy.ts';

export type { Harness, Variables } from './conformance/subject.ts';

/** Declares the tests. `load` resolves to the sink's module; by default, the one that the registry has for `kind`. */
export function describeConformance(
  kind: string,
  harness: Harness,
  load: () => Promise<SinkModule> = SINKS[kind]!,
): void {
  describe(`${kind} conforms`, { timeout: TEST_MS }, () => {
    const said: string[] = [];
    const open: Subject[] = [];
    let module: SinkModule;
    let port = 0;
    let proxy: FaultProxy | undefined;
    let namespaces = 0;

    const bench: Bench = {
      harness,
      isTried: () => module.trial !== undefined,
      hasSetting: (key) => Object.hasOwn(module.settings, key),
      namespace() {
        namespaces += 1;
        return `t${namespaces}`;
      },
      async subject({ namespace = bench.namespace(), proxied = false, change, trial } = {}) {
        const through = proxied ? bench.proxy().port : port;
        const variables = await harness.variables(namespace, through);
        const subject = new Subject(module, change ? change(variables) : variables, said, harness, trial);
        open.push(subject);
        return subject;
      },
      proxy() {
        if (proxy === undefined) throw new Error('there is no network between this sink and its store');
        return proxy;
      },
    };

    beforeAll(async () => {
      module = await load();
      port = await harness.start();
      if (!harness.differs?.embedded) proxy = await FaultProxy.start(port);
    }, TEST_MS);

    afterEach(async () => {
      await proxy?.pass();
      await Promise.all(open.splice(0).map((subject) => subject.sink.close()));
      const secrets = harness.secrets ?? [];
      const leaks = said.splice(0).filter((text) => secrets.some((secret) => text.includes(secret)));
      expect(leaks).toEqual([]);
    }, TEST_MS);

    afterAll(async () => {
      await proxy?.stop();
      await harness.stop();
    }, TEST_MS);

    describeLifecycle(bench);
    if (harness.differs?.keepsNothing) return;
    describeStorage(bench);
    if (!harness.differs?.answersNothing) describeQuestions(bench);
    describeTrial(bench);
    describeFaults(bench);
  });
}
