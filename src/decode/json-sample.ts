import type { Sample, Spelling } from '../aggregate/sample.ts';

export const NO_TYPE = -1;

/** The decoder's one sample, with the spelling by which the table finds its series. */
export class JsonSample implements Sample, Spelling {
  view: DataView = new DataView(new ArrayBuffer(0));
  series = -1;
  type = NO_TYPE;
  value = Number.NaN;
  eventTime = Number.NaN;
  nameStart = 0;
  nameLength = 0;
  dimensionsStart = 0;
  dimensionsLength = 0;

  clear(view: DataView): void {
    this.view = view;
    this.series = -1;
    this.type = NO_TYPE;
    this.value = Number.NaN;
    this.eventTime = Number.NaN;
    this.nameStart = 0;
    this.nameLength = 0;
    this.dimensionsStart = 0;
    this.dimensionsLength = 0;
  }
}
