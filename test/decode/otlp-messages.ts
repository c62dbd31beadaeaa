/** OTLP's messages, written by the encoder of OpenTelemetry's own SDK. */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const transformer = require.resolve('@opentelemetry/otlp-transformer');
const { opentelemetry } = require(transformer.replace(/index\.js$/, 'generated/root.js')) as {
  readonly opentelemetry: {
    readonly proto: {
      readonly collector: {
        readonly metrics: {
          readonly v1: {
            readonly ExportMetricsServiceRequest: {
              encode(request: object): { finish(): Uint8Array };
            };
          };
        };
      };
    };
  };
};

const { ExportMetricsServiceRequest } = opentelemetry.proto.collector.metrics.v1;

export function protobuf(request: object): Buffer {
  return Buffer.from(ExportMetricsServiceRequest.encode(request).finish());
}

export const text = (key: string, stringValue: string) => ({ key, value: { stringValue } });

/** A request with these metrics, of a service `shop`. */
export function request(
  metrics: readonly object[],
  attributes: readonly object[] = [text('service.name', 'shop')],
): object {
  return {
    resourceMetrics: [{ resource: { attributes }, scopeMetrics: [{ scope: { name: 'lib' }, metrics }] }],
  };
}
