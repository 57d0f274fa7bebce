// The broker counts bytes of UTF-8, strings count units of UTF-16. Engines inside components are slow at loops and have no
// TextDecoder, so what can be left to their own functions is.

/** Engines hand a number over with this bit as a negative one, though the contract's are unsigned. */
const ABSENT = 1 << 31;
const OFFSET = 0x7fffffff;
const ASCII = /[\x00-\x7f]*/y;
/** So many ASCII characters in a row promise more of them. */
const PROMISING = 4;

/** Bytes of a unit; each half of a pair has two of its four. */
const width = (code) => (code < 0x80 ? 1 : code < 0x800 || (code & 0xf800) === 0xd800 ? 2 : 3);

export function byteLength(text) {
  let bytes = 0;
  for (let unit = 0; unit < text.length; unit += 1) bytes += width(text.charCodeAt(unit));
  return bytes;
}

/** Where a run of ASCII ends that goes on at this unit. */
function asciiUpTo(text, unit) {
  ASCII.lastIndex = unit;
  ASCII.test(text);
  return ASCII.lastIndex;
}

/** Turns ends that count bytes into ends that count units, marks kept. */
function toUnits(text, ends) {
  let [unit, byte, seen, ascii] = [0, 0, 0, 0];
  for (let place = 0; place < ends.length; place += 1) {
    const end = ends[place] & OFFSET;
    while (byte < end) {
      if (unit < ascii) {
        const step = Math.min(ascii - unit, end - byte);
        unit += step;
        byte += step;
        continue;
      }
      const bytes = width(text.charCodeAt(unit));
      unit += 1;
      byte += bytes;
      seen = bytes === 1 ? seen + 1 : 0;
      if (seen === PROMISING) {
        ascii = asciiUpTo(text, unit);
        seen = 0;
      }
    }
    ends[place] = (ends[place] & ABSENT) | unit;
  }
}

/** Makes the ends of a batch's texts count as its string does. */
export function align(text, ends) {
  const bytes = ends.length === 0 ? 0 : ends[ends.length - 1] & OFFSET;
  // Of as many units as bytes, all are ASCII.
  if (bytes !== text.length) toUnits(text, ends);
}

/** A body: as it is, as text, as what JSON says it is. */
export class Body {
  #text;
  #json;

  constructor(bytes) {
    this.bytes = bytes;
  }

  /** What is no UTF-8 reads as U+FFFD. */
  get text() {
    this.#text ??= decoded(this.bytes);
    return this.#text;
  }

  /** `undefined` = it is no JSON. */
  get json() {
    if (this.#json === undefined) {
      try {
        this.#json = { value: JSON.parse(this.text) };
      } catch {
        this.#json = {};
      }
    }
    return this.#json.value;
  }
}

const PIECE = 4096;
/** Whole characters, and beginnings of characters that are cut short; each of those is one U+FFFD for everybody. */
const WHOLE =
  /(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}){1,256}|\xe0[\xa0-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]|\xed[\x80-\x9f]|\xf0[\x90-\xbf][\x80-\xbf]?|[\xf1-\xf3][\x80-\xbf]{1,2}|\xf4[\x80-\x8f][\x80-\xbf]?|[\x80-\xff]/g;

const whole = (bytes) => decodeURIComponent(escape(bytes));

/** This place, or the beginning of the character it is within. */
function wholeUpTo(bytes, to) {
  for (let back = 0; back <= 3; back += 1) {
    if ((bytes[to - back] & 0xc0) !== 0x80) return to - back;
  }
  return to;
}

/** Piece by piece: there is not much memory. */
function decoded(bytes) {
  let text = "";
  for (let from = 0; from < bytes.length; ) {
    const to = wholeUpTo(bytes, Math.min(from + PIECE, bytes.length));
    text += piece(String.fromCharCode.apply(null, bytes.subarray(from, to)));
    from = to;
  }
  return text;
}

function piece(bytes) {
  if (asciiUpTo(bytes, 0) === bytes.length) return bytes;
  try {
    return whole(bytes);
  } catch {
    return bytes.replace(WHOLE, (part) => {
      try {
        return whole(part);
      } catch {
        return "\ufffd";
      }
    });
  }
}
