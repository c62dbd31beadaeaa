/** Streams that let messages go before their limits of age and size say so. */
import type { StreamConfig } from 'nats';

/** Settings that the client does not know yet. */
interface NewerConfig {
  readonly allow_msg_ttl?: boolean;
  readonly subject_delete_marker_ttl?: number;
  readonly persist_mode?: string;
}

/** Returns the settings of a stream by which messages go early, or are not there after a crash. */
export function earlyRemovals(config: Partial<StreamConfig> & NewerConfig): string[] {
  const { max_msgs_per_subject: perSubject = 0, persist_mode: mode = 'default' } = config;
  return [
    // Or else it refuses the newest.
    ...(perSubject > 0 && !config.discard_new_per_subject ? [`max_msgs_per_subject: ${perSubject}`] : []),
    ...(config.allow_msg_ttl ? ['allow_msg_ttl'] : []),
    ...(config.subject_delete_marker_ttl ? ['subject_delete_marker_ttl'] : []),
    ...(config.allow_rollup_hdrs ? ['allow_rollup_hdrs'] : []),
    ...(mode === 'default' ? [] : [`persist_mode: ${mode}`]),
  ];
}

export const EARLY_REMOVAL = {
  message: 'the stream may lose messages by subject, before their age, or in a crash',
  advice:
    'Windows whose messages are gone cannot be computed again: verify calls them unknown, and what was not read yet is a gap. Use a stream without these settings if every message is to count.',
} as const;
