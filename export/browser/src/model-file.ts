/** A .tflite of speechrnn: a flatbuffer, and behind it a zip that says what it is. */

export const FORMAT = 'speechrnn-tflite';
export const FORMAT_VERSION = 1;

/** `speechrnn.json`, as far as a client needs it; export/README.md has all of it. */
export interface About {
  format: string;
  format_version: number;
  model_bytes: number;
  model_sha256: string;
  labels: string[];
  signature: string;
  quantization: string;
  min_samples: number;
  features: { sample_rate_hz: number };
  output: { name: 'probabilities' | 'log_probs' };
  head: { symbols?: 'words' | 'characters' };
  steps?: { first_s: number; step_s: number };
  decision?: {
    threshold: number;
    symbol_cost?: number;
    utterance_confidence?: [number, number];
    word_confidence?: [number, number];
    word_edges?: [number, number];
  };
  streaming?: {
    signature: string;
    chunk: number;
    context: number;
    steps: number;
    frames: number;
    first_step: number;
    pooled: number;
    states: number[][];
  };
  /** Between which lengths in s nine of ten recordings lay that it learnt from. */
  training?: { clip_s?: unknown };
  selftest?: { samples: number; probabilities: number[] | number[][]; tolerance: number };
  licence?: string;
  attribution?: string;
}

export interface ModelFile {
  name: string;
  /** The flatbuffer, verified. */
  model: Uint8Array;
  about: About;
}

// As speechrnn/decoding/detect.py has them: the most seconds from one window to the next, the fewest windows
// that overlap, and what a file may say of the longest recordings that it learnt from.
const [MOST_HOP_S, OVERLAPPING, MOST_CLIP_S] = [0.2, 5, 10];

/** How windows lie: each as long as the longest recordings that the model learnt from. */
export interface WindowConfig {
  windowS: number;
  hopS: number;
}

export function windowsOf(about: About): WindowConfig {
  const clip = about.training?.clip_s;
  const numbers = Array.isArray(clip) && clip.length === 2 && clip.every((length) => typeof length === 'number');
  const [low, high] = numbers ? clip : [1, 1];
  const windowS = 0 < low && low <= high && high <= MOST_CLIP_S ? high : 1;
  return { windowS, hopS: Math.min(MOST_HOP_S, windowS / OVERLAPPING) };
}

/** One line for the person: what, got, expected, remedy. */
export class ModelFileError extends Error {}

/** Reads a file and checks that it is ours, whole, and of a format that this page knows. */
export async function readModelFile(name: string, content: Uint8Array<ArrayBuffer>): Promise<ModelFile> {
  if (new TextDecoder('latin1').decode(content.subarray(4, 8)) !== 'TFL3') {
    throw new ModelFileError(`${name}: is no TFLite model; expected a .tflite from speechrnn export`);
  }
  const entry = zipEntry(content, 'speechrnn.json');
  if (!entry) {
    throw new ModelFileError(
      `${name}: carries no metadata of speechrnn; it was cut short, or another program made it; ` +
        'expected a .tflite from speechrnn export',
    );
  }
  let about: About;
  try {
    about = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(entry));
  } catch {
    throw new ModelFileError(`${name}: what it says about itself is damaged; export it again`);
  }
  if (about?.format !== FORMAT) {
    throw new ModelFileError(`${name}: is a TFLite model of another program; expected one of speechrnn`);
  }
  if (about.format_version !== FORMAT_VERSION) {
    throw new ModelFileError(
      `${name}: file format ${about.format_version}, this page reads ${FORMAT_VERSION}; ` +
        'get a newer page, or export the model again',
    );
  }
  const model = content.slice(0, about.model_bytes);
  if ((await sha256(model)) !== about.model_sha256 || !isComplete(about)) {
    throw new ModelFileError(`${name}: was changed after it was exported; export it again`);
  }
  if (about.output.name === 'log_probs' && !about.streaming) {
    throw new ModelFileError(
      `${name}: answers with sequences, whose length LiteRT.js cannot know beforehand; ` +
        'export it with --streaming',
    );
  }
  return { name, model, about };
}

function isComplete(about: About): boolean {
  const known = about.output?.name === 'probabilities' || about.output?.name === 'log_probs';
  return known && about.labels?.length > 0 && about.features?.sample_rate_hz > 0 && about.min_samples > 0;
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  if (!globalThis.crypto?.subtle) {
    throw new ModelFileError('this address is not secure, so nothing can be verified; open it by https or localhost');
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The bytes of an entry that is stored as it is; undefined where there is none. */
export function zipEntry(content: Uint8Array, name: string): Uint8Array | undefined {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  let end = content.length - 22; // of the end record, behind which may stand a comment
  while (end >= 0 && end > content.length - 22 - 0x10000 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) return undefined;
  const [count, size, offset] = [view.getUint16(end + 10, true), view.getUint32(end + 12, true), view.getUint32(end + 16, true)];
  const moved = end - size - offset; // other than 0 where the archive was appended as it was
  let place = end - size;
  for (let number = 0; number < count; number++) {
    if (place < 0 || place + 46 > end || view.getUint32(place, true) !== 0x02014b50) return undefined;
    const [method, bytes] = [view.getUint16(place + 10, true), view.getUint32(place + 24, true)];
    const nameBytes = view.getUint16(place + 28, true);
    const found = new TextDecoder().decode(content.subarray(place + 46, place + 46 + nameBytes));
    if (found === name) {
      const local = view.getUint32(place + 42, true) + moved;
      if (method !== 0 || local < 0 || local + 30 > end) return undefined;
      const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      return start + bytes <= end ? content.subarray(start, start + bytes) : undefined;
    }
    place += 46 + nameBytes + view.getUint16(place + 30, true) + view.getUint16(place + 32, true);
  }
  return undefined;
}
