/**
 * The SDK of AWS, loaded by the thread that writes: the main thread, which only asks what the sink is, would take 4 MB
 * for it.
 */
import { createRequire } from 'node:module';

type Sdk = typeof import('@aws-sdk/client-dynamodb');

const require = createRequire(import.meta.url);

export function sdk(): Sdk {
  return require('@aws-sdk/client-dynamodb');
}
