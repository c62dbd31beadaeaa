/** What a message may hold. Whatever is over a limit is rejected with a reason of its own, never cut. */

/** The server's own default (`max_payload`). A setting may raise it with the server's. */
export const MAX_MESSAGE_BYTES = 1024 * 1024;

/** Redshift's column `name` is a varchar(512), which counts bytes. UTF-8, unescaped, as are those below. */
export const MAX_NAME_BYTES = 512;

/** Several times what producers use (about ten). With the limits below, it bounds the work for one new series. */
export const MAX_DIMENSIONS = 64;

/** Keys are identifiers, if dotted ones: a longer one is data in the wrong place. */
export const MAX_DIMENSION_KEY_BYTES = 256;

/** Room for URLs and error texts, which do end up in dimensions; a sixteenth of what InfluxDB takes for a tag. */
export const MAX_DIMENSION_VALUE_BYTES = 4096;

/**
 * Of the name and the canonical JSON of the dimensions together. InfluxDB refuses series keys over 64 KiB, and escaping
 * may double the length; Redshift's column `dimensions` takes 65,535 bytes.
 */
export const MAX_IDENTITY_BYTES = 32 * 1024;

/** Arrays and objects within each other, in any field. A sample needs 3; a bit set of nesting fits in one integer. */
export const MAX_DEPTH = 32;

/**
 * A line of line protocol says its tags once for all of its fields, but every field is a series with all of the tags:
 * together these may be so many times as long as the line, or a small message could fill the memory. Lines of 400
 * fields with 300 bytes of tags come to about 12.
 */
export const MAX_LINE_SPREAD = 64;
