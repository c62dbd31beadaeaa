/**
 * What a sink that publishes on the bus needs of it. The service implements it, so that such a sink signs in as the
 * service does, over a connection of its own, and knows nothing of the NATS client. Every method that can fail rejects
 * with a `SinkError`.
 */

/** Values are ASCII, without line breaks. */
export type BusHeaders = Readonly<Record<string, string>>;

export interface BusMessage {
  readonly subject: string;
  readonly headers: BusHeaders;
  readonly body: Uint8Array;
}

export type PublishOutcome =
  /** `duplicate`: the stream had a message with the same `Nats-Msg-Id`, and took this one for it. */
  | { readonly kind: 'stored'; readonly sequence: number; readonly duplicate: boolean }
  /** The stream takes no message as large as this one. */
  | { readonly kind: 'too_large'; readonly message: string };

/** A stream that captures a subject, as it was when we looked. Times are in milliseconds since 1970. */
export interface BusStream {
  readonly name: string;
  /** When it was made, as the server writes it. */
  readonly created: string;
  /** Under which subjects it stores what is captured. */
  readonly stored: readonly string[];
  readonly lastSequence: number;
  /** Undefined if it is empty. */
  readonly lastTime: number | undefined;
  /** Undefined if the stream sets no limit. */
  readonly maxMessageBytes: number | undefined;
}

export interface BusReading {
  readonly stream: BusStream;
  /** Where to begin; default: with its first message. */
  readonly from?: { readonly sequence: number } | { readonly time: number } | undefined;
  /** The last sequence that is wanted. */
  readonly to: number;
  readonly headersOnly?: boolean;
}

/** `header` returns '' for a header that is not there. */
export interface StoredMessage {
  readonly sequence: number;
  readonly body: Uint8Array;
  header(name: string): string;
}

export interface SinkBus {
  readonly isClosed: boolean;
  /** The most that the server takes for a message, headers included. */
  readonly maxPayloadBytes: number;
  /** Rejects if the service would read what is published on `subject`, and so feed itself. */
  refuseLoop(subject: string): Promise<void>;
  /** Resolves to the stream that captures all of `subject`. Rejects if there is none that keeps what it captures. */
  streamOf(subject: string): Promise<BusStream>;
  /** Resolves when `stream` has acknowledged the message. */
  publish(message: BusMessage, stream: string): Promise<PublishOutcome>;
  /** Plain NATS, at most once. `flush` resolves when the server has read all that was sent before. */
  send(message: BusMessage): void;
  flush(): Promise<void>;
  /** In the order of the stream. Throws if it cannot show that it has them all. */
  messages(reading: BusReading, signal: AbortSignal): AsyncIterable<StoredMessage>;
  /** Ends what is under way. */
  close(): Promise<void>;
}
