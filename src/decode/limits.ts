/** Limits of a message. Anything over a limit is rejected with a reason of its own, never cut. */

/** The NATS server's default `max_payload`. A setting can raise it along with the server's. */
export const MAX_MESSAGE_BYTES = 1024 * 1024;

/**
 * Redshift's column `name` is a varchar(512), which counts bytes. This limit and those below count UTF-8 without
 * escapes.
 */
export const MAX_NAME_BYTES = 512;

/** Several times what producers use (about ten). With the limits below, it bounds the work for a new series. */
export const MAX_DIMENSIONS = 64;

/**
 * How many keys one object of dimensions, or one line's tags, may spell, with those that come to nothing because their
 * value is empty. Also how many fields an object may have that are none of ours. Each is kept until the end, to find
 * duplicates, so without these limits one object of a megabyte took a third of a second.
 */
export const MAX_SPELLED_KEYS = 1024;

/**
 * How long the name and the dimensions of a sample may be as the message spells them, all together. With an escape of
 * six bytes for each byte, MAX_IDENTITY_BYTES come to 192 KiB.
 */
export const MAX_SPELLED_BYTES = 256 * 1024;

/** Keys are identifiers, perhaps dotted: a longer key is data in the wrong place. */
export const MAX_DIMENSION_KEY_BYTES = 256;

/** Enough for URLs and error texts, which do end up in dimensions. A sixteenth of what InfluxDB accepts for a tag. */
export const MAX_DIMENSION_VALUE_BYTES = 4096;

/**
 * Limits the name and the canonical JSON of the dimensions together. InfluxDB refuses series keys over 64 KiB, and
 * escaping may double the length. Redshift's column `dimensions` holds 65,535 bytes.
 */
export const MAX_IDENTITY_BYTES = 32 * 1024;

/** How deeply arrays and objects may nest, in any field. A sample needs 3. At 32, one integer holds a bit per level. */
export const MAX_DEPTH = 32;

/**
 * OTLP as JSON: at least so many bytes for each object and array. The points of SDKs take 15 and more. A message of
 * empty objects would take several times as long as its bytes are worth.
 */
export const MIN_BYTES_PER_OBJECT = 8;

/**
 * A line of line protocol spells its tags once for all of its fields, but every field is a series with all of the tags.
 * Spelled out, these may be at most this many times as long as the line; otherwise a small message could fill the
 * memory. A line of 400 fields with 300 bytes of tags comes to about 12.
 */
export const MAX_LINE_SPREAD = 64;
