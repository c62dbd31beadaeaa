/** For every alert, what it must fire on and what not, in promtool's notation: one value per minute. */

export type Series = Readonly<Record<string, string>>;

export interface AlertCase {
  /** Fires at the minute `at`, with these labels besides job, instance and severity. */
  readonly fires: Series;
  readonly at: number;
  readonly labels: Readonly<Record<string, string>>;
  /** Fires on this too. */
  readonly also?: { readonly fires: Series; readonly at: number };
  /** The alert is an aggregation: it has job and instance only if they are in `labels`. */
  readonly isAggregated?: true;
  /** With any one of these, the alert never fires. */
  readonly quiet: readonly Series[];
}

const sink = 'store';
const SINK = '{sink="store"}';
const ATTACHED = '0x120';

const behind = (otherwise: Series): Series => ({
  [`fanout_sink_lag_seconds${SINK}`]: '140x60',
  [`fanout_sink_window_seconds${SINK}`]: '10x60',
  [`fanout_sink_paused${SINK}`]: '0x60',
  fanout_window_seconds: '10x60',
  fanout_lateness_seconds: '2x60',
  fanout_detached: ATTACHED,
  ...otherwise,
});

export const ALERTS: Readonly<Record<string, AlertCase>> = {
  FanoutDown: {
    fires: { up: '1x9 0x30' },
    at: 16,
    labels: {},
    quiet: [{ up: '1x60' }, { up: '1x9 0x3 1x60' }, { 'up{job="other"}': '0x60' }],
  },
  FanoutAbsent: {
    fires: { 'up{job="other"}': '1x60' },
    at: 11,
    labels: { job: 'metrics-fanout' },
    isAggregated: true,
    quiet: [{ up: '0x60' }],
  },
  FanoutSliceMissing: {
    fires: {
      'fanout_slices{pipeline="p",slice="0"}': '3x60',
      'fanout_slices{pipeline="p",slice="1",instance="b"}': '3x60',
    },
    at: 6,
    labels: { pipeline: 'p' },
    isAggregated: true,
    quiet: [
      {
        'fanout_slices{pipeline="p",slice="0"}': '2x60',
        'fanout_slices{pipeline="p",slice="1",instance="b"}': '2x60',
        // A standby is not another slice.
        'fanout_slices{pipeline="p",slice="1",instance="c"}': '2x60',
        'fanout_slices{pipeline="q",slice="0",instance="d"}': '1x60',
      },
    ],
  },
  FanoutRestarting: {
    fires: { process_start_time_seconds: '0+60x40' },
    at: 10,
    labels: {},
    quiet: [{ process_start_time_seconds: '0x10 600x10 1200x10 1800x60' }],
  },
  FanoutSettingsRefused: {
    fires: {
      'kube_pod_container_status_last_terminated_exitcode{job="ksm",namespace="n",pod="a-3",container="metrics-fanout"}':
        '78x60',
    },
    at: 3,
    labels: { job: 'ksm', namespace: 'n', pod: 'a-3', container: 'metrics-fanout' },
    quiet: [
      {
        'kube_pod_container_status_last_terminated_exitcode{pod="a-3",container="metrics-fanout"}': '1x60',
        'kube_pod_container_status_last_terminated_exitcode{pod="b-0",container="other"}': '78x60',
      },
      // It was put right, and the container started again.
      {
        'kube_pod_container_status_last_terminated_exitcode{namespace="n",pod="b-3",container="metrics-fanout"}':
          '78x60',
        'kube_pod_container_status_ready{namespace="n",pod="b-3",container="metrics-fanout"}': '1x60',
      },
    ],
  },
  FanoutBusDisconnected: {
    fires: { fanout_bus_connected: '1x9 0x30', fanout_detached: ATTACHED },
    at: 13,
    labels: {},
    quiet: [
      { fanout_bus_connected: '1x9 0x1 1x60', fanout_detached: ATTACHED },
      { fanout_bus_connected: '0x60', fanout_detached: '1x60' },
    ],
  },
  FanoutDetached: {
    fires: { fanout_detached: '1x60' },
    at: 31,
    labels: {},
    quiet: [{ fanout_detached: '1x20 0x60' }],
  },
  FanoutNoMessages: {
    fires: {
      fanout_messages_received_total: '100x60',
      fanout_bus_connected: '1x60',
      fanout_detached: ATTACHED,
    },
    at: 25,
    labels: {},
    quiet: [
      { fanout_messages_received_total: '0+1x60', fanout_bus_connected: '1x60', fanout_detached: ATTACHED },
      { fanout_messages_received_total: '100x60', fanout_bus_connected: '0x60', fanout_detached: ATTACHED },
    ],
  },
  FanoutSourceBehind: {
    fires: { fanout_source_lag_seconds: '300x60' },
    at: 11,
    labels: {},
    quiet: [{ fanout_source_lag_seconds: '300x5 0x60' }, { fanout_source_lag_seconds: '50x60' }],
  },
  FanoutGap: {
    fires: { fanout_source_gaps_total: '0x20 1x60' },
    at: 22,
    labels: {},
    quiet: [{ fanout_source_gaps_total: '0x60' }],
  },
  FanoutStreamChanged: {
    fires: { fanout_source_misfits_total: '0x20 1x60' },
    at: 22,
    labels: {},
    quiet: [{ fanout_source_misfits_total: '0x60' }],
  },
  FanoutMessagesLeftOut: {
    fires: { fanout_source_left_out_messages_total: '0x20 3x60' },
    at: 22,
    labels: {},
    quiet: [{ fanout_source_left_out_messages_total: '0x60' }],
  },
  FanoutMessagesUnstored: {
    fires: { fanout_bus_unstored_messages_total: '0x20 7x60' },
    at: 22,
    labels: {},
    quiet: [{ fanout_bus_unstored_messages_total: '0x60' }],
  },
  FanoutRollback: {
    fires: { fanout_source_rollbacks_total: '0x20 1x60' },
    at: 22,
    labels: {},
    quiet: [{ fanout_source_rollbacks_total: '0x60' }],
  },
  FanoutStrayRows: {
    fires: { 'fanout_sink_stray_windows_total{sink="otlp",result="left"}': '0x20 3x60' },
    at: 22,
    labels: { sink: 'otlp', result: 'left' },
    quiet: [
      {
        'fanout_sink_stray_windows_total{sink="sqlite",result="left"}': '0x60',
        'fanout_sink_stray_windows_total{sink="sqlite",result="removed"}': '0x20 3x60',
      },
    ],
  },
  FanoutMessagesRejected: {
    fires: {
      fanout_messages_received_total: '0+1000x60',
      'fanout_messages_rejected_total{reason="bad_json"}': '0+6x60',
      'fanout_samples_rejected_total{reason="bad_value"}': '0+6x60',
    },
    at: 21,
    labels: {},
    quiet: [
      {
        fanout_messages_received_total: '0+1000x60',
        'fanout_messages_rejected_total{reason="bad_json"}': '0+5x60',
        'fanout_samples_rejected_total{reason="bad_value"}': '0x60',
      },
    ],
  },
  FanoutSamplesLate: {
    // One of four slices: what it does not put into a window itself, it does not count as late.
    fires: {
      'fanout_samples_total{type="counter"}': '0+3900x60',
      'fanout_samples_total{type="gauge"}': '0+100x60',
      fanout_samples_foreign_total: '0+3000x60',
      fanout_samples_late_total: '0+60x60',
      fanout_samples_ahead_total: '0x60',
    },
    at: 26,
    labels: {},
    quiet: [
      {
        'fanout_samples_total{type="counter"}': '0+900x60',
        'fanout_samples_total{type="gauge"}': '0+100x60',
        fanout_samples_foreign_total: '0x60',
        fanout_samples_late_total: '0+20x60',
        fanout_samples_ahead_total: '0+20x60',
      },
    ],
  },
  FanoutSeriesNearLimit: {
    fires: { fanout_series: '850x60', fanout_series_limit: '1000x60' },
    at: 16,
    labels: {},
    quiet: [
      { fanout_series: '750x60', fanout_series_limit: '1000x60' },
      {
        fanout_series: '750x60',
        fanout_series_limit: '1000x60',
        fanout_series_bytes: '750x60',
        fanout_series_bytes_limit: '1000x60',
      },
    ],
  },
  FanoutSeriesOverflowed: {
    fires: { fanout_samples_overflowed_total: '0x20 5x60' },
    at: 22,
    labels: {},
    quiet: [{ fanout_samples_overflowed_total: '0x60' }],
  },
  FanoutNameExploded: {
    fires: { 'fanout_samples_folded_total{name="http.requests",key="user"}': '0x20 5x60' },
    at: 22,
    labels: { name: 'http.requests', key: 'user' },
    quiet: [{ 'fanout_samples_folded_total{name="http.requests",key="user"}': '0x60' }],
  },
  FanoutTimersCoarse: {
    fires: { fanout_samples_coarse_total: '0x20 5x60' },
    at: 22,
    labels: {},
    quiet: [{ fanout_samples_coarse_total: '0x60' }],
  },
  FanoutSinkDown: {
    fires: {
      [`fanout_sink_up${SINK}`]: '0x60',
      [`fanout_sink_paused${SINK}`]: '0x60',
      fanout_detached: ATTACHED,
    },
    at: 6,
    labels: { sink },
    quiet: [
      {
        [`fanout_sink_up${SINK}`]: '0x60',
        [`fanout_sink_paused${SINK}`]: '1x60',
        fanout_detached: ATTACHED,
      },
      {
        [`fanout_sink_up${SINK}`]: '0x3 1x60',
        [`fanout_sink_paused${SINK}`]: '0x60',
        fanout_detached: ATTACHED,
      },
      // The state when the instance was detached: nobody has asked the store since.
      {
        [`fanout_sink_up${SINK}`]: '0x60',
        [`fanout_sink_paused${SINK}`]: '0x60',
        fanout_detached: '1x60',
      },
    ],
  },
  FanoutSinkRefused: {
    fires: { 'fanout_sink_retries_total{sink="store",reason="unauthorized"}': '0+2x60' },
    at: 8,
    labels: { sink, reason: 'unauthorized' },
    quiet: [{ 'fanout_sink_retries_total{sink="store",reason="timeout"}': '0+2x60' }],
  },
  FanoutSinkBehind: {
    fires: behind({}),
    at: 11,
    labels: { sink },
    quiet: [
      behind({ fanout_window_seconds: '60x60' }),
      behind({ fanout_lateness_seconds: '30x60' }),
      // Windows of its own, longer than those of the pipeline.
      behind({ [`fanout_sink_window_seconds${SINK}`]: '60x60' }),
      behind({ [`fanout_sink_paused${SINK}`]: '1x60' }),
      // The lag of a detached instance grows, even if another one does its work.
      behind({ fanout_detached: '1x60' }),
    ],
  },
  FanoutSinkLosesWindows: {
    fires: { [`fanout_sink_lag_seconds${SINK}`]: '70000+60x60', fanout_source_keeps_seconds: '86400x60' },
    at: 4,
    labels: { sink },
    quiet: [
      { [`fanout_sink_lag_seconds${SINK}`]: '60000x60', fanout_source_keeps_seconds: '86400x60' },
      // A new sink, filled from the start of the stream.
      { [`fanout_sink_lag_seconds${SINK}`]: '86000-300x60', fanout_source_keeps_seconds: '86400x60' },
      // The stream has no time limit.
      { [`fanout_sink_lag_seconds${SINK}`]: '70000x60' },
    ],
  },
  FanoutSinkPaused: {
    fires: { [`fanout_sink_paused${SINK}`]: '1x120' },
    at: 61,
    labels: { sink },
    quiet: [{ [`fanout_sink_paused${SINK}`]: '1x50 0x60' }],
  },
  FanoutSinkCatchUpStalled: {
    fires: {
      [`fanout_sink_catching_up${SINK}`]: '1x60',
      [`fanout_sink_catch_up_windows${SINK}`]: '500+1x60',
    },
    at: 31,
    labels: { sink },
    quiet: [
      {
        [`fanout_sink_catching_up${SINK}`]: '1x60',
        [`fanout_sink_catch_up_windows${SINK}`]: '500-5x60',
      },
      {
        [`fanout_sink_catching_up${SINK}`]: '1x5 0x5 1x5 0x50',
        [`fanout_sink_catch_up_windows${SINK}`]: '5x60',
      },
    ],
  },
  FanoutSinkBacklogFull: {
    fires: {
      [`fanout_sink_backlog_bytes${SINK}`]: '95x60',
      [`fanout_sink_backlog_limit_bytes${SINK}`]: '100x60',
    },
    at: 11,
    labels: { sink },
    quiet: [
      { [`fanout_sink_backlog_bytes${SINK}`]: '80x60', [`fanout_sink_backlog_limit_bytes${SINK}`]: '100x60' },
    ],
  },
  FanoutSinkWritesSlow: {
    fires: {
      'fanout_sink_write_duration_seconds_bucket{sink="store",le="5"}': '0+8x60',
      'fanout_sink_write_duration_seconds_bucket{sink="store",le="10"}': '0+10x60',
      'fanout_sink_write_duration_seconds_bucket{sink="store",le="+Inf"}': '0+10x60',
    },
    at: 20,
    labels: { sink },
    quiet: [
      {
        'fanout_sink_write_duration_seconds_bucket{sink="store",le="5"}': '0+95x60',
        'fanout_sink_write_duration_seconds_bucket{sink="store",le="10"}': '0+100x60',
        'fanout_sink_write_duration_seconds_bucket{sink="store",le="+Inf"}': '0+100x60',
      },
    ],
  },
  FanoutPointsRejected: {
    fires: { 'fanout_sink_points_rejected_total{sink="store",reason="too_large"}': '_x20 4x60' },
    at: 22,
    labels: { sink, reason: 'too_large' },
    quiet: [{ 'fanout_sink_points_rejected_total{sink="store",reason="too_large"}': '0x60' }],
  },
  FanoutPointsDropped: {
    fires: { [`fanout_sink_points_dropped_total${SINK}`]: '0x20 5x60' },
    at: 22,
    labels: { sink },
    quiet: [{ [`fanout_sink_points_dropped_total${SINK}`]: '0x60' }],
  },
  FanoutCheckpointsFail: {
    fires: { [`fanout_sink_checkpoint_failures_total${SINK}`]: '0+1x60' },
    at: 16,
    labels: { sink },
    quiet: [{ [`fanout_sink_checkpoint_failures_total${SINK}`]: '0x20 2x60' }],
  },
  FanoutReceiptsFail: {
    fires: { [`fanout_sink_receipt_failures_total${SINK}`]: '0+1x60' },
    at: 16,
    // Windows of 20 minutes.
    also: {
      fires: {
        [`fanout_sink_receipt_failures_total${SINK}`]: Array.from({ length: 10 }, (_, i) => `${i}x19`).join(
          ' ',
        ),
      },
      at: 190,
    },
    labels: { sink },
    quiet: [{ [`fanout_sink_receipt_failures_total${SINK}`]: '0x20 2x60' }],
  },
  FanoutVerifyDifferent: {
    fires: { 'fanout_sink_windows_verified_total{sink="store",result="different"}': '0x20 1x60' },
    at: 22,
    labels: { sink, result: 'different' },
    quiet: [
      {
        'fanout_sink_windows_verified_total{sink="store",result="different"}': '0x60',
        'fanout_sink_windows_verified_total{sink="store",result="unknown"}': '0+1x60',
      },
    ],
  },
  FanoutMemoryNearLimit: {
    fires: { process_resident_memory_bytes: '95x60', fanout_memory_limit_bytes: '100x60' },
    at: 11,
    labels: {},
    quiet: [{ process_resident_memory_bytes: '85x60', fanout_memory_limit_bytes: '100x60' }],
  },
  FanoutEventLoopSlow: {
    fires: { nodejs_eventloop_lag_p99_seconds: '0.8x60' },
    at: 11,
    labels: {},
    quiet: [{ nodejs_eventloop_lag_p99_seconds: '0.8x5 0.02x60' }],
  },
};
