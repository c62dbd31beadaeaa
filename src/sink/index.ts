/** All that a sink author imports, as `metrics-fanout/sink`: the contract, and the code that sinks share. */

export { ZERO_THRESHOLD } from '../aggregate/buckets.ts';
export type { Field, MetricType, Point, PointValues, Series } from '../aggregate/point.ts';
export { ALL_FIELDS, FIELDS, METRIC_TYPES } from '../aggregate/point.ts';
export { makeSeries, storedSeries } from '../aggregate/series.ts';
export type { SketchBucket, SketchParts } from '../aggregate/sketch-text.ts';
export { readSketchText, wholeCounts } from '../aggregate/sketch-text.ts';
export { errorText } from '../base/error-text.ts';
export { makeAgent, makeAgents } from '../base/http-agent.ts';
export { setting } from '../settings/builders.ts';
export type { Settings, Values } from '../settings/setting.ts';
export type { AwsVerdict } from './aws.ts';
export { awsErrorName, awsVerdict, resending } from './aws.ts';
export type {
  BusHeaders,
  BusMessage,
  BusReading,
  BusStream,
  PublishOutcome,
  SinkBus,
  StoredMessage,
} from './bus-port.ts';
export type {
  AnswerRow,
  Batch,
  Query,
  QueryRow,
  Question,
  ReadBack,
  ReceiptBefore,
  RefuseReason,
  Rejection,
  RejectReason,
  RetryReason,
  Sink,
  SinkContext,
  SinkLimits,
  SinkLog,
  SinkModule,
  StoredPoint,
  TrialTables,
  Unidentified,
  WindowRange,
  WriteOutcome,
} from './contract.ts';
export {
  alreadyThere,
  defineSink,
  isAsKnown,
  isRefusal,
  limitsOf,
  mustBeOfTrial,
  notClaimed,
  REFUSE_REASONS,
  REJECT_REASONS,
  RETRY_REASONS,
  readBackOf,
  removesOf,
  SinkError,
  SKETCH_MEANS,
  TRIAL_MARK,
  TRIAL_PREFIX,
  withAdvice,
} from './contract.ts';
export type { HttpAnswer, HttpRequest } from './http.ts';
export {
  HttpServer,
  isUntrusted,
  oneLine,
  onLiveConnection,
  retryAfter,
  TRUST_ADVICE,
  transportFailure,
  verdictOfStatus,
} from './http.ts';
export {
  escapeKey,
  escapeName,
  escapeValue,
  floatText,
  INSTANCE_TAG,
  TYPE_TAG,
  unescapeText,
} from './line-text.ts';
export { type MakingContext, makeMissing } from './making.ts';
export { loadSqlite } from './node-sqlite.ts';
export type { IndexedPoint, Unfit, Verdict } from './partial-writes.ts';
export {
  blame,
  blameOnce,
  errorOf,
  fitting,
  halves,
  outcomeOf,
  RefusedSeries,
  RememberedSeries,
  writeInParts,
} from './partial-writes.ts';
export type { PgAddress, PgCredentials } from './pg/address.ts';
export {
  CA_FILE_MEANS,
  PG_TABLE,
  parsePgTable,
  pgEndpoint,
  pgTlsProblems,
  SSL_MODES_MEAN,
} from './pg/address.ts';
export { columnArrays, selectArrays } from './pg/arrays.ts';
export type { WordedVerdict } from './pg/classify.ts';
export {
  classifyPg,
  isAboutData,
  lacksPartition,
  MISCOUNTED,
  pgMessage,
  pgRejectReason,
  sqlState,
} from './pg/classify.ts';
export type { PgQuery, PgResult, PgRow, PgSignIn } from './pg/connection.ts';
export { PgConnection, PgConnections } from './pg/connection.ts';
export { copyRows } from './pg/copy.ts';
export { type IdentityOptions, pgIdentity } from './pg/identity.ts';
export { loadPg } from './pg/load.ts';
export { pgGiveReceipt, pgReceipt } from './pg/receipts.ts';
export type { PgServer, RowKey } from './pg/sql.ts';
export {
  begin,
  beginReading,
  describeTable,
  fromTimestamp,
  isPgText,
  isSameKey,
  keyOfRow,
  MAX_TIME_MS,
  MIN_TIME_MS,
  PG_TYPES,
  pgAnswer,
  pgLiteral,
  pgQuery,
  pgQueryRows,
  pgQuestion,
  pointOfRow,
  quotedTable,
  statementTimeout,
  timestamp,
  transaction,
  within,
} from './pg/sql.ts';
export { WriteOrder } from './pg/write-order.ts';
export type { Price, PriceModel, Usage } from './price.ts';
export { definePrice, instancePrice, priceSetting, SECONDS_PER_MONTH, storagePrice } from './price.ts';
export {
  addUp,
  columnValues,
  dimensionIn,
  POINT_BYTES,
  pointBytes,
  seriesDimension,
  storedSketch,
  unfitNumber,
} from './rows.ts';
