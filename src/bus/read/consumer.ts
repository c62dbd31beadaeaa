/** The consumers of ours: ephemeral, in memory, without acknowledgements. */
import { AckPolicy, type ConsumerConfig, type ConsumerInfo, nanos } from 'nats';
import type { Bus } from '../connect.ts';
import { apiSubject } from '../jetstream-api.ts';
import { manager, type StreamFacts } from '../stream.ts';

/** The server removes a consumer of ours after this long without requests. */
const INACTIVE_THRESHOLD_MS = 300_000;

/** `deliver`: where it begins. */
export async function addConsumer(
  bus: Pick<Bus, 'connection' | 'apiPrefix'>,
  { name, maxConsumerIdleMs = INACTIVE_THRESHOLD_MS }: Pick<StreamFacts, 'name' | 'maxConsumerIdleMs'>,
  deliver: Partial<ConsumerConfig>,
): Promise<ConsumerInfo> {
  return await (await manager(bus)).consumers.add(name, {
    ...deliver,
    ack_policy: AckPolicy.None,
    mem_storage: true,
    num_replicas: 1,
    inactive_threshold: nanos(Math.min(INACTIVE_THRESHOLD_MS, maxConsumerIdleMs)),
  });
}

/** Nobody waits for the answer: a consumer left behind ends by inactivity. */
export function deleteConsumer(bus: Bus, stream: string, name: string): void {
  bus.publish(apiSubject(bus, 'CONSUMER.DELETE', stream, name), '');
}
