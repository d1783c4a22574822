/** A file with sound -> mono samples at the model's rate. */

export class RecordingError extends Error {}

// Beyond, what the browser decodes at once does not fit into a phone's memory.
const LONGEST_S = 45 * 60;
const MOST_BYTES = 1024 * 1024 * 1024;
const HEAD_BYTES = 4096;

export interface Recording {
  name: string;
  samples: Float32Array;
}

/** The recording, decoded and resampled by the browser. Raises: RecordingError, a line for the person. */
export async function readRecording(file: File, rateHz: number, minSamples: number): Promise<Recording> {
  const { name } = file;
  if (!file.size) throw new RecordingError(`${name}: is empty; expected a recording`);
  const plain = readWav(await file.slice(0, HEAD_BYTES).arrayBuffer(), rateHz, file.size);
  const durationS = plain ? (plain.behind - plain.first) / 2 / rateHz : await probe(file);
  if (durationS > LONGEST_S || file.size > MOST_BYTES) {
    const long = durationS > LONGEST_S ? `${Math.round(durationS / 60)} minutes` : `${Math.round(file.size / 1e6)} MB`;
    throw new RecordingError(
      `${name}: ${long}, this page takes up to ${LONGEST_S / 60} minutes; cut it, or use speechrnn transcribe`,
    );
  }
  const samples = plain
    ? fromIntegers(await file.slice(plain.first, plain.behind).arrayBuffer())
    : averaged(await decoded(file, rateHz));
  if (samples.length < minSamples) {
    throw new RecordingError(`${name}: ${samples.length} samples are too short; the model answers from ${minSamples} on`);
  }
  return { name, samples };
}

/** Decoding brings the sound to the rate of the context. */
async function decoded(file: File, rateHz: number): Promise<AudioBuffer> {
  try {
    return await new OfflineAudioContext(1, 1, rateHz).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new RecordingError(
      `${file.name}: is no sound that this browser can read; expected WAV, FLAC, MP3, Ogg or M4A`,
    );
  }
}

/**
 * Where the samples of a WAV file lie that needs no conversion: 16-bit, mono, at the model's rate.
 *
 * Browsers differ in how they scale integers, Chromium by 32767 above 0 and by 32768 below; these
 * are as speechrnn reads them.
 */
function readWav(head: ArrayBuffer, rateHz: number, size: number): { first: number; behind: number } | undefined {
  const view = new DataView(head);
  const name = (place: number) => String.fromCharCode(...new Uint8Array(head, place, 4));
  if (head.byteLength < 44 || name(0) !== 'RIFF' || name(8) !== 'WAVE') return undefined;
  let fits = false;
  for (let place = 12; place + 24 <= head.byteLength; ) {
    const bytes = view.getUint32(place + 4, true);
    const first = place + 8;
    if (name(place) === 'data') return fits ? { first, behind: Math.min(size, first + bytes) } : undefined;
    if (name(place) === 'fmt ') {
      const [kind, channels, bits] = [8, 10, 22].map((offset) => view.getUint16(place + offset, true));
      fits = kind === 1 && channels === 1 && bits === 16 && view.getUint32(place + 12, true) === rateHz;
    }
    place += 8 + bytes + (bytes % 2);
  }
  return undefined;
}

function fromIntegers(bytes: ArrayBuffer): Float32Array {
  const integers = new Int16Array(bytes, 0, bytes.byteLength >> 1); // a file that was cut short ends anywhere
  const samples = new Float32Array(integers.length);
  for (let place = 0; place < samples.length; place++) samples[place] = integers[place]! / 32768;
  return samples;
}

/** Seconds, of what the browser can tell without decoding; else 0. */
async function probe(file: File): Promise<number> {
  const url = URL.createObjectURL(file);
  const player = new Audio();
  try {
    return await new Promise<number>((resolve) => {
      player.onloadedmetadata = () => resolve(Number.isFinite(player.duration) ? player.duration : 0);
      player.onerror = () => resolve(0);
      setTimeout(() => resolve(0), 5000);
      player.preload = 'metadata';
      player.src = url;
    });
  } finally {
    player.removeAttribute('src');
    URL.revokeObjectURL(url);
  }
}

function averaged(sound: AudioBuffer): Float32Array {
  if (sound.numberOfChannels === 1) return sound.getChannelData(0);
  const mean = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    const samples = sound.getChannelData(channel);
    for (let place = 0; place < mean.length; place++) mean[place]! += samples[place]! / sound.numberOfChannels;
  }
  return mean;
}
