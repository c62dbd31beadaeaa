import otlp from '../../sinks/otlp/sink.ts';
import type { Server } from '../../src/servers/server-process.ts';
import { defineSink, type Sink, type StoredPoint } from '../../src/sink/contract.ts';
import { HttpServer } from '../../src/sink/http.ts';
import { describeConformance, type Harness } from '../conformance.ts';
import { KEY, startReceiver } from './otlp-receiver.ts';

let receiver: Server | undefined;

/** The sink can neither read nor remove. This one can do both, with help from the receiver. */
const readable = defineSink({
  ...otlp,
  create(config, context): Sink {
    const sink = otlp.create(config, context);
    const asking = new HttpServer(config.url as string, {}, 4);
    const { search } = new URL(config.url as string);
    return {
      open: (signal) => sink.open(signal),
      write: (batch, signal) => sink.write(batch, signal),
      async *read({ from, to }, signal) {
        const request = { body: '', maxAnswerBytes: 100_000_000 };
        const { body } = await asking.post(`/read${search}`, request, signal);
        for (const point of JSON.parse(body.toString()) as StoredPoint[]) {
          signal.throwIfAborted();
          if (point.windowStart >= from && point.windowStart < to) yield point;
        }
        signal.throwIfAborted();
      },
      async remove({ points }, signal) {
        const keys = points.map(({ windowStart, series: { id }, instance }) => ({
          windowStart,
          id,
          instance,
        }));
        await asking.post(`/remove${search}`, { body: JSON.stringify(keys) }, signal);
      },
      async close() {
        asking.close();
        await sink.close();
      },
    };
  },
});

const harness: Harness = {
  async start() {
    receiver = await startReceiver();
    return receiver.port;
  },
  async stop() {
    await receiver?.stop();
  },
  variables: (namespace, port) => ({
    URL: `http://127.0.0.1:${port}?namespace=${namespace}`,
    HEADERS: `Api-Key=${KEY},x-other=a%2Cb`,
  }),
  wrongCredentials: (variables) => ({ ...variables, HEADERS: 'api-key=another' }),
  missing: (variables) => ({ ...variables, URL: variables.URL!.replace('?', '/elsewhere?') }),
  secrets: [KEY],
  differs: { answersNothing: true },
};

describeConformance('otlp', harness, async () => readable);
